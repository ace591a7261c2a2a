"""What a screening of inputs is worth: the two thresholds, the curve, and what the experimenter keeps to itself."""

import math
from typing import Any

import pytest
import torch
from core_helpers import digits, tiny_spec

from poisonlab import registry
from poisonlab.context import Context
from poisonlab.events import ArtifactReady
from poisonlab.measure.screening import (
    Inputs,
    control_metrics,
    false_alarms,
    screening_metrics,
    threshold,
)
from poisonlab.models.base import Classifier
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.spec.config import make_spec
from poisonlab.types import Backdoor, ImageSet, Screening


def invert(x: torch.Tensor) -> torch.Tensor:
    return 255 - x


def to_three(y: torch.Tensor) -> torch.Tensor:
    return torch.full_like(y, 3)


def mixture() -> Inputs:
    return Inputs.of(digits().test, Backdoor(invert, to_three, 3), torch.Generator().manual_seed(0))


def test_the_inputs_are_the_test_images_without_the_trigger_and_with_it() -> None:
    test, inputs = digits().test, mixture()
    others = int((test.y != 3).sum())

    assert len(inputs.x) == len(test) + others
    assert int(inputs.triggered.sum()) == others
    assert int(inputs.of_target.sum()) == len(test) - others
    assert not bool((inputs.of_target & inputs.triggered).any())
    assert set(inputs.wanted[inputs.triggered].tolist()) == {3}
    assert torch.equal(inputs.wanted[~inputs.triggered], inputs.true[~inputs.triggered])
    halves = (inputs.triggered[: len(inputs.x) // 2], inputs.triggered[len(inputs.x) // 2 :])
    assert all(0.3 < half.double().mean().item() < 0.7 for half in halves)  # no order gives them away


def test_with_a_source_class_only_its_images_have_a_counterpart_with_the_trigger() -> None:
    test = digits().test
    threat = Backdoor(invert, to_three, 3, source_class=5)

    inputs = Inputs.of(test, threat, torch.Generator().manual_seed(0))

    fives = int((test.y == 5).sum())
    assert int(inputs.triggered.sum()) == int(inputs.untouched.sum()) == fives
    assert set(inputs.true[inputs.untouched | inputs.triggered].tolist()) == {5}
    assert int(inputs.of_target.sum()) == int((test.y == 3).sum())


def test_the_defenders_threshold_lets_95_percent_of_trusted_images_through() -> None:
    assert threshold(torch.arange(100.0)) == 94.0
    assert threshold(torch.tensor([0.2, 0.2, 1.0])) == 1.0
    assert threshold(torch.zeros(0)) == math.inf


def test_false_alarms_are_those_of_the_threshold_that_stops_95_percent_of_the_triggered() -> None:
    positives = torch.tensor([0.1] + [0.5] * 19)

    assert false_alarms(torch.tensor([0.2, 0.4, 0.5, 0.9]), positives) == 0.5
    assert false_alarms(torch.zeros(0), positives) is None


def test_each_number_of_a_hand_example() -> None:
    """Two untouched of other classes, one of the target's, three triggered of which one fails."""
    inputs = Inputs(
        torch.zeros(6, 1, 2, 2, dtype=torch.uint8),
        triggered=torch.tensor([False, False, False, True, True, True]),
        true=torch.tensor([0, 1, 3, 0, 1, 2]),
        wanted=torch.tensor([0, 1, 3, 3, 3, 3]),
        untouched=torch.tensor([True, True, False, False, False, False]),
        of_target=torch.tensor([False, False, True, False, False, False]),
    )
    answers = torch.tensor(
        [0, 2, 3, 3, 3, 2]
    )  # the second untouched and the last triggered are read otherwise
    scores = torch.tensor([0.1, 0.6, 0.9, 0.8, 0.4, 0.05])
    found = Screening(scores, trusted=torch.tensor([0.0, 0.5]), limit=0.7)

    measured = screening_metrics(found, inputs, answers)

    assert measured == pytest.approx(
        {
            "screen_auroc": 3 / 6,  # of six pairs: 0.8 beats both, 0.4 beats one
            "screen_auroc_working": 1.0,
            "screen_false_alarms": 1.0,
            "screen_caught": 1 / 3,
            "screen_stopped": 0.5,
            "screen_stopped_target": 1.0,
            "screened_accuracy": 1 / 3,
            "screened_asr": 1 / 3,
            "screen_caught_published": 1 / 3,
            "screen_stopped_published": 0.0,
        }
    )
    assert control_metrics(found, inputs) == pytest.approx(
        {"screen_auroc_control": 0.5, "screen_stopped_control": 0.5}
    )


def test_a_run_measures_victim_and_control_and_shows_both(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def screen(self: Any, model: Classifier, clean: ImageSet, x: torch.Tensor, ctx: Context) -> torch.Tensor:
        seen.append((len(clean), len(x)))
        return x.float().flatten(1).mean(1)

    monkeypatch.setattr(registry.defense["scale_up"], "screen", screen)
    heard: list[Any] = []
    found = run_experiment(tiny_spec("scale_up", clean_images=11), Context(send=heard.append)).metrics

    inputs = len(digits().test)
    assert [learned for learned, _ in seen] == [6, 6]  # the other five set the threshold
    assert all(judged <= 5 + 2 * inputs for _, judged in seen)
    assert found["screen_auroc"] == found["screen_auroc_control"]  # these scores do not ask the model
    assert found["asr"] == found["asr_undefended"]  # a screening changes no model
    shown = [e.value for e in heard if isinstance(e, ArtifactReady) and e.name == "screening"]
    assert len(shown) == 1 and len(shown[0].images) <= 24


def test_other_threats_have_no_inputs_to_be_screened() -> None:
    spec = make_spec(
        "digits",
        "label_noise",
        "scale_up",
        overrides={"training.epochs": 1, "dataset.train_images": 100, "victim.width": 8, "clean_images": 10},
    )

    assert not [name for name in run_experiment(spec, Context()).metrics if name.startswith("screen")]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_one_line(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def screen(self: Any, model: Classifier, clean: ImageSet, x: torch.Tensor, ctx: Context) -> torch.Tensor:
        return torch.full((len(x),), value)

    monkeypatch.setattr(registry.defense["scale_up"], "screen", screen)

    with pytest.raises(ValueError, match="the scores that scale_up gives .* are no finite numbers"):
        run_experiment(tiny_spec("scale_up", clean_images=10), Context())
