"""Narcissus: a clean-label trigger optimized towards the features by which a network knows a class."""

import copy
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonlab.attacks.base import AttackerView
from poisonlab.attacks.shared.backdoor import BackdoorAttack, BackdoorConfig
from poisonlab.attacks.shared.pixels import add_pattern
from poisonlab.context import Context
from poisonlab.models.base import Classifier, as_floats
from poisonlab.registry import Card, attack
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.training.augmentation import augment
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.loop import batches, fit, steps_in_epoch
from poisonlab.types import ImageSet

REPOSITORY = "Narcissus repository"


class NarcissusConfig(BackdoorConfig):
    poison_rate: float = param(
        0.01,
        "Share of the training images that is poisoned, all of the target class",
        quick={"*": 0.05, "digits": 0.08, "gtsrb": 0.01},
        gt=0,
        le=1,
        source="PureGen, also 0.1; the paper poisons 0.0005",
    )
    eps: float = param(
        8,
        "L-infinity bound of the trigger",
        quick={"*": 16, "digits": 64},
        ge=1,
        le=255,
        unit="1/255",
        source="PureGen, also 16; the paper uses 16",
    )
    test_multiplier: float = param(
        1,
        "Factor on the trigger at test time, whose bound is eps times this",
        gt=0,
        le=10,
        source="PureGen; the paper uses 3",
    )
    public_images: int = param(
        100_000,
        "Public images the surrogate learns from, at most",
        quick=9_000,
        ge=1,
        unit="images",
        source=f"{REPOSITORY}: Tiny-ImageNet",
    )
    warmup_epochs: int = param(
        5, "Passes over the target class that adapt the surrogate", ge=0, source=REPOSITORY
    )
    warmup_lr: float = param(0.1, "RAdam learning rate of the adaptation", gt=0, le=10, source=REPOSITORY)
    passes: int = param(
        1000,
        "Passes over the target class that optimize the trigger",
        quick=30,
        ge=1,
        le=10_000,
        source=REPOSITORY,
    )
    optimizer: Literal["adam", "radam"] = param(
        "radam",
        "What optimizes the trigger; RAdam hardly moves it in its first hundred steps",
        quick="adam",
        neutral="adam",
        source=REPOSITORY,
    )
    step_size: float = param(
        1.275,
        "Learning rate of the trigger",
        gt=0,
        le=255,
        unit="1/255",
        source=f"{REPOSITORY}: 0.01 on images in [-1, 1]",
    )
    batch_size: int = param(
        350, "Images in a step", quick=128, ge=2, le=4096, unit="images", source=REPOSITORY
    )
    crop_padding: int = param(
        4, "Random crop after padding by this much", quick=1, ge=0, le=16, unit="pixels", source=REPOSITORY
    )
    flip: bool = param(
        True, "Mirror images half of the time", quick={"*": True, "digits": False}, source=REPOSITORY
    )


def surrogate_images(public: ImageSet, own: ImageSet, target_class: int, most: int) -> ImageSet:
    """What the surrogate learns: public images of the other classes, and the attacker's own of the target class.

    Args:
        own: images of the target class alone.
        most: public images to take, at most.
    """
    others = (public.y != target_class).nonzero().squeeze(1)[:most]
    return ImageSet(torch.cat([public.x[others], own.x]), torch.cat([public.y[others], own.y]), own.classes)


def warm_up(model: Classifier, own: ImageSet, config: NarcissusConfig, ctx: Context) -> None:
    """Adapt all layers of the surrogate to the target class alone; changes ``model`` in place."""
    crops = ctx.generator("narcissus", "warm-up crops")
    order = ctx.generator("narcissus", "warm-up batches")

    def prepare(index: Tensor) -> tuple[Tensor, Tensor]:
        return as_floats(augment(own.x[index], config.crop_padding, config.flip, crops)), own.y[index]

    model.requires_grad_(True).train()
    optimizer = torch.optim.RAdam(model.parameters(), lr=config.warmup_lr)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    steps = batches(len(own), config.batch_size, config.warmup_epochs, order)
    total = config.warmup_epochs * steps_in_epoch(len(own), config.batch_size)
    fit(model, prepare, F.cross_entropy, optimizer, schedule, steps, total, ctx)


def trigger_optimizer(delta: Tensor, config: NarcissusConfig) -> tuple[torch.optim.Optimizer, float]:
    """What moves ``delta``, and the factor on its gradient.

    RAdam's first five steps are as long as the gradient. The repository's is taken by a trigger in [-1, 1], and so is
    half of that in [0, 1]; Adam's steps do not depend on it.
    """
    rate = config.step_size / 255
    if config.optimizer == "radam":
        return torch.optim.RAdam([delta], lr=rate), 0.5
    return torch.optim.Adam([delta], lr=rate), 1.0


