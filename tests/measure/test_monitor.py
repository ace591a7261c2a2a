"""The experimenter's looks into a repair: they change nothing, cost the repair nothing, and belong to one trigger."""

import dataclasses
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from core_helpers import (
    TINY_DATA,
    clean_model,
    digits,
    listening,
    rest_slow,
    same_state,
    small,
    state_of,
    tiny_spec,
)
from torch import nn

from poisonlab.cache.stage_cache import StageCache, run_stage
from poisonlab.context import Context
from poisonlab.defenses.rnp import RNP
from poisonlab.defenses.shared import surrogate_trigger
from poisonlab.defenses.tsbd import TSBD
from poisonlab.events import ArtifactReady, Metric, SetAside, StageFinished
from poisonlab.measure.monitor import Observer
from poisonlab.models.base import predict
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.records.artifacts import RepairTrace
from poisonlab.runner.recorder import run_and_record
from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.spec.stages import Stage
from poisonlab.types import Backdoor, Bundle

TEST = digits().test
CLEAN = digits().reserve[:20]
FEW_TARGETS = TINY_DATA | {
    "training.epochs": 1,
    "clean_images": 20,
    "victim.width": 8,
    "attack.targets": 2,
    "attack.poisons": 3,
    "attack.steps": 2,
    "defense.epochs": 1,
}


def backdoor(value: int = 255) -> Backdoor:
    def stamp(x: torch.Tensor) -> torch.Tensor:
        out = x.clone()
        out[..., -2:, -2:] = value
        return out

    return Backdoor(stamp, lambda y: torch.zeros_like(y), 0)


def test_a_look_measures_accuracy_and_asr_without_the_target_class() -> None:
    model, threat = clean_model(), backdoor()
    observer = Observer(TEST, threat)

    observer("unlearning", 3, model)
    trace = observer.trace()

    others = TEST[TEST.y != 0]
    assert isinstance(trace, RepairTrace) and trace.phases == ["unlearning"] and trace.step.tolist() == [3]
    assert trace.accuracy.item() == pytest.approx((predict(model, TEST.x) == TEST.y).float().mean().item())
    assert trace.asr.item() == pytest.approx(
        (predict(model, threat.trigger(others.x)) == 0).float().mean().item()
    )


def test_a_look_leaves_modes_statistics_gradients_and_random_state_alone() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.LazyLinear(10)
    ).train()
    model(torch.zeros(2, 1, 16, 16)).sum().backward()
    model[1].eval()  # one part may stand apart
    before, modes = state_of(model), [m.training for m in model.modules()]
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    random = torch.get_rng_state()

    Observer(TEST, backdoor())("recovering", 1, model)

    assert same_state(state_of(model), before) and [m.training for m in model.modules()] == modes
    assert all(
        torch.equal(p.grad, g)
        for p, g in zip(model.parameters(), gradients, strict=True)
        if p.grad is not None
    )
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("method", rest_slow([TSBD, RNP]))
def test_a_watched_repair_ends_as_an_unwatched_one(method: type) -> None:
    ctx, _ = listening()
    observer = Observer(TEST, backdoor())

    plain = small(method).repair(clean_model(), CLEAN, ctx).result
    observed = dataclasses.replace(ctx, observer=observer)
    watched = small(method).repair(clean_model(), CLEAN, observed).result

    if method is RNP:
        assert all(torch.equal(plain.variants[name], value) for name, value in watched.variants.items())
    else:
        assert same_state(plain.state_dict(), watched.state_dict())
    trace = observer.trace()
    assert trace is not None
    second = {RNP: "recovering", TSBD: "fine-tuning"}[method]
    assert trace.phases == ["unlearning", second]
    assert [int(s) for s in trace.step[trace.phase == 0]] == [0, 1, 2]  # unlearn_epochs=2
    assert trace.step[trace.phase == 1][0] == 0 and len(trace.step[trace.phase == 1]) >= 2


def test_the_key_tells_triggers_test_sets_and_labels_apart() -> None:
    other = dataclasses.replace(backdoor(), relabel=lambda y: torch.ones_like(y))
    observers = [
        Observer(TEST, backdoor()),
        Observer(TEST, backdoor(254)),
        Observer(TEST[:50], backdoor()),
        Observer(TEST, other),
    ]

    assert len({o.key() for o in observers}) == len(observers)
    assert Observer(TEST, backdoor()).key() == observers[0].key()


def traces(spec: object, cache: StageCache) -> tuple[list[RepairTrace], list[str]]:
    ctx, heard = listening(cache=cache)
    found = run_experiment(spec, ctx)  # type: ignore[arg-type]
    shown = [e.value for e in heard if isinstance(e, ArtifactReady) and isinstance(e.value, RepairTrace)]
    return shown, found.cached


