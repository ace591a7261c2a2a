"""A surrogate ensemble at different epochs: networks from untrained to fully trained at every crafting step."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonlab.attacks.shared.unrolling import gradient, leaves, moved, with_batch_statistics
from poisonlab.context import Context
from poisonlab.models.base import Classifier, as_floats, initialize
from poisonlab.training.loop import batches
from poisonlab.types import ImageSet


class SurrogateTraining(Protocol):
    """How surrogates are trained."""

    @property
    def models(self) -> int:
        """Surrogates in the ensemble."""

    @property
    def epochs(self) -> int:
        """Epochs after which a surrogate is initialized again."""

    @property
    def batch(self) -> int:
        """Images in a step."""

    @property
    def lr(self) -> float:
        """Learning rate of plain SGD."""

    @property
    def warm_up(self) -> int:
        """Epochs over which the learning rate rises."""


class EnsembleMember:
    """A surrogate that is trained on clean images by plain SGD, and initialized again after ``epochs`` epochs.

    Args:
        architecture: the network; its own weights are not used.
        number: its position in the ensemble, from 0; a later member starts with more epochs behind it.
    """

    def __init__(
        self, architecture: Classifier, train: ImageSet, config: SurrogateTraining, number: int, ctx: Context
    ) -> None:
        self.network = with_batch_statistics(architecture)
        self.train = train
        self.config = config
        self.draws = ctx.generator("metapoison", "surrogate", str(number))
        self._reinitialize()
        for _ in range(number * config.epochs // config.models):  # epochs spread evenly over the ensemble
            for rows in self.order():
                self.step(rows)
            ctx.progress(0, 1)  # where a cancel can arrive

    def _reinitialize(self) -> None:
        initialize(self.network, self.draws)
        self.weights = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.epoch = 0

    def order(self) -> list[Tensor]:
        """The batches of the next epoch."""
        if self.epoch == self.config.epochs:
            self._reinitialize()
        self.epoch += 1
        return list(batches(len(self.train), self.config.batch, 1, self.draws))

    @property
    def lr(self) -> float:
        return self.config.lr * min(1.0, self.epoch / max(1, self.config.warm_up))

    def step(self, rows: Tensor) -> None:
        """One training step; its weights before and after are both needed, which the common loop does not give."""
        weights = leaves(self.weights)
        logits = torch.func.functional_call(self.network, weights, (as_floats(self.train.x[rows]),))
        loss = F.cross_entropy(logits, self.train.y[rows])
        self.weights = moved(weights, gradient(loss, weights), -self.lr)
