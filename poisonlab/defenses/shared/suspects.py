"""What repairs that flag training images share: their parameters, the rest of the set, soft labels, the record."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.ft import NO_FLIPS, FTConfig, fine_tune
from poisonlab.defenses.shared.ewc import InfluenceConfig
from poisonlab.models.base import Classifier
from poisonlab.spec.config import param
from poisonlab.training.loop import TrainingHook
from poisonlab.types import FATES, Flags, ImageSet

OURS = "ours; Tanno et al. 2022 use Adam with 0.001 and stop early"
KEPT_OUT, RETURNED, RELABELED = range(len(FATES))


class SuspectsConfig(FTConfig, InfluenceConfig):
    """Flagging, then fine-tuning on what is left of the training set."""

    epochs: int = param(
        20, "Passes of the fine-tuning", quick={"*": 4, "digits": 10}, ge=1, le=1000, source=OURS
    )
    batch_size: int = param(
        128,
        "Images in a step of it",
        quick={"*": 128, "digits": 50},
        ge=2,
        le=4096,
        unit="images",
        source=OURS,
    )
    lr: float = param(
        0.01, "Its learning rate at the start, falling as a cosine", quick=0.05, gt=0, le=10, source=OURS
    )
    crop_padding: int = param(
        4,
        "Random crop after padding by this much; 0 for none",
        quick=1,
        ge=0,
        le=16,
        unit="pixels",
        source="ours; the paper does not augment",
    )
    flip: bool = param(
        True,
        "Mirror images left to right half of the time",
        quick={"*": True} | NO_FLIPS,
        elsewhere=NO_FLIPS,
        source="ours; the paper does not augment",
    )


def without(data: ImageSet, rows: Tensor) -> ImageSet:
    """D minus C."""
    keep = torch.ones_like(data.y, dtype=torch.bool)
    keep[rows] = False
    return data[keep]


class SoftLabels(TrainingHook):
    """Cross-entropy with a distribution for each row, float ``(n, classes)``, in place of its label."""

    def __init__(self, targets: Tensor) -> None:
        self.targets = targets

    def batch(self, x: Tensor, y: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        self.rows = index
        return x, y

    def loss(self, logits: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
        return F.cross_entropy(logits, self.targets[self.rows], label_smoothing=label_smoothing)


def soft_labels(hard: ImageSet, soft: Tensor) -> SoftLabels:
    """One-hot labels of ``hard`` followed by the distributions ``soft``, for the set that joins both."""
    return SoftLabels(torch.cat([F.one_hot(hard.y, soft.shape[1]).to(soft), soft]))


def tuned(
    model: Classifier, data: ImageSet, config: FTConfig, ctx: Context, hook: TrainingHook | None = None
) -> Classifier:
    """A copy of ``model`` fine-tuned on ``data``; the same data and seed give the same weights.

    Raises:
        ValueError: so much was flagged that no batch is left.
    """
    if len(data) < 2:
        raise ValueError(f"only {len(data)} images are left to fine-tune on; lower flag_share")
    moved = copy.deepcopy(model)
    fine_tune(moved, data, config, ctx, hook)
    return moved


def flagged_images(scores: Tensor, rows: Tensor, fate: Tensor, labels: Tensor, ctx: Context) -> Flags:
    """What became of each flagged image; the log counts them by fate.

    Args:
        scores: float ``(n,)``, of all suspects.
        rows, fate, labels: int64 ``(k,)``: who was flagged, one of the fates above, and the label trained with, -1 for
            an image that was kept out.
    """
    counts = ", ".join(f"{int((fate == number).sum())} {name}" for number, name in enumerate(FATES))
    ctx.log(f"{len(rows)} of {len(scores)} training images flagged: {counts}")
    return Flags(scores, rows, fate, labels)


def kept_out(scores: Tensor, rows: Tensor, ctx: Context) -> Flags:
    """:func:`flagged_images` of a repair that uses no flagged image as it is."""
    return flagged_images(scores, rows, torch.full_like(rows, KEPT_OUT), torch.full_like(rows, -1), ctx)


def state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all tensors of a model."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