@pytest.mark.slow
def test_a_cached_repair_shows_its_trace_again_and_another_test_set_is_looked_at_anew(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    few = {"clean_images": 20, "defense__unlearn_epochs": 2, "defense__recover_epochs": 1}
    (first,), _ = traces(tiny_spec("rnp", **few), cache)
    (again,), cached = traces(tiny_spec("rnp", **few), cache)
    (other,), anew = traces(tiny_spec("rnp", **few, dataset__test_images=40), cache)

    assert (
        "repair" in cached
        and torch.equal(first.accuracy, again.accuracy)
        and torch.equal(first.asr, again.asr)
    )
    assert "victim" in anew and "repair" not in anew
    assert (first.images, other.images) == (60, 40)


def test_observing_does_not_count_in_the_seconds_of_the_stage() -> None:
    ctx, heard = listening(observer=lambda phase, step, model: time.sleep(0.2))
    model = clean_model()

    def compute(inner: Context) -> Bundle:
        inner.observe("unlearning", 1, model)
        return Bundle()

    run_stage(ctx, "repair", None, compute)

    (finished,) = [e for e in heard if isinstance(e, StageFinished)]
    assert finished.seconds < 0.1


def test_the_choice_of_a_setting_is_timed_apart_from_the_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surrogate_trigger, "find_stand_ins", lambda *rest: time.sleep(0.4) or [])
    monkeypatch.setattr(surrogate_trigger, "choose", lambda *rest: (0, 0))
    monkeypatch.setattr(
        surrogate_trigger, "_at_every_setting", lambda sweep, *rest: (torch.ones(1), torch.ones(1, 1))
    )
    sweep = partial(surrogate_trigger.sweep_by_rule, "n", torch.zeros(1), {}, clean_model(), digits().reserve)
    ctx, heard = listening()

    def compute(inner: Context) -> Bundle:
        sweep(lambda score: score, inner)
        return Bundle()

    run_stage(ctx, "repair", None, compute)

    (finished,) = [e for e in heard if isinstance(e, StageFinished)]
    (apart,) = [e for e in heard if isinstance(e, SetAside)]
    assert (apart.stage, apart.of) == ("repair", "choosing") and apart.seconds >= 0.4 > finished.seconds


@pytest.mark.slow
def test_a_record_times_the_looks_apart_from_the_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Observer, "__call__", lambda self, phase, step, model: time.sleep(0.3))
    spec = tiny_spec("rnp", clean_images=20, defense__unlearn_epochs=2, defense__recover_epochs=2)

    timings = run_and_record(spec, tmp_path, device="cpu").timings

    assert timings["observing"] >= 4 * 0.3 and timings["repair"] < timings["observing"]


def learned(spec: ExperimentSpec, cache: StageCache) -> tuple[list[tuple[str, str, int, float]], list[str]]:
    ctx, heard = listening(cache=cache)
    found = run_experiment(spec, ctx)
    told = [
        (e.stage, e.name, e.step, e.value)
        for e in heard
        if isinstance(e, Metric) and e.name in ("learned_accuracy", "learned_asr", "targets_hit")
    ]
    return told, found.cached


def test_what_was_seen_of_a_victim_is_told_again_where_it_comes_from_the_cache(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    first, _ = learned(tiny_spec("none"), cache)
    again, cached = learned(tiny_spec("none"), cache)
    other, anew = learned(tiny_spec("none", dataset__test_images=40), cache)

    assert first and again == first and "victim" in cached
    assert "victim" in anew and not other  # seen on other test images


def test_hits_are_told_again_where_the_repair_comes_from_the_cache(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    spec = make_spec("digits", "gradient_matching", "ft", overrides=FEW_TARGETS)
    first, _ = learned(spec, cache)
    again, cached = learned(spec, cache)

    assert {stage for stage, _, _, _ in first} == {"victim", "repair"}
    assert again == first and "repair" in cached


def test_the_success_of_a_backdoor_is_told_while_it_is_learned_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = tiny_spec("none", training__epochs=4)
    heard: list[object] = []
    watched = run_experiment(spec, Context(send=heard.append)).metrics

    told = [
        (e.stage, e.name, e.step, e.value) for e in heard if isinstance(e, Metric) and "learned_" in e.name
    ]
    assert {(stage, name) for stage, name, _, _ in told} == {
        (Stage.VICTIM, "learned_asr"),
        (Stage.VICTIM, "learned_accuracy"),
    }
    assert [step for _, name, step, _ in told if name == "learned_asr"] == [1, 2, 3, 4]
    monkeypatch.setattr("poisonlab.pipeline.poison.while_trained", lambda *_: None)
    assert run_experiment(spec, Context()).metrics == watched
