"""What a repair's flags are worth, and what it changed: measured and recorded by the experimenter."""

import torch
from torch import Tensor

from poisonlab.context import Context
from poisonlab.measure import metrics
from poisonlab.models.base import Classifier, predict
from poisonlab.records import artifacts
from poisonlab.types import FATES, Flags, ImageSet

SHOWN = 96  # flagged images of a gallery
POINTS = 200  # of the precision-recall curve


def flag_metrics(found: Flags, bad: Tensor, train: ImageSet) -> dict[str, float | None]:
    """How well the flags meet the corrupted or poisoned rows, and how well the images brought back were chosen.

    Args:
        bad: bool ``(n,)``, of the training set before any change.
        train: with the true labels.

    Returns:
        ``flagged``: their share of the training set. ``flag_auroc``, ``flag_precision``, ``flag_recall``.
        ``returned_clean``: share of the returned images that are clean. ``relabeled_right``: share of the relabeled
        ones that are given their true label. Empty where the repair saw another set than this one.
    """
    if len(found.scores) != len(bad):
        return {}
    bad = bad.cpu()
    rows = found.rows.cpu()
    measured: dict[str, float | None] = {"flagged": len(rows) / len(bad)}
    right = bad[rows].double()
    if bad.any():
        scores = found.scores.cpu()
        measured["flag_auroc"] = metrics.auroc(scores[~bad], scores[bad])
        measured["flag_recall"] = (right.sum() / bad.sum()).item()
    if len(rows) and bad.any():
        measured["flag_precision"] = right.mean().item()
    returned, relabeled = (found.fate.cpu() == FATES.index(name) for name in ("returned", "relabeled"))
    if returned.any():
        measured["returned_clean"] = 1 - right[returned].mean().item()
    if relabeled.any():
        truth = train.y.cpu()[rows[relabeled]]
        measured["relabeled_right"] = (found.labels.cpu()[relabeled] == truth).double().mean().item()
    return measured


def show_flags(found: Flags, bad: Tensor, suspects: ImageSet, train: ImageSet, ctx: Context) -> None:
    """Flagged images along their ranks, and precision and recall of flagging more or fewer.

    Args:
        suspects, train: the training set as the defender has it, and as it was.
    """
    if len(found.scores) != len(bad) or not len(found.rows) or not bool(bad.any()):
        return
    bad = bad.cpu()
    scores = found.scores.cpu()
    rows = found.rows.cpu()
    hits = bad[scores.argsort(descending=True, stable=True)].double().cumsum(0)
    flagged = torch.linspace(1, len(bad), min(POINTS, len(bad))).round().long()
    caught = hits[flagged - 1]
    place = torch.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).round().long()
    seen = rows[place]
    fate = found.fate.cpu()
    counts = torch.tensor(
        [[int(((fate == f) & (bad[rows] == b)).sum()) for b in (False, True)] for f in range(3)]
    )
    where = seen.to(suspects.y.device)
    ctx.artifact(
        "flag_review",
        artifacts.FlagReview(
            clean=scores[~bad],
            bad=scores[bad],
            flagged=flagged,
            precision=(caught / flagged).float(),
            recall=(caught / bad.sum()).float(),
            chosen=len(rows),
            counts=counts,
            images=suspects.x[where],
            rank=place + 1,
            score=scores[seen],
            fate=fate[place],
            given=suspects.y[where],
            true=train.y[where],
            used=found.labels.cpu()[place],
            is_bad=bad[seen],
            classes=list(train.classes),
        ),
    )


def confusion(model: Classifier, test: ImageSet) -> Tensor:
    """Test images by true class and answer, int64 ``(classes, classes)``."""
    classes = len(test.classes)
    pairs = test.y * classes + predict(model, test.x)
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def show_confusion(before: Classifier, after: Classifier, test: ImageSet, ctx: Context) -> None:
    """What the repair changed in the answers to each class."""
    change = artifacts.ConfusionChange(confusion(before, test), confusion(after, test), list(test.classes))
    ctx.artifact("confusion", change)
