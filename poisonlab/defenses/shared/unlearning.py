"""Clean unlearning: gradient ascent on clean images until a model has forgotten them (RNP, TSBD).

The backdoor is not on the way: triggered images keep their answer, which is what both defenses exploit.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.models.base import Classifier, accuracy, as_floats, predict
from poisonlab.records import artifacts
from poisonlab.training.augmentation import augment
from poisonlab.training.loop import batches, evaluation_is_due, fit, steps_in_epoch
from poisonlab.types import ImageSet


@dataclass(frozen=True)
class Unlearning:
    """How far and how fast.

    Attributes:
        milestones: epochs after which the learning rate falls to a tenth.
        stop_at: the ascent ends with the first epoch whose accuracy is at most this.
        counted: that accuracy is taken on the way, in train mode (RNP), or of the network after the epoch, in eval
            mode on images augmented anew (TSBD).
    """

    lr: float
    momentum: float
    weight_decay: float
    milestones: tuple[int, ...]
    epochs: int
    batch_size: int
    stop_at: float
    crop_padding: int
    flip: bool
    counted: Literal["on the way", "after"] = "on the way"

    @classmethod
    def of(
        cls,
        config: Any,
        classes: int,
        *,
        weight_decay: float = 0.0,
        milestones: tuple[int, ...] = (),
        counted: Literal["on the way", "after"] = "on the way",
    ) -> Self:
        """What the config of a defense that unlearns says, by the names that such configs share.

        Args:
            classes: how many; the ascent ends at a multiple of chance accuracy.
        """
        return cls(
            lr=config.unlearn_lr,
            momentum=config.momentum,
            weight_decay=weight_decay,
            milestones=milestones,
            epochs=config.unlearn_epochs,
            batch_size=config.batch_size,
            stop_at=config.stop_chance / classes,
            crop_padding=config.crop_padding,
            flip=config.flip,
            counted=counted,
        )


def unlearn(model: Classifier, clean: ImageSet, how: Unlearning, ctx: Context) -> Classifier:
    """A copy of ``model`` after  max_theta L(f(x), y)  on clean images, with batch norm in train mode."""
    network = copy.deepcopy(model).requires_grad_(True).train()
    per_epoch = steps_in_epoch(len(clean), how.batch_size)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=how.lr, momentum=how.momentum, weight_decay=how.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [m * per_epoch for m in how.milestones])
    draws = ctx.generator("unlearning")
    right = torch.zeros((), device=ctx.device)

    def augmented(x: Tensor) -> Tensor:
        return augment(x, how.crop_padding, how.flip, draws)

    def prepare(index: Tensor) -> tuple[Tensor, Tensor]:
        return as_floats(augmented(clean.x[index])), clean.y[index]

    def ascent(logits: Tensor, y: Tensor) -> Tensor:
        right.add_((logits.argmax(1) == y).sum())
        return -F.cross_entropy(logits.float(), y)

    def counted_accuracy() -> float:
        if how.counted == "on the way":
            return right.item() / len(clean)
        network.eval()
        after = accuracy(network, augmented(clean.x), clean.y)
        network.train()
        return after

    def steps() -> Iterator[Tensor]:
        ctx.observe("unlearning", 0, model)
        for epoch in range(1, how.epochs + 1):
            right.zero_()
            yield from batches(len(clean), how.batch_size, 1, draws)
            kept = counted_accuracy()
            ctx.metric("unlearning_accuracy", epoch, kept)
            forgotten = kept <= how.stop_at
            if forgotten or evaluation_is_due(epoch, how.epochs):
                ctx.observe("unlearning", epoch, network)
            if forgotten:
                return
        ctx.log(f"unlearning stopped after {how.epochs} epochs at accuracy {kept:.2f}", "warning")

    fit(network, prepare, ascent, optimizer, schedule, steps(), how.epochs * per_epoch, ctx)
    return network.eval().requires_grad_(False)


def show_predictions(model: Classifier, unlearned: Classifier, clean: ImageSet, ctx: Context) -> None:
    """What the model says of the defender's images before and after it unlearned them."""
    before, after = (
        predict(m, clean.x).bincount(minlength=len(clean.classes)).cpu() for m in (model, unlearned)
    )
    ctx.artifact("unlearned_predictions", artifacts.PredictionHistogram(before, after, list(clean.classes)))
