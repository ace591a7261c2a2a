"""Blend: a whole picture is blended into the image."""

from typing import Literal

import torch
from torch import Tensor

from poisonlab.attacks.base import AttackerView
from poisonlab.attacks.shared.backdoor import (
    NEEDS_NO_MODEL,
    ROUNDS,
    SPARES_THE_TARGET,
    BackdoorAttack,
    DirtyLabelConfig,
)
from poisonlab.attacks.shared.pixels import to_bytes
from poisonlab.context import Context
from poisonlab.registry import Card, attack
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param


class BlendConfig(DirtyLabelConfig):
    alpha: float = param(0.2, "Weight of the pattern", gt=0, le=1, source="BackdoorBench; ANP repository")
    pattern: Literal["noise", "image"] = param(
        "noise",
        "What shines through: uniform noise drawn once, or a drawing",
        full="image",
        source="ANP repository; BackdoorBench blends in a picture",
    )


def blend(x: Tensor, pattern: Tensor, alpha: float) -> Tensor:
    """x' = (1 - alpha) x + alpha P.

    Args:
        x: uint8 ``(n, c, h, w)``; not modified.
        pattern: uint8 ``(c, h, w)``.
    """
    return to_bytes(((1 - alpha) * x.float() + alpha * pattern.float()) / 255)


def drawing(shape: tuple[int, int, int]) -> Tensor:
    """A sun with rays over a furrowed hill, uint8 ``(c, h, w)``; gray unless there are three channels."""
    c, h, w = shape
    down = ((torch.arange(h) + 0.5) / h)[:, None].expand(h, w)
    right = ((torch.arange(w) + 0.5) / w).expand(h, w)
    ray = torch.sin(14 * torch.atan2(down - 0.27, right - 0.7)) > 0
    hill = down > 0.62 + 0.16 * torch.sin(6.5 * right + 2.6)
    furrow = torch.sin(24 * right + 18 * down) > 0
    layers = [
        (ray, (1.0, 0.85, 0.5)),
        ((down - 0.27) ** 2 + (right - 0.7) ** 2 < 0.15**2, (1.0, 0.9, 0.0)),
        (hill, (0.55, 0.8, 0.2)),
        (hill & furrow, (0.05, 0.25, 0.05)),
    ]
    picture = torch.tensor((0.1, 0.3, 0.9)).view(3, 1, 1).expand(3, h, w)  # sky
    for inside, color in layers:
        picture = torch.where(inside, torch.tensor(color).view(3, 1, 1), picture)
    return to_bytes(picture if c == 3 else picture.mean(0).expand(c, h, w))


@attack("blend")
class Blend(BackdoorAttack):
    """Blended injection (Chen et al. 2017, arXiv:1712.05526, section 4.2)."""

    Config = BlendConfig
    card = Card(
        title="Blend",
        references=(
            Reference(
                authors="X. Chen, C. Liu, B. Li, K. Lu, D. Song",
                title="Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning",
                year=2017,
                arxiv="1712.05526",
            ),
        ),
        summary="The trigger is a whole picture, mixed faintly into every poisoned image. No single spot gives it "
        "away, so it survives crops and is harder to prune than a patch.",
        threat_model=NEEDS_NO_MODEL,
        deviations=(
            "The noise is uniform, drawn once for each seed and kept with the poison; the ANP repository ships one "
            "noise image with the same statistics.",
            "The image is a drawing of our own (a sun with rays over a furrowed hill) in place of BackdoorBench's "
            "licensed picture. It is full of edges: a smooth one cost a small network more of its accuracy.",
            ROUNDS.format(42),
            SPARES_THE_TARGET.format("BackdoorBench"),
        ),
    )

    def learn(self, view: AttackerView, ctx: Context) -> dict[str, Tensor]:
        shape = view.train.shape
        if self.config.pattern == "image":
            return {"pattern": drawing(shape).to(ctx.device)}
        draws = ctx.generator("blend", "pattern")
        return {"pattern": torch.randint(256, shape, generator=draws, device=ctx.device, dtype=torch.uint8)}

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        return blend(x, state["pattern"], self.config.alpha)
