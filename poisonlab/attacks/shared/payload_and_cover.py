"""What the adaptive attacks share: few images with a weak trigger, as many or more that carry it under their label."""

import torch
from torch import Tensor

from poisonlab.attacks.base import AttackerView, check_target
from poisonlab.attacks.shared.backdoor import BackdoorAttack
from poisonlab.context import Context
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param
from poisonlab.types import ImageSet, Poison

REPOSITORY = "authors' repository"
LATENT_SEPARABILITY = Reference(
    authors="X. Qi, T. Xie, Y. Li, S. Mahloujifar, P. Mittal",
    title="Revisiting the Assumption of Latent Separability for Backdoor Defenses",
    venue="ICLR",
    year=2023,
    arxiv="2205.13613",
)
BOTH_COUNT = (
    "Payload and cover both count as poisoned images, in the budget and where detectors are measured."
)
FROM_ALL_CLASSES = (
    "The payload is drawn from all classes, as in the repository: some of it is of the target class already."
)


class PayloadAndCoverConfig(Config):
    target_class: int = param(0, "Class that triggered images should be given (all-to-one)", ge=0)
    poison_rate: float = param(
        0.003,
        "Share of the training images that gets the weak trigger and the target's label (payload)",
        quick=0.01,
        gt=0,
        le=0.5,
        source=REPOSITORY,
    )
    cover_rate: float = param(
        0.003,
        "Share of the training images that gets the weak trigger and keeps its label (cover); 0 for none",
        quick=0.01,
        ge=0,
        le=0.5,
        source=REPOSITORY,
    )


class PayloadAndCover(BackdoorAttack):
    """Base of attacks that poison two groups of rows: (T(x), t) for the payload, (T(x), y) for the cover.

    Covers keep what the trigger does to the features from meaning the target: poisons form no cluster of their own.
    An attack defines the weak trigger of training images (``poisoned``, payload before cover), and that of test time.
    """

    def poison(self, view: AttackerView, ctx: Context) -> Poison:
        train = view.train
        index = self._rows(train, ctx)
        state = self.learn(view, ctx)
        chosen = train[index]
        labels = chosen.y.clone()
        labels[: self._payload(train)] = self.config.target_class
        return Poison(index[None], self.poisoned(chosen, state, view, ctx)[None], labels[None], state)

    def _payload(self, train: ImageSet) -> int:
        cfg: PayloadAndCoverConfig = self.config
        return round(cfg.poison_rate * len(train))

    def _rows(self, train: ImageSet, ctx: Context) -> Tensor:
        """Rows of the payload, then those of the cover; drawn from all classes."""
        cfg: PayloadAndCoverConfig = self.config
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
