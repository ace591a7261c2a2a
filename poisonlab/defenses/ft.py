"""Fine-tuning on trusted images: the baseline, and the recipe that other repairs share."""

import copy
import dataclasses

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.events import Event, Metric
from poisonlab.models.base import Classifier
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, TrainingConfig, param
from poisonlab.training.loop import TrainingHook, train_network
from poisonlab.types import ImageSet

BENCH = "BackdoorBench"
HOLDS_CLEAN_IMAGES = "Defender holds the trained model and a few percent of clean images."
NO_FLIPS = {"digits": False, "gtsrb": False}
QUICK_STEPS = (
    "The preset quick has smaller batches and far fewer steps. They are larger, but smaller on CIFAR-10, whose victims "
    "a few hundred images would spoil."
)


class FTConfig(Config):
    epochs: int = param(100, "Passes over the clean images", quick=20, ge=1, le=1000, source=BENCH)
    batch_size: int = param(
        256, "Images in a step", quick={"*": 32, "digits": 16}, ge=2, le=4096, unit="images", source=BENCH
    )
    lr: float = param(
        0.01,
        "Learning rate at the start, falling as a cosine",
        quick={"*": 0.05, "cifar10": 0.005},
        gt=0,
        le=10,
        source=BENCH,
    )
    momentum: float = param(0.9, "Nesterov momentum", ge=0, lt=1, source=BENCH)
    weight_decay: float = param(5e-4, "L2 weight decay on all parameters", ge=0, le=0.1, source=BENCH)
    crop_padding: int = param(
        4,
        "Random crop after padding by this much; 0 for none",
        quick=1,
        ge=0,
        le=16,
        unit="pixels",
        source=BENCH,
    )
    flip: bool = param(
        True,
        "Mirror images left to right half of the time",
        quick={"*": True} | NO_FLIPS,
        elsewhere=NO_FLIPS,
        source=f"{BENCH}, which mirrors CIFAR-10 only",
    )


def fine_tune(
    model: Classifier,
    clean: ImageSet,
    config: FTConfig,
    ctx: Context,
    hook: TrainingHook | None = None,
    label_smoothing: float = 0.0,
) -> None:
    """Train all of ``model`` in place on the clean images; it ends in eval mode, without gradients."""
    recipe = TrainingConfig(
        epochs=config.epochs,
        batch_size=config.batch_size,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        schedule="cosine",
        label_smoothing=label_smoothing,
        crop_padding=config.crop_padding,
        flip=config.flip,
    )
    train_network(model.requires_grad_(True), clean, recipe, ctx, hook)
    model.requires_grad_(False)


def named(ctx: Context, who: str) -> Context:
    """The same context, its metrics under names of their own: for a method that trains more than one network."""

    def send(event: Event) -> None:
        ctx.send(
            dataclasses.replace(event, name=f"{who}_{event.name}") if isinstance(event, Metric) else event
        )

    return dataclasses.replace(ctx, send=send)


@defense("ft")
class FT(Defense):
    """min over w of L(f(x; w), y) on the clean images, from the backdoored weights.

    Batch norm is in train mode: statistics of the batch, and the running ones move for good.
    """

    Config = FTConfig
    card = Card(
        title="Fine-tuning",
        references=(
            Reference(
                authors="B. Wu et al.",
                title="BackdoorBench: A Comprehensive Benchmark of Backdoor Learning",
                venue="NeurIPS",
                year=2022,
                arxiv="2206.12654",
                role="as in",
            ),
        ),
        summary="Train a little longer, on trusted images only, and hope that the model forgets the backdoor. It often "
        "does not: nothing in clean images speaks against the trigger. Every repair should beat this.",
        threat_model=HOLDS_CLEAN_IMAGES,
        deviations=(
            "Nesterov momentum, that of the common training loop.",
            QUICK_STEPS,
        ),
    )

    def repair(self, model: Classifier, clean: ImageSet, ctx: Context) -> Repair:
        tuned = copy.deepcopy(model)
        fine_tune(tuned, clean, self.config, ctx)
        return Repair(tuned)
