"""What detectors of poisoned images share: who can be judged, who is named, and the retraining without the flagged."""

from typing import Any

import pytest
import torch
from core_helpers import digits, listening, noise_images, tiny_spec

from poisonlab import registry
from poisonlab.context import Context
from poisonlab.defenses.shared.sample_scores import (
    anomaly_index,
    flagged_shares,
    judged_classes,
    outlier_threshold,
    sample_verdict,
)
from poisonlab.events import Log
from poisonlab.models.base import Classifier
from poisonlab.pipeline import experiment
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.spec.config import make_spec
from poisonlab.training import loop
from poisonlab.types import Detection, ImageSet

NAMES = ["spectral_signatures", "activation_clustering", "confident_learning"]


def labeled(*counts: int) -> ImageSet:
    """Images of classes a, b, ..., as many of each as said."""
    y = torch.cat([torch.full((n,), label) for label, n in enumerate(counts)])
    return ImageSet(torch.zeros(len(y), 1, 2, 2, dtype=torch.uint8), y, tuple("abcdef"[: len(counts)]))


def test_a_class_with_few_images_or_none_is_left_out_and_named_in_the_log() -> None:
    ctx, heard = listening()

    judged = dict(judged_classes(labeled(6, 0, 4, 5), ctx))

    assert sorted(judged) == [0, 3] and judged[3].tolist() == list(range(10, 15))
    assert [event.message for event in heard if isinstance(event, Log)] == [
        "fewer than 5 images, so they are not judged: b, c"
    ]


def test_the_threshold_of_a_hand_example() -> None:
    scores = torch.tensor([2.0, 10.0, 9.0, 11.0, 12.0])  # median 10, deviations 8 0 1 1 2: MAD 1

    assert outlier_threshold(scores, 2.0, 0.0) == pytest.approx(10 + 2 * 1.4826)
    assert outlier_threshold(torch.zeros(4), 3.0, 0.5) == 1.5


def test_anomaly_index_of_a_hand_example() -> None:
    # median 10, absolute deviations 8 0 1 1 2 -> MAD 1: (10 - 2) / 1.4826
    index = anomaly_index(torch.tensor([2.0, 10.0, 9.0, 11.0, 12.0]))

    assert torch.allclose(index, torch.tensor([8.0, 0.0, 1.0, -1.0, -2.0]) / 1.4826)


def test_classes_that_agree_are_given_a_least_spread() -> None:
    norms = torch.tensor([9.0, 10.0, 10.0, 10.0, 10.0])

    assert float(anomaly_index(norms)[0]) > 1000
    assert torch.allclose(anomaly_index(norms, 0.5), torch.tensor([2.0, 0.0, 0.0, 0.0, 0.0]))


def test_logarithms_tell_a_small_norm_among_widely_spread_ones() -> None:
    norms = torch.tensor([0.5, 10.0, 20.0, 40.0, 80.0])

    assert float(anomaly_index(norms)[0]) < 1 < 2.4 < float(anomaly_index(norms.log())[0])


def test_the_threshold_and_the_index_are_one_rule_the_modified_z_score() -> None:
    scores = torch.tensor([3.0, 7.0, 4.0, 9.0, 5.0, 30.0])  # median 6, deviations 3 1 2 3 1 24: MAD 2.5
    index = -anomaly_index(scores)

    assert torch.allclose(index, 0.6745 * (scores - 6) / 2.5, rtol=1e-4)
    assert (
        (scores > outlier_threshold(scores, 3.5, 0.0)).tolist()
        == (index > 3.5).tolist()
        == [False] * 5 + [True]
    )


def test_shares_count_within_a_class_and_an_empty_one_has_none() -> None:
    flagged = torch.tensor([True, False, False, False, True])

    assert flagged_shares(flagged, labeled(4, 0, 1)).tolist() == [0.25, 0.0, 1.0]


