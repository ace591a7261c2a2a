"""NPD: one small layer in a frozen network learns to stop what a change of an image carries to another class."""

import copy
import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.ft import HOLDS_CLEAN_IMAGES, named
from poisonlab.models.base import Classifier, as_floats
from poisonlab.models.shared.hooks import hooked
from poisonlab.models.shared.inserted import Polarizer, insert, is_there
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param
from poisonlab.training.loop import Minimizer, batches, evaluation_is_due, steps_in_epoch
from poisonlab.types import ImageSet

BENCH = "BackdoorBench, by the paper's first author"
SIDE = 32  # of the images that the radius is given for
ABOVE_ONE = 1.0001  # p is taken from this before the logarithm
NEVER = -math.inf  # a class with this logit is not chosen


class NPDConfig(Config):
    epochs: int = param(50, "Passes over the clean images after the warm-up", ge=1, le=1000, source=BENCH)
    warmup_epochs: int = param(
        5,
        "Passes before, on clean images alone, in which the layer's batch norm collects its statistics",
        quick=0,
        elsewhere={"tiny_imagenet": 0},
        ge=0,
        le=1000,
        source=BENCH,
    )
    batch_size: int = param(
        128, "Images in a step", quick={"*": 32, "digits": 16}, ge=2, le=4096, unit="images", source=BENCH
    )
    lr: float = param(0.01, "Learning rate", gt=0, le=10, source=f"{BENCH}: constant in its code")
    warmup_lr: float = param(1e-4, "Learning rate of the warm-up", gt=0, le=10, source=BENCH)
    momentum: float = param(0.9, "Momentum", ge=0, lt=1, source=BENCH)
    weight_decay: float = param(
        5e-4, "L2 weight decay, which draws the layer to zero", ge=0, le=0.1, source=BENCH
    )
    radius: float = param(
        3.0,
        "Largest L2 norm of a change of a 32x32 image in [0, 1]; scaled with the side",
        elsewhere={"gtsrb": 5.0, "tiny_imagenet": 6.0 * 32 / 64},
        gt=0,
        le=100,
        source=f"{BENCH}; 6 for Tiny-ImageNet's 64x64",
    )
    step: float = param(0.1, "Step of the attack along the sign of its gradient", gt=0, le=1, source=BENCH)
    inner_steps: int = param(2, "Steps of the attack", ge=1, le=100, source=BENCH)
    enough: float = param(
        0.6, "The attack on a batch stops once this share of it is misled", ge=0, le=1, source=BENCH
    )
    lambda_1: float = param(1.0, "Weight of the loss on clean images", ge=0, le=100, source=BENCH)
    lambda_2: float = param(
        0.4,
        "Weight of keeping the answer under attack",
        elsewhere={"gtsrb": 0.5, "tiny_imagenet": 1.0},
        ge=0,
        le=100,
        source=BENCH,
    )
    lambda_3: float = param(
        0.4,
        "Weight of avoiding the likeliest wrong class under attack",
        elsewhere={"gtsrb": 0.5, "tiny_imagenet": 0.1},
        ge=0,
        le=100,
        source=BENCH,
    )
    lambda_4: float = param(
        0.4,
        "Weight of avoiding the class that the attack aimed at",
        elsewhere={"gtsrb": 0.5, "tiny_imagenet": 0.1},
        ge=0,
        le=100,
        source=BENCH,
    )


def place(model: Classifier, shape: tuple[int, int, int]) -> str | None:
    """The convolution that the layer is put before: of those that look around a pixel the last but one that is run.

    In a network of residual blocks this is the first of the last block. ``None`` if there are fewer than two.
    """
    names = {module: name for name, module in model.named_modules()}
    order: list[str] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        order.append(names[module])

    around = [m for m in names if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    handles = [module.register_forward_pre_hook(note) for module in around]
    with hooked(handles), torch.no_grad():
        model(torch.zeros(1, *shape, device=next(model.parameters()).device))
    return order[-2] if len(order) > 1 else None


def free_place(model: Classifier, shape: tuple[int, int, int]) -> str:
    """:func:`place`, where nothing stands yet.

    Raises:
        ValueError: there is no such place, or a layer stands there.
    """
    before = place(model, shape)
    if before is None:
        raise ValueError(
            "npd puts a layer before the last convolution but one, and the victim has fewer than two; choose another "
            "victim"
        )
    if is_there(model.get_submodule(before)):
        raise ValueError(
            f"npd puts a layer before {before}, where one stands already: this network was repaired by npd before; "
            "take it from before that repair, or choose another defense"
        )
    return before


def likeliest_other(logits: Tensor, y: Tensor) -> Tensor:
    """The class with the largest logit but ``y``; int64 ``(n,)``.

    The benchmark gives ``y`` a logit of -10, and so ``y`` itself where all others have less.
    """
    others: Tensor = logits.detach().scatter(1, y[:, None], NEVER)
    return others.argmax(1)


def misled(model: Classifier, x: Tensor, wished: Tensor, radius: float, config: NPDConfig) -> Tensor:
    """x + delta in [0, 1] with ||delta||_2 <= radius, led towards the ``wished`` classes.

    Args:
        x: float images in [0, 1]. model: in eval mode; its weights get no gradient.
    """
    delta = torch.zeros_like(x)
    for _ in range(config.inner_steps):
        delta.requires_grad_()
        logits = model((x + delta).clamp(0, 1))
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, wished), delta)
        moved = within(delta.detach() - config.step * gradient.sign(), radius)
        stop = (logits.argmax(1) == wished).float().mean() > config.enough
        delta = torch.where(stop, delta.detach(), moved)
    examples: Tensor = (x + delta).clamp(0, 1)
    return examples