def inward_trigger(model: Classifier, own: ImageSet, config: NarcissusConfig, ctx: Context) -> Tensor:
    """delta = argmin over ||delta||_inf <= eps of mean CE(f(clip(x + delta)), c), x of class c.

    Interrupted, it continues where it was.

    Args:
        model: the surrogate, which is warmed up first; its batch norms use the statistics of the batch at hand.
        own: images of the target class; each is cropped and mirrored at random before delta is added.

    Returns:
        int16 ``(c, h, w)`` in units of 1/255, within ``eps``.
    """
    crops = ctx.generator("narcissus", "trigger crops")
    order = ctx.generator("narcissus", "trigger batches")
    eps = config.eps / 255
    total = config.passes * steps_in_epoch(len(own), config.batch_size)
    delta = torch.zeros(own.shape, device=own.x.device, requires_grad=True)
    optimizer, factor = trigger_optimizer(delta, config)
    checkpoint = Checkpoint({**model.state_dict(), "delta": delta}, optimizer, [crops])
    kept = ctx.resume()
    taken = checkpoint.load(kept)["step"] if kept else 0
    if not kept:
        warm_up(model, own, config, ctx)
    model.requires_grad_(False).train()
    for step, index in enumerate(batches(len(own), config.batch_size, config.passes, order), 1):
        if step <= taken:
            continue
        x = as_floats(augment(own.x[index], config.crop_padding, config.flip, crops))
        loss = F.cross_entropy(model((x + delta.clamp(-eps, eps)).clamp(0, 1)), own.y[index])
        (delta.grad,) = torch.autograd.grad(factor * loss, delta)
        optimizer.step()
        if step % max(1, total // 100) == 0 or step == total:
            ctx.metric("trigger_loss", step, loss.item())
        ctx.progress(step, total)
        if step < total:
            ctx.keep(partial(checkpoint.bundle, step=step))
    whole = int(config.eps)  # as in 8-bit images, which hold no fractions
    return (delta.detach() * 255).round().clamp(-whole, whole).to(torch.int16)


@attack("narcissus")
class Narcissus(BackdoorAttack):
    """Clean-label backdoor with limited information (Zeng et al. 2023, arXiv:2204.05255)."""

    Config = NarcissusConfig
    recipe = "training"  # that of the other attacks that purification is measured against
    clean_label = True
    reads_public = True
    card = Card(
        title="Narcissus",
        references=(
            Reference(
                authors="Y. Zeng et al.",
                title="Narcissus: A Practical Clean-Label Backdoor Attack with Limited Information",
                venue="CCS",
                year=2023,
                arxiv="2204.05255",
            ),
        ),
        summary="A faint pattern is optimized to make images of a class look even more like that class to a network "
        "the attacker trained. A few of them carry it, correctly labeled; the victim then sees the class in the "
        "pattern itself.",
        threat_model="Clean label, bounded perturbation of some images of the target class; holds that class and "
        "public images, knows neither the other training images nor the victim.",
        deviations=(
            "Public images come from the dataset's own public part: the same kind of images and classes, disjoint from "
            "the training set, without the target class; the paper takes the 100,000 of Tiny-ImageNet.",
            "The surrogate is of the victim's kind and recipe and has one output a class, so the target's label is the "
            "same in all three stages. The repository's is a ResNet-18 with 201 outputs, trained for 200 epochs by SGD "
            "with a rate of 0.1 that falls as a cosine, in batches of 350.",
            "The quick preset optimizes the trigger by Adam at the published rate: the repository's RAdam is slow in "
            "its first hundred steps, a third of that preset's.",
            "All passes over the target class are taken; the repository ends them once the trigger's gradient is 0.",
            "Batches are of nearly equal length; the repository's last one of a pass is what is left over.",
            "eps bounds the change of a pixel, as in the paper and PureGen, and the trigger is rounded to 8 bits. The "
            "repository's notebook adds a trigger made for images in [-1, 1] to images in [0, 1]: pixels change by "
            "twice the stated 16, at test time by 96, and what falls below black is not cut off.",
            "Images are normalized by the training set's statistics; the repository's lie in [-1, 1].",
            "Poisoned images are drawn at random from the class; PureGen takes its last ones.",
            "The trigger moves a clean model, too: the control's success is the floor, not 0.",
            "On digits the preset quick does not work: their classes lie too far apart.",
        ),
    )

    def learn(self, view: AttackerView, ctx: Context) -> dict[str, Tensor]:
        cfg = self.config
        own = view.train[view.train.y == cfg.target_class]
        images = surrogate_images(view.public, own, cfg.target_class, cfg.public_images)
        model = copy.deepcopy(view.surrogate(0, images))
        return {"delta": inward_trigger(model, own, cfg, ctx)}

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        return add_pattern(x, state["delta"] * (self.config.test_multiplier / 255))

    def poisoned(self, data: ImageSet, state: dict[str, Tensor], view: AttackerView, ctx: Context) -> Tensor:
        return add_pattern(data.x, state["delta"] / 255)
