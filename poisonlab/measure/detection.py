"""What a detection and a recovered trigger are worth: measured by the experimenter, who knows the truth."""

import torch
from torch import Tensor

from poisonlab.measure import metrics
from poisonlab.models.base import Classifier, as_floats, predict
from poisonlab.types import Backdoor, Detection, ImageSet, RecoveredTrigger


def verdicts(victim: Detection, control: Detection, target_class: int | None) -> dict[str, float | None]:
    """Whether the victim was found out, whether the control was flagged, whether the true target was named."""
    found: dict[str, float | None] = {
        "detected": float(victim.backdoored),
        "detected_control": float(control.backdoored),
    }
    if target_class is not None:
        found["target_found"] = float(victim.target == target_class)
    return found


def sample_metrics(victim: Detection, control: Detection, poisoned: Tensor) -> dict[str, float | None]:
    """AUROC of the sample scores and the shares of images flagged; empty for a detector that names no images.

    Args:
        poisoned: bool ``(n,)``, the poisoned rows of the victim's training set.
    """
    if victim.sample_scores is None or victim.flagged is None or control.flagged is None:
        return {}
    if not poisoned.any():
        return {"samples_flagged": victim.flagged.double().mean().item()}
    scores = victim.sample_scores
    flagged = victim.flagged.double()
    return {
        "sample_auroc": metrics.auroc(scores[~poisoned], scores[poisoned]),
        "samples_caught": flagged[poisoned].mean().item(),
        "samples_flagged": flagged[~poisoned].mean().item(),
        "samples_flagged_control": control.flagged.double().mean().item(),
    }


def isolation_metrics(rows: Tensor, poisoned: Tensor) -> dict[str, float | None]:
    """How many of the images set aside in training are poisoned, and how much of the poison that is.

    Empty where no image is poisoned, and where none was set aside.

    Args:
        rows: int64 ``(k,)``. poisoned: bool ``(n,)``.
    """
    if not poisoned.any() or not len(rows):
        return {}
    right = poisoned[rows.to(poisoned.device)].double()
    return {
        "isolation_precision": right.mean().item(),
        "isolation_recall": (right.sum() / poisoned.sum()).item(),
    }


def recovered_trigger(found: Detection) -> RecoveredTrigger | None:
    """The trigger of the most suspected class, of a detection that searches for triggers."""
    if found.trigger_classes is None or found.patterns is None or found.masks is None:
        return None
    row = int(found.class_scores[found.trigger_classes].argmax())
    return RecoveredTrigger(found.patterns[row : row + 1], found.masks[row : row + 1])


def with_trigger(x: Tensor, found: RecoveredTrigger, row: int = 0) -> Tensor:
    """uint8 images with a recovered trigger: pasted by its mask, or added."""
    images = as_floats(x)
    pattern = found.patterns[row].to(x.device)
    if found.masks is None:
        changed = images + pattern
    else:
        mask = found.masks[row].to(x.device)
        changed = (1 - mask) * images + mask * pattern
    return (changed.clamp(0, 1) * 255).round().to(torch.uint8)


def strength(found: RecoveredTrigger, row: int = 0) -> Tensor:
    """How much a recovered trigger may change each pixel, ``(h, w)``: its mask, or its largest channel."""
    return found.patterns[row].abs().amax(0) if found.masks is None else found.masks[row, 0]


def overlap(found: RecoveredTrigger, truth: Tensor, row: int = 0) -> float:
    """IoU of the pixels that a recovered trigger changes at least half as much as its strongest, and the true ones.

    Args:
        truth: bool ``(h, w)``, pixels that the true trigger changes.
    """
    strong = strength(found, row).to(truth.device)
    mine = (strong >= strong.max() / 2) & (strong > 0)
    return ((mine & truth).sum() / (mine | truth).sum().clamp_min(1)).item()


def trigger_metrics(
    found: RecoveredTrigger, model: Classifier, test: ImageSet, threat: Backdoor
) -> dict[str, float | None]:
    """What a recovered trigger does to the undefended model, and how well it lies on the true one.

    ``recovered_asr``: share of the test images under attack that it sends to the true target. Empty of an all-to-all
    backdoor, which has no one target.
    """
    target = threat.target_class
    if target is None:
        return {}
    others = test[threat.attacked(test.y)]
    changed = (threat.trigger(others.x) != others.x).flatten(0, 1).any(0)
    hits = predict(model, with_trigger(others.x, found)) == target
    return {"recovered_asr": hits.double().mean().item(), "recovered_iou": overlap(found, changed)}
