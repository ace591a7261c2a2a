"""The pipeline on tiny specs: repeatable, cached stage by stage, cancelled cleanly, a control in every run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from core_helpers import TINY_TARGETED, in_threads, rest_slow, tiny_spec
from torch import Tensor
from torch.nn import Module

from poisonlab import registry
from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.events import ArtifactReady, Cancelled, Event, Progress, StageFinished
from poisonlab.measure.galleries import SHOWN
from poisonlab.pipeline.experiment import load, run_experiment
from poisonlab.pipeline.poison import craft, train_with_attacker
from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.spec.stages import Stage
from poisonlab.training.loop import TrainingHook, train_network
from poisonlab.training.protocols import Trainer
from poisonlab.training.victims import Victims
from poisonlab.types import ImageSet, Poison, Splits

TARGETED = TINY_TARGETED | {"defense.architecture": "light", "defense.filters": 4}


def backdoor(defense: str = "awm", **more: Any) -> ExperimentSpec:
    few = {"defense__rounds": 1, "defense__inner_epochs": 1} if defense == "awm" else {}
    return tiny_spec(defense, clean_images=10, **few | more)


def hooked(defense: str = "none") -> ExperimentSpec:
    """An attack that controls the victim's training and learns its trigger there."""
    few = {
        "training.epochs": 1,
        "dataset.train_images": 100,
        "dataset.test_images": 60,
        "attack.mask_epochs": 1,
    }
    return make_spec("digits", "iab", defense, overrides=few | {"attack.width": 4})


def targeted() -> ExperimentSpec:
    return make_spec("digits", "bullseye_polytope", "puregen_ebm", overrides=TARGETED)


def crafted(spec: ExperimentSpec, ctx: Context) -> tuple[Poison, Splits, Trainer]:
    """The poison of a spec, and what it was made from."""
    splits = load(spec, ctx.device)
    trainer = Trainer(spec, splits, ctx)
    return craft(spec.attack.build(), spec, splits, trainer, ctx), splits, trainer


@pytest.mark.parametrize("spec", rest_slow([backdoor(), targeted()]), ids=["backdoor", "targeted"])
def test_the_same_spec_twice_gives_identical_metrics(spec: ExperimentSpec) -> None:
    assert run_experiment(spec, Context()).metrics == run_experiment(spec, Context()).metrics


