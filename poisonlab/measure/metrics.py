"""Measures of success, each a number in [0, 1] unless it says otherwise.

A measure over no image is undefined: it is ``None``, and so is every number that depends on it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from poisonlab.types import Backdoor, ImageSet, Targeted

Predict = Callable[[Tensor], Tensor]  # uint8 (n, c, h, w) -> int64 (trials, n)


# A model whose answers other than its favorite are fewer than this share of the images of other classes is collapsed.
OTHER_ANSWERS = 0.02
# Test images that every setting of a repair is measured on: a share is off by less than a point.
SWEPT = 4000


def share(values: Tensor) -> float | None:
    """Mean of hits or rates; ``None`` of an empty tensor."""
    return values.double().mean().item() if values.numel() else None


def clean_accuracy(predict: Predict, test: ImageSet) -> float | None:
    """Share of clean test images given their class, averaged over trials."""
    return share(predict(test.x) == test.y)


def collapsed(predicted: Tensor, y: Tensor) -> bool:
    """Whether at least half of the trials' models give one answer to nearly every image.

    A model counts as collapsed if the images that it gives another answer than its most frequent one are fewer than
    2 % of those that belong to other classes. Of ten balanced classes its favorite then takes over 98.2 % of the
    answers, of two over 99 %; a test set with 97 % of its images in one class needs more than 99.94 %, since a good
    model answers with that class nearly always, too. Where all images are of one class nothing can be told.

    Args:
        predicted: int64 ``(trials, n)``. y: the true classes, int64 ``(n,)``.
    """
    if not predicted.numel():
        return False
    fallen = [_one_answer(answers, y) for answers in predicted]
    return 2 * sum(fallen) >= len(fallen)


def _one_answer(answers: Tensor, y: Tensor) -> bool:
    favorite = answers.bincount().argmax()
    others = (answers != favorite).sum()
    return bool(others < OTHER_ANSWERS * (y != favorite).sum())


@dataclass(frozen=True)
class Triggered:
    """Test images with the trigger, made once for all models that are shown them.

    All-to-one: images of the target class are left out, or all but those of a source class. All-to-all: every image
    counts.

    Attributes:
        x: uint8 ``(n, c, h, w)``. true, adversarial: int64 ``(n,)``.
    """

    x: Tensor
    true: Tensor
    adversarial: Tensor

    @classmethod
    def of(cls, test: ImageSet, threat: Backdoor) -> Self:
        """The test images that the trigger is put on."""
        victims = test[threat.attacked(test.y)]
        if not len(victims):
            return cls(victims.x, victims.y, victims.y)
        return cls(threat.trigger(victims.x), victims.y, threat.relabel(victims.y))


def backdoor_metrics(predict: Predict, triggered: Triggered) -> dict[str, float | None]:
    """``asr``, the share given the attacker's label, and ``robust_accuracy``, the share given the true one."""
    if not len(triggered.x):
        return {"asr": None, "robust_accuracy": None}
    predicted = predict(triggered.x)
    return {
        "asr": share(predicted == triggered.adversarial),
        "robust_accuracy": share(predicted == triggered.true),
    }


def targeted_predictions(predict: Predict, threat: Targeted) -> Tensor:
    """The prediction of trial t's model for trial t's target, int64 ``(trials,)``."""
    return predict(threat.images).diagonal()


def adversarial_probabilities(probabilities: Callable[[Tensor], Tensor], threat: Targeted) -> Tensor:
    """What trial t's model gives the adversarial label of trial t's target, float ``(trials,)``."""
    own = probabilities(threat.images).diagonal().T  # (trials, classes)
    return own.gather(1, threat.adversarial_labels[:, None]).squeeze(1)


def poison_success(predicted: Tensor, threat: Targeted) -> float | None:
    """Share of targets given the adversarial label."""
    return share(predicted == threat.adversarial_labels)


def accuracy_losses(measured: Mapping[str, float | None]) -> dict[str, float | None]:
    """How far each ``clean_accuracy`` lies below the control's, 0 for the control itself.

    In [-1, 1]: a repair that knows more than the control may gain.
    """
    best = measured["clean_accuracy_control"]
    losses: dict[str, float | None] = {}
    for suffix in ("_control", "_undefended", ""):
        accuracy = measured[f"clean_accuracy{suffix}"]
        losses[f"accuracy_loss{suffix}"] = None if best is None or accuracy is None else best - accuracy
    return losses


def der(
    accuracy_before: float | None,
    asr_before: float | None,
    accuracy_after: float | None,
    asr_after: float | None,
) -> float | None:
    """Defense effectiveness rating (Zhu et al., FT-SAM, ICCV 2023): 0.5 means no effect, 1 is best."""
    if accuracy_before is None or asr_before is None or accuracy_after is None or asr_after is None:
        return None
    asr_drop = max(0.0, asr_before - asr_after)
    accuracy_drop = max(0.0, accuracy_before - accuracy_after)
    return (asr_drop - accuracy_drop + 1) / 2


def oracle(accuracy: Sequence[float | None], asr: Sequence[float | None]) -> int | None:
    """Position of the lowest ASR among settings that keep 90 % of the first one's accuracy; ``None`` if undefined.

    The choice that BackdoorBench reports for pruning. It looks at the test set and at the trigger, so no
    defender can make it; shown beside the defender's own choice, never instead of it.
    """
    if not accuracy or accuracy[0] is None:
        return None
    least = 0.9 * accuracy[0]
    known = enumerate(zip(accuracy, asr, strict=True))
    allowed = [
        (success, i)
        for i, (kept, success) in known
        if kept is not None and success is not None and kept >= least
    ]
    return min(allowed)[1] if allowed else None


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of uint8 images in dB, ``(n,)``; equal images give infinity."""
    error = (a.float() - b.float()).square().flatten(1).mean(1)
    return 10 * torch.log10(255**2 / error)


def auroc(negatives: Tensor, positives: Tensor) -> float | None:
    """Probability that a positive's score exceeds a negative's; ``None`` without one of each."""
    if not len(negatives) or not len(positives):
        return None
    scores = torch.cat([negatives, positives]).cpu().numpy()
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - takes a second, and no start needs it

    return float(roc_auc_score([0] * len(negatives) + [1] * len(positives), scores))
