"""Friendly noise: large perturbations that the network does not mind, so that small ones drown."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.models.base import as_floats
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.loop import TrainingHook
from poisonlab.types import ImageSet

OFFICIAL = "FRIENDS repository"
PUREGEN = "PureGen repository"
MOMENTUM = 0.9  # Nesterov
STATED_BATCH = 128  # the step size is stated for means over so many images
CHUNK = 1024  # images optimized together


class FriendsConfig(Config):
    epoch: int = param(
        5,
        "Epochs before the friendly noise is made",
        quick={"*": 2, "digits": 4},
        ge=0,
        le=1000,
        source=OFFICIAL,
    )
    steps: int = param(
        20, "Steps of its optimization", ge=1, le=1000, source=f"{PUREGEN}; 30 in the {OFFICIAL}"
    )
    mu: float = param(
        16.0,
        "Weight of the noise's size against the change of the answer",
        ge=0,
        le=1000,
        source=f"{PUREGEN}; 1 in the {OFFICIAL}",
    )
    lr: float = param(100.0, "Step size of the optimization", gt=0, le=10_000, source=OFFICIAL)
    eps: float = param(16.0, "Bound on the friendly noise", unit="1/255", ge=0, le=255, source=OFFICIAL)
    noise: Literal["bernoulli", "gaussian", "none"] = param(
        "bernoulli",
        "Fresh noise at every draw: +-noise_eps, Gaussian of that deviation, or none",
        source=OFFICIAL,
    )
    noise_eps: float = param(8.0, "Size of the fresh noise", unit="1/255", ge=0, le=255, source=OFFICIAL)


def friendly_noise(model: nn.Module, x: Tensor, config: FriendsConfig, generator: torch.Generator) -> Tensor:
    """eta for each image: minimize  KL(f(x) || f(clip(x + eta))) - mu mean(eta^2)  within +-eps.

    Args:
        model: in eval mode, its parameters frozen.
        x: float ``(n, c, h, w)`` in [0, 1].

    Returns:
        float, shaped like ``x``.
    """
    eps = config.eps / 255
    eta = (torch.rand(x.shape, generator=generator, device=x.device) * 2 - 1) * min(eps, 8 / 255)
    eta.requires_grad_()
    # sums over the chunk, divided by the batch that the step size is stated for: images do not see each other
    optimizer = torch.optim.SGD([eta], config.lr / STATED_BATCH, momentum=MOMENTUM, nesterov=True)
    with torch.no_grad():
        answer = model(x).log_softmax(1)
    for _ in range(config.steps):
        changed = model((x + eta).clamp(0, 1)).log_softmax(1)
        divergence = F.kl_div(changed, answer, reduction="sum", log_target=True)
        size = eta.square().flatten(1).mean(1).sum()
        (eta.grad,) = torch.autograd.grad(divergence - config.mu * size, eta)
        optimizer.step()
        with torch.no_grad():
            eta.clamp_(-eps, eps)
    return eta.detach()


class FriendlyNoise(TrainingHook):
    """Attributes: ``friendly``, the training set with its noise, once that is ``made``."""

    def __init__(self, config: FriendsConfig, ctx: Context) -> None:
        self.config = config
        self.ctx = ctx

    def begin(self, model: nn.Module, data: ImageSet, steps_an_epoch: int, epochs: int) -> None:
        if self.config.epoch >= epochs:
            raise ValueError(
                f"epoch={self.config.epoch} leaves none of the {epochs} epochs of training; lower it"
            )
        self.model = model
        self.friendly = ImageSet(data.x.clone(), data.y, data.classes, data.split)
        self.made = torch.zeros((), dtype=torch.bool)
        self.draws = self.ctx.generator("friends", "fresh noise")

    def epoch(self, number: int, data: ImageSet) -> ImageSet:
        if number == self.config.epoch + 1:
            self.friendly.x.copy_(self._befriended(data))
            self.made.fill_(True)
        return self.drawn(data)

    def drawn(self, data: ImageSet) -> ImageSet:
        return self.friendly if self.made else data

    def checkpoint(self) -> Checkpoint:
        return Checkpoint({"images": self.friendly.x, "made": self.made}, generators=[self.draws])

    def _befriended(self, data: ImageSet) -> Tensor:
        draws = self.ctx.generator("friends", "start")
        trained = [p for p in self.model.parameters() if p.requires_grad]
        mode = self.model.training
        self.model.eval().requires_grad_(False)
        changed = []
        for part in data.x.split(CHUNK):
            x = as_floats(part)
            eta = friendly_noise(self.model, x, self.config, draws)
            changed.append(((x + eta).clamp(0, 1) * 255).round().to(torch.uint8))
        self.model.train(mode)
        for parameter in trained:
            parameter.requires_grad_()
        return torch.cat(changed)

    def batch(self, x: Tensor, y: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        cfg = self.config
        size = self.config.noise_eps / 255
        if cfg.noise == "gaussian":
            return x + size * torch.randn(x.shape, generator=self.draws, device=x.device), y
        if cfg.noise == "bernoulli":
            sign = torch.randint(2, x.shape, generator=self.draws, device=x.device) * 2 - 1
            return x + size * sign, y
        return x, y


@defense("friends")
class Friends(Defense):
    """Liu, Yang and Mirzasoleiman, NeurIPS 2022, arXiv:2208.10224: once the network knows a little, each training image
    gets the largest noise that keeps the network's answer, and on top of it fresh random noise at every draw."""

    Config = FriendsConfig
    card = Card(
        title="Friendly noise",
        references=(
            Reference(
                authors="T. Y. Liu, Y. Yang, B. Mirzasoleiman",
                title="Friendly Noise against Adversarial Noise: A Powerful Defense against Data Poisoning Attacks",
                venue="NeurIPS",
                year=2022,
                arxiv="2208.10224",
            ),
        ),
        summary="A poison is a small perturbation found with care. Drown it: give each training image the largest "
        "noise that does not change what the network says of it, and shake it anew each time it is shown.",
        threat_model="Defender trains or fine-tunes the model, on a training set that may be poisoned, without any "
        "clean images.",
        deviations=(
            "The noise is optimized with batch norm in eval mode, as its authors do; PureGen takes a copy of the "
            "network in train mode.",
            "The step is stated for means over 128 images. PureGen's means are over the training batch: where that is "
            "64, as in its linear transfer, lr 200 here is its 100.",
            "Images with their friendly noise are rounded to 8 bits; PureGen truncates them.",
            "Fresh noise is added after crop and flip, so the border of a crop gets it, too. PureGen then shifts by up "
            "to 4 pixels, bilinearly, and flips, in transfer as well; nothing follows here.",
            "Transfer has the parameters of training from scratch; the repositories make the noise before the first "
            "epoch there, as do the published tables here.",
            "The preset quick makes the noise after 2 epochs of 8 (digits: 4).",
        ),
    )

    def training_hook(self, ctx: Context) -> TrainingHook:
        return FriendlyNoise(self.config, ctx)
