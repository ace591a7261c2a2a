"""Fine-pruning: cut the channels that sleep on clean images, then fine-tune."""

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.ft import HOLDS_CLEAN_IMAGES, FTConfig, fine_tune
from poisonlab.models.base import Classifier, extract
from poisonlab.records import artifacts
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.training.loop import TrainingHook
from poisonlab.types import ImageSet


class FPConfig(FTConfig):
    accuracy_drop: float = param(
        0.1,
        "Pruning stops before the accuracy on the clean images has fallen by this share of itself",
        ge=0,
        le=1,
        source="BackdoorBench",
    )
    prune_step: float = param(0.01, "Share of the channels cut at a time", gt=0, le=1, source="BackdoorBench")


def pruning_curve(
    features: Tensor, y: Tensor, head: nn.Linear, order: Tensor, step: int
) -> tuple[Tensor, Tensor]:
    """Numbers of pruned channels ``(s,)`` and the accuracy at each ``(s,)``.

    Args:
        features: activations ``(n, d)``.
        order: channels ``(d,)``, the first to go first.
    """
    counts = torch.arange(0, len(order), step)
    kept = features.clone()
    accuracies = []
    for count in counts.tolist():
        kept[:, order[:count]] = 0
        accuracies.append((head(kept).argmax(1) == y).double().mean())
    return counts, torch.stack(accuracies).cpu()


def last_allowed(accuracy: Tensor, drop: float) -> int:
    """The position before the first at which accuracy has fallen by the share ``drop`` of what it was, or more.

    Args:
        accuracy: ``(s,)``, the first before any pruning, which is always allowed.
    """
    fallen = (accuracy[0] - accuracy) / accuracy[0]
    kept = fallen < drop
    kept[0] = True
    return int(kept.long().cumprod(0).sum()) - 1


class StayPruned(TrainingHook):
    """Pruned channels get no gradient from the head, so that fine-tuning does not wake them."""

    def __init__(self, pruned: Tensor) -> None:
        self.pruned = pruned

    def backward(self, model: nn.Module, forward: Callable[[], Tensor]) -> Tensor:
        loss = super().backward(model, forward)
        assert isinstance(model, Classifier)
        gradient = model.head.weight.grad
        assert gradient is not None  # the whole network is fine-tuned
        gradient[:, self.pruned] = 0
        return loss


@defense("fp")
class FP(Defense):
    """Liu, Dolan-Gavitt and Garg, RAID 2018, arXiv:1805.12185:

    1. mean activation of each channel of the last convolutional block over the clean images;
    2. channels are cut from the least active on, until the clean accuracy would fall too far;
    3. what remains is fine-tuned.

    Batch norm is in eval mode in steps 1 and 2 and in train mode in step 3.
    """

    Config = FPConfig
    card = Card(
        title="Fine-pruning",
        references=(
            Reference(
                authors="K. Liu, B. Dolan-Gavitt, S. Garg",
                title="Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks",
                venue="RAID",
                year=2018,
                arxiv="1805.12185",
            ),
        ),
        summary="Neurons that answer to the trigger have nothing to do on clean images. Cut the sleepiest channels of "
        "the last block as long as accuracy allows, then fine-tune what is left.",
        threat_model=HOLDS_CLEAN_IMAGES,
        deviations=(
            "A channel's activation is its pooled feature, the one number that the head reads; it is cut by zeroing "
            "the head's weights for it, so the network keeps its shape.",
            "The accuracy that stops pruning is measured on the defender's images, not on test images, and only a fall "
            "of it counts. BackdoorBench stops at a rise as large, too.",
            "Fine-tuning starts from the last network whose accuracy held. BackdoorBench cuts one channel fewer than "
            "it counts, and starts from the first whose accuracy did not hold: its copies are one object.",
            "Nesterov momentum, that of the common training loop.",
        ),
    )

    def repair(self, model: Classifier, clean: ImageSet, ctx: Context) -> Repair:
        cfg = self.config
        tuned = copy.deepcopy(model).requires_grad_(False)
        features = extract(tuned, clean.x)
        order = features.mean(0).argsort(stable=True)  # the least active first
        step = math.ceil(cfg.prune_step * len(order))
        counts, accuracy = pruning_curve(features, clean.y, tuned.head, order, step)
        pruned = order[: int(counts[last_allowed(accuracy, cfg.accuracy_drop)])]
        tuned.head.weight[:, pruned] = 0
        ctx.log(f"pruned {len(pruned)} of {len(order)} channels")
        ctx.artifact(
            "pruning",
            artifacts.Curve(
                counts.float(),
                accuracy.float()[None],
                ["accuracy on the clean images"],
                "pruned channels",
                "accuracy",
            ),
        )
        fine_tune(tuned, clean, cfg, ctx, StayPruned(pruned))
        return Repair(tuned)
