"""Anti-backdoor learning: what is learned suspiciously fast is set aside, and unlearned in the end."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.base import ISOLATED, Defense
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param
from poisonlab.training.loop import TrainingHook
from poisonlab.types import ImageSet

REPOSITORY = "ABL repository"


class ABLConfig(Config):
    isolation_epochs: int = param(
        20,
        "Epochs of plain training before images are set aside",
        quick={"*": 3, "digits": 9},
        full=2,
        ge=1,
        le=1000,
        source=f"BackdoorBench; 10 in the {REPOSITORY}",
    )
    unlearning_epochs: int = param(
        5,
        "Last epochs, with gradient ascent on what was set aside",
        quick=1,
        full=1,
        ge=1,
        le=1000,
        source=REPOSITORY,
    )
    gamma: float = param(0.5, "Loss below which the early batches ascend", ge=0, le=10, source=REPOSITORY)
    isolation_rate: float = param(
        0.01, "Share of the training images set aside", gt=0, lt=1, source=REPOSITORY
    )
    unlearning_weight: float = param(
        1.0,
        "Weight of the ascent beside the descent on the other images",
        gt=0,
        le=100,
        source="the paper, eq. 4",
    )
    ascent_limit: float = param(
        100.0,
        "An image ascends no more above this multiple of a guess's loss, log(classes)",
        quick=1.0,
        full=1.0,
        gt=0,
        le=1000,
        source="no limit is published",
    )


class LocalGradientAscent(TrainingHook):
    """Minimizes  sign(L - gamma) L : a batch's loss is kept from falling below gamma.

    Attributes:
        losses: float ``(n,)``, of each image when it was last seen; infinite before.
    """

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma

    def begin(self, model: nn.Module, data: ImageSet, steps_an_epoch: int, epochs: int) -> None:
        self.losses = torch.full((len(data),), torch.inf, device=data.y.device)

    def batch(self, x: Tensor, y: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        self.rows = index
        return x, y

    def loss(self, logits: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
        each = F.cross_entropy(logits, y, reduction="none")
        self.losses[self.rows] = each.detach()
        plain = super().loss(logits, y, label_smoothing)
        return torch.sign(plain.detach() - self.gamma) * plain


def learned_first(losses: Tensor, share: float) -> Tensor:
    """The rows that were learned suspiciously well: this share of all, the smallest losses, int64 ``(k,)``.

    Args:
        losses: float ``(n,)``.
    """
    count = max(1, round(share * len(losses)))
    return losses.topk(count, largest=False).indices


class AntiBackdoorLearning(LocalGradientAscent):
    """The three phases in one training.

    Attributes:
        isolated: rows set aside, int64 ``(k,)``; empty before the end of the first phase.
        losses: of each image when it was last seen in the first phase.
    """

    def __init__(self, config: ABLConfig, generator: torch.Generator) -> None:
        super().__init__(config.gamma)
        self.config = config
        self.generator = generator

    def begin(self, model: nn.Module, data: ImageSet, steps_an_epoch: int, epochs: int) -> None:
        cfg = self.config
        if cfg.isolation_epochs + cfg.unlearning_epochs > epochs:
            raise ValueError(
                f"isolation_epochs={cfg.isolation_epochs} and unlearning_epochs={cfg.unlearning_epochs} do not fit "
                f"into the {epochs} epochs of training"
            )
        super().begin(model, data, steps_an_epoch, epochs)
        self.data = data
        self.step = 0
        self.isolation_ends = cfg.isolation_epochs * steps_an_epoch
        self.unlearning_starts = (epochs - cfg.unlearning_epochs) * steps_an_epoch
        self.isolated = data.y.new_empty(0)
        self.aside = torch.zeros(len(data), dtype=torch.bool, device=data.y.device)

    def batch(self, x: Tensor, y: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        if self.step == self.isolation_ends:
            self._isolate()
        self.step += 1
        if not len(self.isolated):
            return super().batch(x, y, index)
        rest = ~self.aside[index]
        x = x[rest]
        y = y[rest]
        self.descending = len(y)
        if self.step > self.unlearning_starts:
            drawn = torch.randint(
                len(self.isolated), (len(index),), generator=self.generator, device=index.device
            )
            wrong = self.data[self.isolated[drawn]]
            x = torch.cat([x, wrong.x.to(x.dtype) / 255])
            y = torch.cat([y, wrong.y])
        return x.contiguous(memory_format=torch.channels_last), y

    def loss(self, logits: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
        if not len(self.isolated):  # 1. what is learned early and well stands out by its loss
            return super().loss(logits, y, label_smoothing)
        kept = self.descending  # 2. descend on the rest, 3. ascend on what was set aside as well
        descent = F.cross_entropy(logits[:kept], y[:kept], label_smoothing=label_smoothing)
        if kept == len(y):
            return descent
        limit = self.config.ascent_limit * math.log(logits.shape[1])
        ascent = F.cross_entropy(logits[kept:], y[kept:], reduction="none").clamp(max=limit).mean()
        return descent - self.config.unlearning_weight * ascent

    def _isolate(self) -> None:
        self.isolated = learned_first(self.losses, self.config.isolation_rate)
        self.aside[self.isolated] = True

    def learned(self) -> dict[str, Tensor]:
        return {ISOLATED: self.isolated}


@defense("abl")
class ABL(Defense):
    """Li, Lyu, Koren, Lyu, Li and Ma, NeurIPS 2021, arXiv:2110.11571, in one training:

    1. minimize  sign(L - gamma) L  of each batch: its loss is kept from falling below gamma, which only images with
       a trigger do so early; set the 1 % of the images with the lowest loss aside;
    2. minimize L on the others;
    3. in the last epochs, minimize  L(others) - L(set aside).
    """

    Config = ABLConfig
    card = Card(
        title="Anti-backdoor learning",
        references=(
            Reference(
                authors="Y. Li, X. Lyu, N. Koren, L. Lyu, B. Li, X. Ma",
                title="Anti-Backdoor Learning: Training Clean Models on Poisoned Data",
                venue="NeurIPS",
                year=2021,
                arxiv="2110.11571",
            ),
        ),
        summary="A network learns a trigger long before it learns what a cat is. So the images that it masters first "
        "are suspicious: set them aside, go on with the others, and in the end make the network unlearn them.",
        threat_model="Defender trains the model, on a training set that may be poisoned, without any clean images.",
        deviations=(
            "The three phases share one training and its learning rate; the repository trains three times.",
            "An image's loss is the one it had when last seen in the first phase, augmented and in train mode; the "
            "repository does not augment there, and looks at all images once more, in eval mode.",
            "The ascent is weighed against the descent on the other images (the paper's objective); the repository "
            "only ascends, with a small learning rate of its own.",
            "The presets quick and full let an image ascend to the loss of a guess only: without a limit a short "
            "training ends damaged.",
        ),
    )

    def training_hook(self, ctx: Context) -> TrainingHook:
        return AntiBackdoorLearning(self.config, ctx.generator("abl"))
