"""Victims of many trials: sets made when they are read, a control trained once, results told as they come."""

from typing import Any

import pytest
import torch
from core_helpers import digits, listening, network, same_state, state_of
from torch.nn import Module

from poisonlab import registry
from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.events import Metric
from poisonlab.measure.monitor import TargetHits
from poisonlab.models.base import Classifier, predict
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.training.loop import TrainingHook, train_network
from poisonlab.training.victims import Victims, train_on_extractor, train_transfer
from poisonlab.types import ImageSet, Poison, Targeted

TINY: dict[str, Any] = {
    "dataset.train_images": 200,
    "dataset.test_images": 60,
    "dataset.public_images": 130,
    "training.epochs": 2,
    "attack.targets": 3,
    "attack.poisons": 3,
    "attack.steps": 1,
    "victim.width": 8,
}


def tiny(defense: str = "none") -> ExperimentSpec:
    return make_spec("digits", "gradient_matching", defense, overrides=TINY)


def test_the_sets_of_a_poison_are_those_it_makes_one_by_one() -> None:
    train, index = digits().train, torch.arange(8).view(2, 4)
    poison = Poison(index, 255 - train.x[index], (train.y[index] + 1) % 10)
    before = train.x.clone()
    sets = poison.sets(train)

    assert len(sets) == 2 and len(list(sets)) == 2 and torch.equal(train.x, before)
    for trial, data in enumerate(sets):
        expected = poison.apply(train, trial)
        assert torch.equal(data.x, expected.x) and torch.equal(data.y, expected.y)


def test_a_victim_that_serves_all_trials_answers_as_copies_of_it_would() -> None:
    model, x = network(digits().train, width=8), digits().test.x
    shared, copies = Victims.of([model]).serving(3), Victims.of([model] * 3)

    assert (shared.trials, shared.members) == (copies.trials, copies.members // 3) == (3, 1)
    assert torch.equal(shared.predict(x), copies.predict(x))


def test_the_control_of_all_trials_is_trained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stages: list[str] = []

    def spy(model: Module, data: ImageSet, config: Any, ctx: Context, *args: Any, **kwargs: Any) -> None:
        stages.append(ctx.stage_name)
        train_network(model, data, config, ctx, *args, **kwargs)

    monkeypatch.setattr("poisonlab.training.victims.train_network", spy)
    run_experiment(tiny(), Context())

    assert [stages.count(name) for name in ("control", "victim")] == [1, 3]


def test_a_tally_counts_the_targets_given_the_attackers_class() -> None:
    model, images = network(digits().train, width=8), digits().test.x[:3]
    said = predict(model, images)
    wanted = torch.stack([said[0], (said[1] + 1) % 10, said[2]])
    target_hits = TargetHits(Targeted(images, wanted, wanted))

    assert [target_hits("trials", trial, model)["targets_hit"] for trial in (1, 2, 3)] == [1, 1, 2]


@pytest.mark.parametrize("moment", ["training_hook", "repair"])
def test_each_trial_tells_whether_its_target_was_hit(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Context] = []

    def hook(self: Defense, ctx: Context) -> TrainingHook:
        seen.append(ctx)
        return TrainingHook()

    def repair(self: Defense, model: Classifier, clean: ImageSet, ctx: Context) -> Repair:
        seen.append(ctx)
        return Repair(model)

    method = {"training_hook": hook, "repair": repair}[moment]
    monkeypatch.setattr(registry.defense["none"], moment, method)
    ctx, heard = listening()
    measured = run_experiment(tiny(), ctx).metrics
    told = [e for e in heard if isinstance(e, Metric) and e.name == "targets_hit"]

    for stage, rate in (("victim", "poison_success_undefended"), (told[-1].stage, "poison_success")):
        mine = [e for e in told if e.stage == stage]
        assert [e.step for e in mine] == [1, 2, 3] and mine[-1].value == round(3 * measured[rate])
    assert told[-1].stage == {"training_hook": "defended_victim", "repair": "repair"}[moment]
    assert seen and not any(isinstance(ctx.observer, TargetHits) for ctx in seen)


def test_a_head_trained_under_a_hook_leaves_all_below_it_alone() -> None:
    spec = make_spec("digits", "bullseye_polytope", "epic", overrides={"head.epochs": 20})
    train, extractor = digits().train, Victims.of([network(digits().train, width=8)])
    ctx = Context(seed=spec.seed)
    hooked = train_on_extractor("test", spec, extractor, [train], ctx, lambda inner: TrainingHook(), "plain")
    plain = train_transfer("test", spec, extractor, [train], 1, ctx)

    assert same_state(state_of(hooked.member(0).body), state_of(extractor.member(0).body))
    right = [(v.predict(train.x)[0] == train.y).float().mean().item() for v in (hooked, plain)]
    assert min(right) > 0.3 and abs(right[0] - right[1]) < 0.1  # other starts, the same features


@pytest.mark.parametrize("defense", ["epic", "friends"])
def test_defenses_of_training_work_on_linear_heads(defense: str) -> None:
    overrides = TINY | {"dataset.pretrain_images": 200, "dataset.head_images": 60, "head.epochs": 12}
    del overrides["dataset.train_images"]
    spec = make_spec("digits", "bullseye_polytope", defense, overrides=overrides)
    measured = run_experiment(spec, Context()).metrics

    assert 0 <= measured["poison_success"] <= 1 and measured["clean_accuracy"] > 0.2