def test_the_highest_class_above_the_threshold_is_named_or_nobody_and_the_log_says_so() -> None:
    ctx, heard = listening()
    scores, each = torch.tensor([0.0, 3.0, 2.0]), torch.zeros(4)

    assert sample_verdict("s", scores, 1.0, each, each > 0, ctx).target == 1
    assert not heard
    assert not sample_verdict("s", scores, 3.0, each, each > 0, ctx).backdoored
    assert isinstance(heard[0], Log) and "no verdict" in heard[0].message


# -- in the pipeline ------------------------------------------------------------------------------------


def saying(rows: torch.Tensor) -> Any:
    """A detection that flags these rows of every training set."""

    def detect(self: Any, model: Any, clean: ImageSet, suspects: ImageSet, ctx: Context) -> Detection:
        flagged = torch.zeros(len(suspects), dtype=torch.bool)
        flagged[rows] = True
        return Detection(False, None, "s", torch.zeros(len(clean.classes)), 1.0, flagged.float(), flagged)

    return detect


def sets_trained_on(monkeypatch: pytest.MonkeyPatch, spec: Any) -> tuple[list[ImageSet], dict[str, float]]:
    seen: list[ImageSet] = []
    plain = loop.train_network

    def spy(model: Any, data: ImageSet, *more: Any, **named: Any) -> None:
        seen.append(data)
        plain(model, data, *more, **named)

    monkeypatch.setattr("poisonlab.training.victims.train_network", spy)
    return seen, run_experiment(spec, Context()).metrics


@pytest.mark.parametrize("name", NAMES)
def test_the_victim_is_trained_anew_without_the_flagged(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.defense[name], "detect", saying(torch.arange(30)))

    (_, poisoned, kept), found = sets_trained_on(monkeypatch, tiny_spec(name, clean_images=10))

    assert torch.equal(kept.x, poisoned.x[30:]) and torch.equal(kept.y, poisoned.y[30:])
    assert found["samples_flagged_control"] == 0.3


def test_nobody_flagged_means_nothing_trained_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.defense["spectral_signatures"], "detect", saying(torch.arange(0)))

    trained, found = sets_trained_on(monkeypatch, tiny_spec("spectral_signatures", clean_images=10))

    assert len(trained) == 2 and found["asr"] == found["asr_undefended"]


def test_detection_without_a_retraining_paper_leaves_the_victim_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry.defense["strip"], "detect", saying(torch.arange(30)))

    assert len(sets_trained_on(monkeypatch, tiny_spec("strip", clean_images=10))[0]) == 2


def test_heads_are_trained_on_sets_that_lost_different_numbers_of_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    def detect(self: Any, model: Any, clean: ImageSet, suspects: ImageSet, ctx: Context) -> Detection:
        calls.append(len(calls) + 1)
        return saying(torch.arange(calls[-1]))(self, model, clean, suspects, ctx)

    monkeypatch.setattr(registry.defense["spectral_signatures"], "detect", detect)
    monkeypatch.setattr(experiment, "divide", lambda *_: digits("linear_transfer"))
    overrides = {
        "attack.targets": 2,
        "attack.steps": 2,
        "training.epochs": 1,
        "head.epochs": 1,
        "clean_images": 10,
    }
    spec = make_spec("digits", "bullseye_polytope", "spectral_signatures", overrides=overrides)

    assert "poison_success" in run_experiment(spec, Context()).metrics and calls == [1, 2]


def test_images_of_classes_too_small_to_judge_are_never_flagged() -> None:
    data = noise_images(24, (1, 8, 8), 4)
    few = ImageSet(
        data.x, torch.cat([torch.zeros(12), torch.ones(10), torch.full((2,), 2)]).long(), data.classes
    )
    model = Classifier(torch.nn.Flatten(), 64, 4, torch.zeros(1), torch.ones(1)).eval().requires_grad_(False)
    for name in ("spectral_signatures", "activation_clustering"):
        kind = registry.defense[name]
        found = kind(kind.Config()).detect(model, few, few, Context())
        assert found.flagged is not None and not bool(found.flagged[-2:].any())
        assert found.class_scores[2:].tolist() == [0.0, 0.0]
