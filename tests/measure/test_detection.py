"""Detection in the pipeline: a verdict on the victim and on the control, and what the defender is handed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from core_helpers import clean_model, digits, tiny_spec
from torch import Tensor

from poisonlab import registry
from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.defenses.rnp import RNP
from poisonlab.defenses.shared.repeated_unlearning import margin
from poisonlab.events import ArtifactReady, Event
from poisonlab.measure import detection
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.spec.config import ExperimentSpec
from poisonlab.types import Backdoor, Detection, ImageSet, RecoveredTrigger

VERDICTS = {"detected", "detected_control", "target_found"}
SAMPLES = {"sample_auroc", "samples_caught", "samples_flagged", "samples_flagged_control"}
RECOVERED = {"recovered_asr", "recovered_iou"}
FEW: dict[str, Any] = {"defense__rounds": 1, "defense__search_batch": 4, "clean_images": 10}


def neural_cleanse() -> ExperimentSpec:
    return tiny_spec("neural_cleanse", defense__epochs=1, **FEW)


def rnp() -> ExperimentSpec:
    return tiny_spec("rnp", defense__repeats=2, defense__unlearn_epochs=2, defense__recover_epochs=1, **FEW)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [(neural_cleanse(), VERDICTS | RECOVERED), (rnp(), VERDICTS | SAMPLES | RECOVERED)],
    ids=["neural_cleanse", "rnp"],
)
def test_a_detection_is_measured_on_victim_and_control_and_cached(
    spec: ExperimentSpec, expected: set[str], tmp_path: Path
) -> None:
    heard: list[Event] = []
    cache = StageCache(tmp_path)
    first = run_experiment(spec, Context(cache=cache, send=heard.append))
    again = run_experiment(spec, Context(cache=cache))

    plain = run_experiment(tiny_spec("none", clean_images=10), Context(cache=cache)).metrics.keys()
    knob = {name for name in first.metrics if name.endswith("_oracle") or name.startswith("setting")}
    assert first.metrics.keys() - plain - knob == expected
    assert again.metrics == first.metrics and {"detect", "detect_control"} <= set(again.cached)
    names = [event.name for event in heard if isinstance(event, ArtifactReady)]
    assert {"class_anomaly", "trigger"} <= set(names) and len(names) == len(set(names))


def test_detection_and_repair_search_once(tmp_path: Path) -> None:
    first = run_experiment(neural_cleanse(), Context(cache=StageCache(tmp_path)))

    assert first.cached.count("trigger_search") == 1


def test_a_detector_is_handed_models_trusted_images_and_training_sets_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[tuple[Any, ImageSet, ImageSet]] = []

    def spy(self: RNP, model: Any, clean: ImageSet, suspects: ImageSet, ctx: Context) -> Detection:
        given.append((model, clean, suspects))
        return Detection(False, None, "nothing", torch.zeros(len(clean.classes)), 1.0)

    monkeypatch.setattr(registry.defense["rnp"], "detect", spy)
    found = run_experiment(rnp(), Context()).metrics

    (victim, clean, poisoned), (control, same_clean, untouched) = given
    assert (found["detected"], found["detected_control"], found["target_found"]) == (0.0, 0.0, 0.0)
    assert torch.equal(clean.x, same_clean.x) and len(clean) == 10
    assert len(poisoned) == len(untouched) and not torch.equal(poisoned.x, untouched.x)
    assert not torch.equal(victim.head.weight, control.head.weight)


def test_verdicts_and_sample_shares_by_hand() -> None:
    def says(scores: list[float], flagged: list[bool], target: int | None) -> Detection:
        each = torch.tensor(scores), torch.tensor(flagged)
        return Detection(target is not None, target, "score", torch.zeros(3), 1.0, *each)

    victim = says([0.1, 0.9, 0.2, 0.8], [False, True, True, True], 2)
    control = says([0.0, 0.0, 0.0, 0.0], [False, False, False, True], None)
    poisoned = torch.tensor([False, True, False, True])

    assert detection.verdicts(victim, control, 2) == {
        "detected": 1.0,
        "detected_control": 0.0,
        "target_found": 1.0,
    }
    assert detection.verdicts(victim, control, None) == {"detected": 1.0, "detected_control": 0.0}
    assert detection.sample_metrics(victim, control, poisoned) == {
        "sample_auroc": 1.0,
        "samples_caught": 1.0,
        "samples_flagged": 0.5,
        "samples_flagged_control": 0.25,
    }


def test_a_margin_is_the_lead_of_a_label_over_the_best_other_one() -> None:
    logits = torch.tensor([[1.0, 5.0, 2.0], [1.0, 5.0, 2.0]])

    assert margin(logits, torch.tensor([1, 0])).tolist() == [3.0, -4.0]


def corner(x: Tensor) -> Tensor:
    out = x.clone()
    out[..., -2:, -2:] = 255
    return out


def test_the_true_trigger_recovered_exactly_overlaps_fully_and_has_the_true_asr() -> None:
    test = digits().test
    h, w = test.shape[1:]
    mask, pattern = torch.zeros(1, 1, h, w), torch.ones(1, 1, h, w)
    mask[..., -2:, -2:] = 1
    exact = RecoveredTrigger(pattern, mask)
    threat = Backdoor(corner, lambda y: torch.zeros_like(y), 0)

    assert torch.equal(detection.with_trigger(test.x, exact), corner(test.x))
    found = detection.trigger_metrics(exact, clean_model(), test, threat)
    assert found["recovered_iou"] == 1.0 and 0 <= found["recovered_asr"] <= 1


def test_overlap_counts_pixels_changed_at_least_half_as_much_as_the_strongest() -> None:
    pattern = torch.zeros(1, 2, 2, 2)
    pattern[0, 1] = torch.tensor([[-1.0, 0.6], [0.4, 0.0]])
    added = RecoveredTrigger(pattern)

    assert detection.overlap(added, torch.tensor([[True, False], [False, True]])) == pytest.approx(1 / 3)
