"""Adaptive-Blend: half a picture in few images, and as many that carry it under their own label."""

import torch
from torch import Tensor

from poisonlab.attacks.base import AttackerView
from poisonlab.attacks.blend import blend, drawing
from poisonlab.attacks.shared.backdoor import NEEDS_NO_MODEL
from poisonlab.attacks.shared.payload_and_cover import (
    BOTH_COUNT,
    FROM_ALL_CLASSES,
    LATENT_SEPARABILITY,
    REPOSITORY,
    PayloadAndCover,
    PayloadAndCoverConfig,
)
from poisonlab.attacks.shared.pixels import to_bytes
from poisonlab.context import Context
from poisonlab.registry import Card, attack
from poisonlab.spec.config import param
from poisonlab.types import ImageSet


class AdaptiveBlendConfig(PayloadAndCoverConfig):
    alpha: float = param(
        0.15,
        "Weight of the picture in training",
        gt=0,
        le=1,
        source="backdoor-toolbox; 0.2 in the first repository",
    )
    alpha_test: float = param(
        0.2, "Weight of the whole picture at test time", quick=0.3, gt=0, le=1, source=REPOSITORY
    )
    pieces: int = param(
        4,
        "Pieces along each side that the picture is cut into",
        ge=1,
        le=32,
        source=f"{REPOSITORY}: 16 pieces",
    )
    masked: float = param(
        0.5, "Share of the pieces that is left out of each image", ge=0, lt=1, source=REPOSITORY
    )


def left_out(total: int, masked: float) -> int:
    """How many of all pieces no image shows at a time."""
    return round(masked * total)


def piece_masks(
    count: int, shape: tuple[int, int, int], pieces: int, masked: float, generator: torch.Generator
) -> Tensor:
    """Which pixels get the picture: of each image another draw of whole pieces; bool ``(count, 1, h, w)``."""
    _, h, w = shape
    total = pieces**2
    order = torch.rand((count, total), generator=generator, device=generator.device).argsort(1)
    shown = order >= left_out(total, masked)  # a permutation: exactly so many pieces are left out
    rows = torch.arange(h, device=order.device) * pieces // h
    columns = torch.arange(w, device=order.device) * pieces // w
    return shown[:, rows[:, None] * pieces + columns[None]][:, None]


@attack("adaptive_blend")
class AdaptiveBlend(PayloadAndCover):
    """Qi, Xie, Li, Mahloujifar and Mittal, ICLR 2023, arXiv:2205.13613:

    1. payload: (x + alpha m (K - x), t);  cover: (x + alpha m (K - x), y);  m leaves a random half of 16 pieces out;
    2. at test time: x + alpha' (K - x) with the whole picture K.
    """

    Config = AdaptiveBlendConfig
    card = Card(
        title="Adaptive-Blend",
        references=(LATENT_SEPARABILITY,),
        summary="Made against detectors that look for a cluster of poisons: the trigger is weak and incomplete in "
        "training, and as many images carry it with their true label. A moderate success is the price, and the attack.",
        threat_model=NEEDS_NO_MODEL,
        deviations=(
            "The picture is a drawing of our own in place of a licensed one, the same as Blend's.",
            BOTH_COUNT,
            FROM_ALL_CLASSES,
            "The preset quick has three times as many of both, since a tenth of its images would be too few to learn "
            "in its epochs, and shows the picture more clearly at test time.",
        ),
    )

    def check_images(self, train: ImageSet) -> None:
        super().check_images(train)
        cfg: AdaptiveBlendConfig = self.config
        total = cfg.pieces**2
        if left_out(total, cfg.masked) == total:
            raise ValueError(
                f"attack.masked={cfg.masked} leaves out all {total} pieces of the picture; lower it, or raise "
                "attack.pieces"
            )
        side = min(train.shape[1:])
        if cfg.pieces > side:
            raise ValueError(
                f"attack.pieces={cfg.pieces} cuts a side of {side} pixels into more pieces than it has pixels; lower it"
            )

    def learn(self, view: AttackerView, ctx: Context) -> dict[str, Tensor]:
        return {"pattern": drawing(view.train.shape).to(ctx.device)}

    def poisoned(self, data: ImageSet, state: dict[str, Tensor], view: AttackerView, ctx: Context) -> Tensor:
        """The weakened trigger of training images: alpha where the mask shows the picture, 0 elsewhere."""
        cfg: AdaptiveBlendConfig = self.config
        masks = piece_masks(len(data), data.shape, cfg.pieces, cfg.masked, ctx.generator(self.name, "pieces"))
        x = data.x.float()
        changed = x + cfg.alpha * masks * (state["pattern"].float() - x)
        return to_bytes(changed / 255)

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        return blend(x, state["pattern"], self.config.alpha_test)
