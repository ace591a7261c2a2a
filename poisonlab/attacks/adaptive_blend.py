"""Adaptive-Blend: half a picture in few images, and as many that carry it under their own label."""

import torch
from torch import Tensor

from poisonlab.attacks.base import AttackerView, check_target
from poisonlab.attacks.blend import blend, drawing
from poisonlab.attacks.shared.backdoor import NEEDS_NO_MODEL, BackdoorAttack
from poisonlab.attacks.shared.pixels import to_bytes
from poisonlab.context import Context
from poisonlab.registry import Card, attack
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param
from poisonlab.types import ImageSet, Poison

REPOSITORY = "authors' repository"


class AdaptiveBlendConfig(Config):
    target_class: int = param(0, "Class that triggered images should be given (all-to-one)", ge=0)
    poison_rate: float = param(
        0.003,
        "Share of the training images that gets half the picture and the target's label (payload)",
        quick=0.01,
        gt=0,
        le=0.5,
        source=REPOSITORY,
    )
    cover_rate: float = param(
        0.003,
        "Share of the training images that gets half the picture and keeps its label (cover); 0 for none",
        quick=0.01,
        ge=0,
        le=0.5,
        source=REPOSITORY,
    )
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
class AdaptiveBlend(BackdoorAttack):
    """Qi, Xie, Li, Mahloujifar and Mittal, ICLR 2023, arXiv:2205.13613:

    1. payload: (x + alpha m (K - x), t);  cover: (x + alpha m (K - x), y);  m leaves a random half of 16 pieces out;
    2. at test time: x + alpha' (K - x) with the whole picture K.

    Covers keep what the picture does to the features from meaning the target: poisons form no cluster of their own.
    """

    Config = AdaptiveBlendConfig
    card = Card(
        title="Adaptive-Blend",
        references=(
            Reference(
                authors="X. Qi, T. Xie, Y. Li, S. Mahloujifar, P. Mittal",
                title="Revisiting the Assumption of Latent Separability for Backdoor Defenses",
                venue="ICLR",
                year=2023,
                arxiv="2205.13613",
            ),
        ),
        summary="Made against detectors that look for a cluster of poisons: the trigger is weak and incomplete in "
        "training, and as many images carry it with their true label. A moderate success is the price, and the attack.",
        threat_model=NEEDS_NO_MODEL,
        deviations=(
            "The picture is a drawing of our own in place of a licensed one, the same as Blend's.",
            "Payload and cover both count as poisoned images, in the budget and where detectors are measured.",
            "The payload is drawn from all classes, as in the repository: some of it is of the target class already.",
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

    def poison(self, view: AttackerView, ctx: Context) -> Poison:
        cfg: AdaptiveBlendConfig = self.config
        index = self._rows(view.train, ctx)
        state = {"pattern": drawing(view.train.shape).to(ctx.device)}
        chosen = view.train[index]
        labels = chosen.y.clone()
        labels[: self._payload(view.train)] = cfg.target_class
        return Poison(index[None], self._masked(chosen, state, ctx)[None], labels[None], state)

    def _payload(self, train: ImageSet) -> int:
        cfg: AdaptiveBlendConfig = self.config
        return round(cfg.poison_rate * len(train))

    def _rows(self, train: ImageSet, ctx: Context) -> Tensor:
        """Rows of the payload, then those of the cover; drawn from all classes."""
        cfg: AdaptiveBlendConfig = self.config
        check_target(cfg.target_class, len(train.classes))
        payload = self._payload(train)
        cover = round(cfg.cover_rate * len(train))
        if payload < 1 or payload + cover > len(train):
            raise ValueError(
                f"poison_rate={cfg.poison_rate} and cover_rate={cfg.cover_rate} ask for {payload} and {cover} of "
                f"{len(train)} images; {'lower' if payload else 'raise'} attack.poison_rate"
            )
        draws = ctx.generator(self.name, "index")
        order = torch.randperm(len(train), generator=draws, device=train.y.device)
        return order[: payload + cover]

    def _masked(self, data: ImageSet, state: dict[str, Tensor], ctx: Context) -> Tensor:
        """The weakened trigger of training images: alpha where the mask shows the picture, 0 elsewhere."""
        cfg: AdaptiveBlendConfig = self.config
        masks = piece_masks(len(data), data.shape, cfg.pieces, cfg.masked, ctx.generator(self.name, "pieces"))
        x = data.x.float()
        changed = x + cfg.alpha * masks * (state["pattern"].float() - x)
        return to_bytes(changed / 255)

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        return blend(x, state["pattern"], self.config.alpha_test)