def within(delta: Tensor, radius: float) -> Tensor:
    """Each change shortened to the L2 norm ``radius`` if it is longer."""
    norm = torch.linalg.vector_norm(delta.flatten(1), dim=1).clamp_min(1e-12)
    shortened: Tensor = delta * (radius / norm).clamp(max=1).view(-1, 1, 1, 1)
    return shortened


def _loss(model: Classifier, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x).float(), y)


def polarizing_loss(
    model: Classifier, x: Tensor, y: Tensor, examples: Tensor, wished: Tensor, config: NPDConfig
) -> Tensor:
    """L = l1 CE(f(x), y) + l2 CE(f(x'), argmax f(x)) + l3 E -log(1.0001 - p(c | x')) + l4 E -log(1.0001 - p(y' | x')).

    c: the likeliest class of x' but y. y': the class that the attack wished for.
    """
    logits = model(x).float()
    under_attack = model(examples).float()
    likely = under_attack.softmax(1)
    rival = likeliest_other(under_attack, y)

    def avoided(labels: Tensor) -> Tensor:
        each: Tensor = -(ABOVE_ONE - likely.gather(1, labels[:, None])).log()
        return each.mean()

    loss: Tensor = config.lambda_1 * F.cross_entropy(logits, y)
    loss = loss + config.lambda_2 * F.cross_entropy(under_attack, logits.detach().argmax(1))
    return loss + config.lambda_3 * avoided(rival) + config.lambda_4 * avoided(wished)


@defense("npd")
class NPD(Defense):
    """Zhu, Wei, Zha and Wu, NeurIPS 2023, arXiv:2306.16697. The network f_0 stays as it is; h, a 1x1 convolution from
    the identity and batch norm, is put before its last block's first convolution. For each batch:

    1. y' = the likeliest wrong class of x;  x' = x + delta leads to it,  ||delta||_2 <= r, by two sign steps;
    2. a step on h alone that keeps clean images, and x' from c and y', as in :func:`polarizing_loss`.

    Before, a warm-up on clean images lets the batch norm of h collect its statistics, which then rest.
    """

    Config = NPDConfig
    card = Card(
        title="Neural polarizer",
        references=(
            Reference(
                authors="M. Zhu, S. Wei, H. Zha, B. Wu",
                title="Neural Polarizer: A Lightweight and Effective Backdoor Defense via Purifying Poisoned Features",
                venue="NeurIPS",
                year=2023,
                arxiv="2306.16697",
            ),
        ),
        summary="As a polarizing filter lets light of one direction through, one small layer within the network lets "
        "pass what an image shows and stops what a change carried in. Nothing else in the network is touched.",
        threat_model=HOLDS_CLEAN_IMAGES,
        deviations=(
            "The layer stands before the last convolution but one, of those wider than 1x1, whatever the network; the "
            "benchmark's before the first one of PreAct-ResNet18's last block, which is the same there.",
            "The clean images are those of the run, in place of 5 % of each class.",
            "The likeliest wrong class is never the right one; the benchmark gives the right one a logit of -10, which "
            "others may stay below.",
            "The preset quick has smaller batches, and no warm-up, which costs its networks 5 points of accuracy.",
        ),
    )

    def check_network(self, network: Classifier, shape: tuple[int, int, int]) -> None:
        free_place(network, shape)

    def repair(self, model: Classifier, clean: ImageSet, ctx: Context) -> Repair:
        tuned = copy.deepcopy(model).eval().requires_grad_(False)
        layer = insert(tuned, free_place(tuned, clean.shape))
        tuned.to(memory_format=torch.channels_last)
        self._warm_up(tuned, layer, clean, ctx)
        self._polarize(tuned, layer, clean, ctx)
        return Repair(tuned.requires_grad_(False))

    def _warm_up(self, tuned: Classifier, layer: Polarizer, clean: ImageSet, ctx: Context) -> None:
        cfg = self.config
        steps = cfg.warmup_epochs * steps_in_epoch(len(clean), cfg.batch_size)
        minimizer = self._minimizer(tuned, layer, cfg.warmup_lr, steps, named(ctx, "warmup"))
        layer.train()
        for index in batches(len(clean), cfg.batch_size, cfg.warmup_epochs, ctx.generator("npd", "warm-up")):
            minimizer.step(partial(_loss, tuned, as_floats(clean.x[index]), clean.y[index]))
        layer.eval()

    def _polarize(self, tuned: Classifier, layer: Polarizer, clean: ImageSet, ctx: Context) -> None:
        cfg = self.config
        steps_an_epoch = steps_in_epoch(len(clean), cfg.batch_size)
        minimizer = self._minimizer(tuned, layer, cfg.lr, cfg.epochs * steps_an_epoch, ctx)
        radius = cfg.radius * clean.shape[-1] / SIDE
        for epoch in range(1, cfg.epochs + 1):
            for index in batches(len(clean), cfg.batch_size, 1, ctx.generator("npd", str(epoch))):
                x = as_floats(clean.x[index])
                y = clean.y[index]
                with torch.no_grad():
                    wished = likeliest_other(tuned(x), y)
                examples = misled(tuned, x, wished, radius, cfg)
                minimizer.step(partial(polarizing_loss, tuned, x, y, examples, wished, cfg))
            if evaluation_is_due(epoch, cfg.epochs):
                ctx.observe("polarizing", epoch, tuned)

    def _minimizer(
        self, tuned: Classifier, layer: Polarizer, lr: float, steps: int, ctx: Context
    ) -> Minimizer:
        cfg = self.config
        optimizer = torch.optim.SGD(
            layer.requires_grad_(True).parameters(),
            lr=lr,
            momentum=cfg.momentum,
            weight_decay=cfg.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
        return Minimizer(tuned, optimizer, schedule, steps, ctx)
