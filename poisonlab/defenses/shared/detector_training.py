"""Networks that a detector trains itself, on the images under suspicion: it owns these, and knows how to train."""

import copy
import dataclasses
from typing import Literal

import torch

from poisonlab.context import Context
from poisonlab.events import Event, Metric, Progress
from poisonlab.models.base import Classifier, initialize
from poisonlab.spec.config import TrainingConfig, param
from poisonlab.training.loop import TrainingHook, train_network
from poisonlab.types import ImageSet

BENCH = "BackdoorBench recipe"


class OwnTrainingConfig(TrainingConfig):
    """The recipe of the detector's own networks; the preset quick has the datasets' quick recipes."""

    epochs: int = param(
        100,
        "Own networks: passes over their images",
        quick={"*": 8, "digits": 20, "gtsrb": 40, "cifar100": 24, "cinic10": 20, "tiny_imagenet": 60},
        ge=1,
        le=1000,
        source=BENCH,
    )
    batch_size: int = param(
        128,
        "Own networks: images in a step",
        quick={"*": 128, "digits": 50, "gtsrb": 64, "tiny_imagenet": 32},
        ge=2,
        le=4096,
        unit="images",
        source=BENCH,
    )
    lr: float = param(
        0.1,
        "Own networks: peak learning rate",
        quick={"*": 0.2, "digits": 0.1, "tiny_imagenet": 0.1},
        gt=0,
        le=10,
        source=BENCH,
    )
    schedule: Literal["cosine", "one_cycle", "constant", "steps"] = param(
        "cosine", "Own networks: learning rate over the steps", quick="one_cycle", source=BENCH
    )
    crop_padding: int = param(
        4, "Own networks: random crop after padding by this much", quick=1, ge=0, le=16, unit="pixels"
    )
    flip: bool = param(
        True, "Own networks: images may be mirrored", quick={"*": True, "digits": False, "gtsrb": False}
    )


def train_anew(
    model: Classifier,
    data: ImageSet,
    recipe: TrainingConfig,
    ctx: Context,
    hook: TrainingHook | None = None,
    part: int = 0,
    parts: int = 1,
) -> Classifier:
    """A network of ``model``'s architecture trained on ``data`` from a new start, in eval mode and frozen.

    Args:
        part, parts: this is training ``part``, from 0 on, of ``parts``; progress covers all of them.
    """
    network = drawn_anew(model, ctx, part)
    train_network(network, data, recipe, part_of(ctx, part, parts), hook)
    return network.requires_grad_(False)


def part_of(ctx: Context, part: int, parts: int, curve: bool = False) -> Context:
    """The same for one of several trainings: progress covers all of them.

    Args:
        curve: whether its loss is shown; that of a network that is thrown away tells nothing.
    """

    def send(event: Event) -> None:
        if isinstance(event, Progress):
            total = event.total
            event = dataclasses.replace(event, step=part * total + event.step, total=parts * total)
        if curve or not isinstance(event, Metric):
            ctx.send(event)

    return dataclasses.replace(ctx, send=send)


def drawn_anew(model: Classifier, ctx: Context, part: int = 0) -> Classifier:
    """An untrained network of ``model``'s architecture, all of it to be trained; another one for each ``part``."""
    one_order = torch.contiguous_format  # of draws
    network = copy.deepcopy(model).requires_grad_(True).to(memory_format=one_order)
    return initialize(network, ctx.generator("own network", str(part)))