@pytest.mark.parametrize("spec", [backdoor(), targeted(), hooked()], ids=["backdoor", "targeted", "hooked"])
def test_a_cached_run_gives_the_metrics_of_the_first(spec: ExperimentSpec, tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    first, again = (run_experiment(spec, Context(cache=cache)) for _ in range(2))

    assert again.metrics == first.metrics
    assert set(again.cached) == set(again.timings) - {"evaluate"}
    assert all(again.timings[stage] == 0 for stage in again.cached)


def test_the_extractor_is_trained_once_even_without_a_cache() -> None:
    few = {name: value for name, value in TINY_TARGETED.items() if not name.startswith("defense.")}
    heard: list[Event] = []

    run_experiment(
        make_spec("digits", "bullseye_polytope", "none", overrides=few), Context(send=heard.append)
    )

    ended = [event.stage for event in heard if isinstance(event, StageFinished)]
    assert ended.count(Stage.EXTRACTOR) == 1


def test_models_that_no_defense_changed_are_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = Victims.predict

    def predict(self: Victims, x: Tensor) -> Tensor:
        if len(x) > SHOWN:  # what the models say of the pictures of a gallery is asked apart
            asked.append(self)
        return real(self, x)

    monkeypatch.setattr(Victims, "predict", predict)
    found = run_experiment(backdoor("none"), Context()).metrics

    assert len(asked) == 4  # control and victim, without the trigger and with it
    for name in ("clean_accuracy", "asr", "robust_accuracy"):
        assert found[name] == found[f"{name}_undefended"]


def test_a_second_defense_takes_poison_and_victims_from_the_cache(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    run_experiment(backdoor("none"), Context(cache=cache))

    assert run_experiment(backdoor("awm"), Context(cache=cache)).cached == ["poison", "control", "victim"]


def test_what_a_hook_learned_comes_back_with_the_cached_victim(tmp_path: Path) -> None:
    def train(cache: StageCache, spec: ExperimentSpec) -> tuple[dict[str, Tensor], list[bool]]:
        heard: list[Event] = []
        poison, splits, trainer = crafted(spec, Context(cache=cache, send=heard.append))
        attack = spec.attack.build()
        (learned,) = train_with_attacker(attack, spec, poison, splits.train, trainer).learned
        return learned, [e.cached for e in heard if isinstance(e, StageFinished)]

    (first, _), (again, cached) = (train(StageCache(tmp_path), hooked()) for _ in range(2))

    assert cached == [True, True]
    assert (
        first
        and first.keys() == again.keys()
        and all(torch.equal(first[name], again[name]) for name in first)
    )


def test_only_the_undefended_victim_trains_with_the_attackers_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[str, bool, bool]] = []

    def spy(
        model: Module,
        data: ImageSet,
        config: Any,
        ctx: Context,
        hook: TrainingHook | None = None,
        **more: Any,
    ) -> None:
        clean = control_labels.setdefault("y", data.y)
        trained.append((ctx.stage_name, hook is not None, torch.equal(data.y, clean)))
        train_network(model, data, config, ctx, hook, **more)

    control_labels: dict[str, Tensor] = {}
    monkeypatch.setattr("poisonlab.training.victims.train_network", spy)
    monkeypatch.setattr(registry.defense["none"], "purify", lambda self, data, ctx: data)
    run_experiment(hooked(), Context())

    assert trained == [("control", False, True), ("victim", True, True), ("defended_victim", False, False)]


def test_a_backdoor_run_measures_three_models() -> None:
    names = {"clean_accuracy", "asr", "robust_accuracy"}
    expected = {f"{name}{model}" for name in names for model in ("", "_undefended", "_control")}

    assert (
        expected | {"der", "recovered_asr", "recovered_iou"}
        == run_experiment(backdoor(), Context()).metrics.keys()
    )


def test_a_targeted_run_measures_three_models() -> None:
    metrics = run_experiment(targeted(), Context()).metrics
    names = {"clean_accuracy", "poison_success", "adversarial_probability"}
    expected = {f"{name}{model}" for name in names for model in ("", "_undefended", "_control")}

    assert expected | {"targets", "surviving_share"} == metrics.keys() and metrics["targets"] == 3


def test_two_launches_at_once_compute_each_stage_once(tmp_path: Path) -> None:
    results: list[Any] = []

    def launch(_: int) -> None:
        results.append(run_experiment(backdoor(), Context(cache=StageCache(tmp_path))))

    in_threads(launch, 2)

    assert results[0].metrics == results[1].metrics
    cached = [stage for result in results for stage in result.cached]
    assert sorted(cached) == ["control", "poison", "repair", "victim"]


def test_a_cancelled_run_keeps_its_whole_stages_only(tmp_path: Path) -> None:
    def cancel(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "victim":
            raise Cancelled

    with pytest.raises(Cancelled):
        run_experiment(backdoor(), Context(cache=StageCache(tmp_path), send=cancel))

    assert sorted(name.partition("-")[0] for name, _, _ in StageCache(tmp_path).entries()) == [
        "control",
        "poison",
    ]


def test_everything_to_look_at_is_sent(tmp_path: Path) -> None:
    heard: list[Event] = []
    for spec in (backdoor(), targeted()):
        run_experiment(spec, Context(send=heard.append))

    shown = {event.name for event in heard if isinstance(event, ArtifactReady)}
    assert shown == {
        "poison",
        "true_trigger",
        "trigger",
        "masks",
        "targets",
        "ebm_health",
        "purification",
        "energies",
        "langevin",
    }


def test_the_pictured_answers_are_those_that_the_rates_are_made_of() -> None:
    heard: list[Event] = []
    test_images = 24  # as many as a gallery holds: then the rates are those of the pictures
    few = {"dataset__test_images": test_images, "attack__target_class": 3}
    metrics = run_experiment(backdoor(**few), Context(send=heard.append)).metrics

    truth = next(e.value for e in heard if isinstance(e, ArtifactReady) and e.name == "true_trigger")
    assert (truth.true_labels != 3).all() and len(truth.true_labels) < test_images
    for suffix, said in (("_undefended", truth.triggered_undefended), ("", truth.triggered_defended)):
        assert (said == 3).double().mean().item() == metrics[f"asr{suffix}"]
        assert (said == truth.true_labels).double().mean().item() == metrics[f"robust_accuracy{suffix}"]
    assert len(truth.clean_undefended) == len(truth.clean)


def test_another_seed_gives_another_poison_and_another_model() -> None:
    first, other = (run_experiment(backdoor(seed=seed), Context()).metrics for seed in (0, 1))

    assert first != other


def test_a_second_attack_on_a_set_purifies_only_its_poisons(tmp_path: Path) -> None:
    cache, purified = StageCache(tmp_path), ("purify", "purify_poisons")

    def cached(rate: float) -> list[bool]:
        heard: list[Event] = []
        spec = backdoor("jpeg", **{"attack__poison_rate": rate})
        run_experiment(spec, Context(cache=cache, send=heard.append))
        return [e.cached for e in heard if isinstance(e, StageFinished) and e.stage in purified]

    assert [cached(0.1), cached(0.2)] == [[False, False], [True, False]]


@pytest.mark.parametrize(("attack", "again"), [("badnets", True), ("narcissus", False)])
def test_a_poison_depends_on_public_images_where_its_attack_reads_them(
    attack: str, again: bool, tmp_path: Path
) -> None:
    few = {"training.epochs": 1, "dataset.train_images": 100, "dataset.test_images": 60, "victim.width": 8}

    def cached(public_images: int) -> bool:
        heard: list[Event] = []
        spec = make_spec("digits", attack, "none", overrides=few | {"dataset.public_images": public_images})
        crafted(spec, Context(cache=StageCache(tmp_path), send=heard.append))
        return [e.cached for e in heard if isinstance(e, StageFinished)][-1]

    assert [cached(130), cached(130), cached(140)] == [False, True, again]
