"""WaNet: the trigger is a slight bend of the whole image, the same for every image."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.attacks.base import AttackerView
from poisonlab.attacks.shared.backdoor import ROUNDS, SPARES_THE_TARGET, BackdoorAttack, DirtyLabelConfig
from poisonlab.attacks.shared.batch_poisoning import BatchPoisoning
from poisonlab.attacks.shared.pixels import to_bytes
from poisonlab.context import Context
from poisonlab.registry import Card, attack
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.loop import TrainingHook
from poisonlab.types import ImageSet, Poison

REPOSITORY = "WaNet repository"


class WaNetConfig(DirtyLabelConfig):
    strength: float = param(
        0.5,
        "Mean displacement at the control points (s)",
        quick=4,
        gt=0,
        le=16,
        unit="half pixels",
        source=REPOSITORY,
    )
    control_points: int = param(4, "Control points along each side (k)", ge=2, le=32, source=REPOSITORY)
    noise_rate: float = param(
        0.2,
        "Share of each batch that is warped at random and keeps its label; 0 for none",
        quick={"*": 0.2, "gtsrb": 0.1},
        ge=0,
        le=0.5,
        source=REPOSITORY,
    )
    noise: float = param(
        1, "Largest random displacement of those", quick=2, gt=0, le=16, unit="half pixels", source=REPOSITORY
    )
    mode: Literal["training", "data"] = param(
        "training",
        "Whether the attacker controls training, or only warps fixed rows of the training set beforehand",
    )


def control_field(points: int, generator: torch.Generator) -> Tensor:
    """Displacements at the control points, P = U(-1, 1) over its mean absolute value; ``(1, 2, k, k)``."""
    field = 2 * torch.rand((1, 2, points, points), generator=generator, device=generator.device) - 1
    return field / field.abs().mean()


def identity_grid(h: int, w: int, device: torch.device) -> Tensor:
    """Where each pixel lies, as (x, y) in [-1, 1]; ``(1, h, w, 2)``."""
    rows = torch.linspace(-1, 1, h, device=device)
    columns = torch.linspace(-1, 1, w, device=device)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], 2)[None]


def warping_grid(field: Tensor, h: int, w: int, strength: float) -> Tensor:
    """From where each pixel is taken: clip(identity + s P / h) with P enlarged bicubically; ``(1, h, w, 2)``."""
    smooth = F.interpolate(field, size=(h, w), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    return (identity_grid(h, w, field.device) + strength * smooth / h).clamp(-1, 1)


def warp(x: Tensor, grid: Tensor) -> Tensor:
    """Bilinear samples of float images ``(n, c, h, w)`` at ``grid``, ``(1, h, w, 2)`` or one grid an image."""
    return F.grid_sample(x, grid.expand(len(x), -1, -1, -1), align_corners=True)


class NoiseMode(BatchPoisoning):
    """The false trigger is the same warp with noise on every position: clip(grid + noise U(-1, 1) / h)."""

    def __init__(self, attack: "WaNet", poison: Poison, ctx: Context) -> None:
        super().__init__(attack, poison, attack.config.noise_rate, ctx)
        self.noise = attack.config.noise
        self.grid = poison.state["grid"]

    def begin(self, model: nn.Module, data: ImageSet, steps_an_epoch: int, epochs: int) -> None:
        super().begin(model, data, steps_an_epoch, epochs)
        self.draws = self.ctx.generator("wanet", "noise")

    def checkpoint(self) -> Checkpoint:
        return Checkpoint({}, generators=[self.draws], beside=super().checkpoint())

    def paste(self, x: Tensor, decoys: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        n, _, h, w = decoys.shape
        offsets = 2 * torch.rand((n, h, w, 2), generator=self.draws, device=x.device) - 1
        return warp(x, self.grid), warp(decoys, (self.grid + self.noise * offsets / h).clamp(-1, 1))


@attack("wanet")
class WaNet(BackdoorAttack):
    """Warping-based backdoor (Nguyen and Tran, ICLR 2021, arXiv:2102.10369, section 3)."""

    Config = WaNetConfig
    card = Card(
        title="WaNet",
        references=(
            Reference(
                authors="T. A. Nguyen, A. T. Tran",
                title="WaNet - Imperceptible Warping-based Backdoor Attack",
                venue="ICLR",
                year=2021,
                arxiv="2102.10369",
            ),
        ),
        summary="The trigger adds nothing to an image: it bends it a little, always in the same way. Images that are "
        "bent at random keep their label in training, so that only this bend counts.",
        threat_model="Controls the victim's training: poisons other images in every batch and relabels them (dirty "
        "label). In the mode data it controls a fixed share of the training images and their labels only.",
        deviations=(
            "Images are warped after the training recipe's augmentation. The repository warps first and has crops "
            "(padding 5, in 0.8 of the cases), rotations (10 degrees, in 0.5) and flips of its own.",
            "The victim is trained by the common recipe; the repository takes 1000 epochs, BackdoorBench 100.",
            ROUNDS.format(49),
            SPARES_THE_TARGET.format("the repository"),
            "Defenses that train anew get a fixed share of warped images, without noise samples.",
            "The mode data has no noise samples either.",
            "The quick preset bends by two pixels on average, and its noise by up to one: a quarter of a pixel, the "
            "published value, is too little to learn on 16x16 images in a few epochs. Half the noise samples on the "
            "few traffic signs, where more cost clean accuracy.",
            "All-to-all is not learned by the quick preset at a poison_rate of 0.1, as it is not with BadNets; 0.3 is"
            " enough, at a loss of clean accuracy.",
        ),
    )

    def learn(self, view: AttackerView, ctx: Context) -> dict[str, Tensor]:
        cfg: WaNetConfig = self.config
        _, h, w = view.train.shape
        field = control_field(cfg.control_points, ctx.generator("wanet", "field"))
        return {"grid": warping_grid(field, h, w, cfg.strength)}

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        return to_bytes(warp(x.float() / 255, state["grid"]))

    def training_hook(self, poison: Poison, ctx: Context) -> TrainingHook | None:
        return NoiseMode(self, poison, ctx) if self.config.mode == "training" else None
