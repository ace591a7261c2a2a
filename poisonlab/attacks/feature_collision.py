"""Feature Collision: clean-label poisons that each share their features with a target."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from poisonlab.attacks.shared.pixels import round_within, to_bytes
from poisonlab.attacks.shared.surrogates import Surrogate, mean_gradient
from poisonlab.attacks.shared.targeted import BENCHMARK, DEVIATIONS, TargetedAttack, TargetedConfig
from poisonlab.context import Context
from poisonlab.registry import Card, attack
from poisonlab.spec.config import param
from poisonlab.spec.papers import POISON_FROGS


class FeatureCollisionConfig(TargetedConfig):
    depths: ClassVar[int] = 1  # the penultimate features alone

    bound: Literal["l_infinity", "proximal"] = param(
        "l_infinity",
        "How poisons stay near their bases: within eps, or pulled back by beta (the paper's form)",
        source="poisoning-benchmark: l_infinity; paper: proximal",
    )
    beta: float = param(
        0.25,
        "Pull of the proximal form, times (features / pixels)^2",
        ge=0,
        le=1e6,
        source="paper, section 4.1",
    )
    opacity: float = param(
        0.3,
        "Share of the target in the image that the search starts from (watermark)",
        ge=0,
        lt=1,
        source="paper, section 4.2; poisoning-benchmark",
    )
    steps: int = param(120, "Forward-backward steps", quick=60, ge=1, le=12_000, source=BENCHMARK)
    step_size: float = param(
        1e-3, "First gradient step on images in [0, 1]", quick=0.06, gt=0, le=1000, source=BENCHMARK
    )
    decay: float = param(
        0.2, "Factor on an image's step when its objective would rise", gt=0, lt=1, source=BENCHMARK
    )
    tolerance: float = param(
        1e-5, "Relative change of an image that ends its search", ge=0, lt=1, source=BENCHMARK
    )


def collision_loss(surrogate: Surrogate, target: Tensor, x: Tensor) -> Tensor:
    """||phi(x) - phi(x_t)||^2 of each image.

    Args:
        target: features ``(n, d)`` of each image's own target.
        x: float ``(n, c, h, w)`` in [0, 1].
    """
    return (surrogate.features(x)[-1] - target).square().sum(1)


@attack("feature_collision")
class FeatureCollision(TargetedAttack):
    """Forward-backward splitting on each base (Shafahi et al. 2018, arXiv:1804.00792, section 2, Algorithm 1)."""

    Config = FeatureCollisionConfig
    card = Card(
        title="Feature Collision",
        references=(POISON_FROGS,),
        summary="Each poison keeps the look of its class but has the features of one chosen image of another class; "
        "the retrained head moves its boundary across both.",
        threat_model="Clean label; a few fine-tuning images within a bound, or pulled towards their originals; knows "
        "the pretrained extractor (white box), or trains surrogates of its own on the same images (black box).",
        deviations=(
            *DEVIATIONS,
            "A step that would raise an image's objective is not taken; its step is shortened instead. The benchmark "
            "compares the features of the image before the step: it takes the first such step, and stays there.",
            "Within eps the search starts from what the bound leaves of the watermark. The benchmark's starts outside, "
            "so that its first step, which cuts the watermark to eps, is its last one.",
            "The preset follows the poisoning-benchmark: many poisons within eps. The paper's transfer attack is one "
            "poison of the proximal form: bound=proximal, poisons=1, opacity=0.",
            "The proximal form weighs pixels in [0, 1], as in the benchmark; the paper's code has 0 to 255. That code "
            "descends the distance, not its square, and ends at an objective of 2.9.",
            "beta is the paper's, multiplied by (features / pixels)^2; the benchmark's is 4 for each network.",
            "Values are rounded to 8 bits; the benchmark cuts off the fraction.",
            "Several surrogates: the objective is their mean, with the mean of their beta; in the benchmark their sum.",
        ),
    )

    def bound(self) -> float | None:
        return super().bound() if self.config.bound == "l_infinity" else None

    def craft(self, surrogates: Sequence[Surrogate], base: Tensor, targets: Tensor, ctx: Context) -> Tensor:
        cfg: FeatureCollisionConfig = self.config
        each = targets[:, None].expand_as(base).flatten(0, 1)  # (trials k, c, h, w), every base's target
        bases = base.flatten(0, 1)
        losses = [
            partial(collision_loss, s, s.target_features(targets)[-1].repeat_interleave(base.shape[1], 0))
            for s in surrogates
        ]
        x = collide(bases.float() / 255, each.float() / 255, losses, surrogates, cfg, ctx)
        poisons = round_within(x, bases, cfg.eps) if cfg.bound == "l_infinity" else to_bytes(x)
        return poisons.view_as(base)


def pull(config: FeatureCollisionConfig, surrogates: Sequence[Surrogate], pixels: int) -> float:
    """beta (d / pixels)^2, d the number of features, averaged over surrogates (section 4.1); 0 within a hard bound."""
    if config.bound == "l_infinity":
        return 0.0
    shares = [(s.model.head.in_features / pixels) ** 2 for s in surrogates]
    return config.beta * sum(shares) / len(shares)


def length(x: Tensor) -> Tensor:
    """L2 norm of each image, ``(n,)``."""
    norms: Tensor = x.flatten(1).norm(dim=1)
    return norms


def collide(
    base: Tensor,
    target: Tensor,
    losses: Sequence[partial[Tensor]],
    surrogates: Sequence[Surrogate],
    config: FeatureCollisionConfig,
    ctx: Context,
) -> Tensor:
    """Minimize  L(x) + beta ||x - b||^2  for every image on its own.

    Args:
        base, target: float ``(n, c, h, w)`` in [0, 1]; not modified.
        losses: L of each surrogate, ``(n, c, h, w)`` -> ``(n,)``.
    """
    beta = pull(config, surrogates, base[0].numel())
    eps = config.eps / 255

    def backward(x: Tensor, step: Tensor) -> Tensor:
        """The proximal step towards the base, or the projection onto the bound."""
        if config.bound == "proximal":
            return ((x + step * beta * base) / (1 + step * beta)).clamp(0, 1)
        return torch.minimum(torch.maximum(x, base - eps), base + eps).clamp(0, 1)

    def objective(x: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = mean_gradient(losses, x.detach().requires_grad_())
        return value + beta * (x - base).flatten(1).square().sum(1), gradient

    step = base.new_full((len(base), 1, 1, 1), config.step_size)
    x = config.opacity * target + (1 - config.opacity) * base
    x = backward(x, torch.zeros_like(step))  # the bound holds from the start; no pull without a step
    value, gradient = objective(x)
    ended = torch.zeros_like(value, dtype=torch.bool)
    for number in ctx.track(range(1, config.steps + 1), config.steps):
        moved = backward(x - step * gradient, step)
        new_value, new_gradient = objective(moved)
        better = (new_value <= value) & ~ended
        ended |= better & (length(moved - x) < config.tolerance * length(x))
        step = torch.where(better.view_as(step), step, config.decay * step)
        taken = better.view_as(step)
        x = torch.where(taken, moved, x)
        gradient = torch.where(taken, new_gradient, gradient)
        value = torch.where(better, new_value, value)
        if number % 10 == 0 or number == config.steps:
            ctx.metric("collision_objective", number, value.mean().item())
        if bool(ended.all()):
            break
    return x
