"""The protocol that fine-tunes a whole pretrained network: what is trained, what stays, that it repeats."""

from pathlib import Path
from typing import Any

import pytest
import torch
from core_helpers import SMALL_TRANSFER, digits, network, same_state, state_of
from torch import nn

from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.events import Event, StageFinished
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.spec.config import ExperimentSpec, FineTuneConfig, make_spec
from poisonlab.spec.overrides import changed
from poisonlab.training.loop import TrainingHook, fine_tune
from poisonlab.training.victims import Victims, train_on_extractor
from poisonlab.types import ImageSet, Poison

TINY = SMALL_TRANSFER | {"protocol": "fine_tune_transfer", "fine_tune.epochs": 2}


def tiny(attack: str = "bullseye_polytope", **overrides: Any) -> ExperimentSpec:
    return make_spec(
        "digits", attack, "none", overrides=TINY | {k.replace("__", "."): v for k, v in overrides.items()}
    )


def victims() -> tuple[Victims, Victims, Poison]:
    """An extractor, the victims of two poisoned sets, and the poison."""
    train, index = digits().train, torch.arange(8).view(2, 4)
    poison = Poison(index, 255 - train.x[index], train.y[index])
    extractor = Victims.of([network(train, width=8)])
    return extractor, train_on_extractor("victim", tiny(), extractor, poison.sets(train), Context()), poison


def test_victims_differ_from_the_extractor_in_every_trained_layer() -> None:
    extractor, tuned, _ = victims()
    start = extractor.member(0).state_dict()
    norms = {f"{n}." for n, m in extractor.network.named_modules() if isinstance(m, nn.BatchNorm2d)}

    for name, value in tuned.member(0).state_dict().items():
        frozen = any(name.startswith(norm) for norm in norms) or name.startswith("normalize")
        assert torch.equal(value, start[name]) == frozen, name


def test_another_set_gives_another_victim() -> None:
    _, tuned, _ = victims()

    assert tuned.trials == 2 and not same_state(state_of(tuned.member(0)), state_of(tuned.member(1)))


def test_fine_tuning_repeats_and_leaves_the_extractor_alone() -> None:
    before = state_of(victims()[0].member(0))
    (extractor, tuned, _), (_, again, _) = victims(), victims()

    assert same_state(state_of(tuned.member(1)), state_of(again.member(1)))
    assert same_state(state_of(extractor.member(0)), before)


def test_batch_norm_can_be_trained_on() -> None:
    model = network(digits().train, width=8)
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    before = norm.running_mean.clone(), norm.weight.detach().clone()

    fine_tune(model, digits().train, FineTuneConfig(epochs=1, frozen_norm=False), Context())

    assert not torch.equal(norm.running_mean, before[0]) and not torch.equal(norm.weight, before[1])
    assert not model.training


def test_a_hook_that_changes_the_mode_does_not_unfreeze_batch_norm() -> None:
    class Looking(TrainingHook):
        def begin(self, model: nn.Module, data: ImageSet, steps_an_epoch: int, epochs: int) -> None:
            model.eval()
            model.train()

    model = network(digits().train, width=8)
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    before = norm.running_mean.clone()
    fine_tune(model, digits().train, FineTuneConfig(epochs=1), Context(), Looking())

    assert torch.equal(norm.running_mean, before)


def test_a_hook_takes_part_in_fine_tuning() -> None:
    class Counting(TrainingHook):
        seen = 0

        def batch(
            self, x: torch.Tensor, y: torch.Tensor, index: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            self.seen += len(x)
            return x, y

    hook = Counting()
    fine_tune(network(digits().train, width=8), digits().train, FineTuneConfig(epochs=3), Context(), hook)

    assert hook.seen == 3 * len(digits().train)


@pytest.mark.parametrize("attack", ["bullseye_polytope", "feature_collision"])
def test_a_run_repeats_and_its_control_is_trained_once(attack: str, tmp_path: Path) -> None:
    heard: list[Event] = []
    cache = StageCache(tmp_path)
    first = run_experiment(tiny(attack), Context(cache=cache, send=heard.append))
    again = run_experiment(tiny(attack), Context(cache=cache))

    assert first.metrics == again.metrics and first.metrics["targets"] == 2
    assert {e.stage for e in heard if isinstance(e, StageFinished)} >= {
        "extractor",
        "attackers_model",
        "control",
        "victim",
    }
    assert set(again.cached) == set(again.timings) - {"evaluate"}


def test_surrogates_are_stages_of_their_own() -> None:
    heard: list[Event] = []
    spec = tiny(
        attack__surrogates="resnet8 width=8, resnet8 width=8", attack__dropout=0.1, training__epochs=1
    )
    run_experiment(spec, Context(send=heard.append))

    assert [e.stage for e in heard if isinstance(e, StageFinished)].count("surrogate") == 2


def test_parameters_of_fine_tuning_matter_to_its_protocol_only() -> None:
    def group(protocol: str, lr: float) -> str:
        overrides = {"protocol": protocol, "fine_tune.lr": lr}
        return make_spec("digits", "bullseye_polytope", "none", overrides=overrides).group()

    assert group("linear_transfer", 0.1) == group("linear_transfer", 0.2)
    assert group("fine_tune_transfer", 0.1) != group("fine_tune_transfer", 0.2)
    idle = make_spec("digits", "bullseye_polytope", "none", overrides={"fine_tune.lr": 0.1})
    assert changed(idle) == {}
