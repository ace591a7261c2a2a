"""Surrogates of staggered ages: at every moment of crafting, networks from newborn to fully trained."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonlab.attacks.shared.unrolling import gradient, leaves, moved, with_batch_statistics
from poisonlab.context import Context
from poisonlab.models.base import Classifier, as_floats, initialize
from poisonlab.training.loop import batches
from poisonlab.types import ImageSet


class Training(Protocol):
    """How surrogates learn: epochs until they start anew, images in a step, learning rate and its warm-up epochs."""

    models: int
    epochs: int
    batch: int
    lr: float
    warm_up: int


class Learner:
    """A surrogate that learns clean images by plain SGD and starts anew after ``epochs`` of them."""

    def __init__(
        self, kind: Classifier, train: ImageSet, config: Training, number: int, ctx: Context
    ) -> None:
        self.network, self.train, self.config = with_batch_statistics(kind), train, config
        self.draws = ctx.generator("metapoison", "surrogate", str(number))
        self._begin()
        for _ in range(number * config.epochs // config.models):  # one epoch apart, or as evenly as it goes
            for rows in self.order():
                self.learn(rows)
            ctx.progress(0, 1)  # a moment to cancel

    def _begin(self) -> None:
        initialize(self.network, self.draws)
        self.weights = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.age = 0

    def order(self) -> list[Tensor]:
        """The batches of the next epoch."""
        if self.age == self.config.epochs:
            self._begin()
        self.age += 1
        return list(batches(len(self.train), self.config.batch, 1, self.draws))

    @property
    def lr(self) -> float:
        return self.config.lr * min(1.0, self.age / max(1, self.config.warm_up))

    def learn(self, rows: Tensor) -> None:
        # not training.fit, which trains a module to the end: crafting looks ahead from the weights before each step
        here = leaves(self.weights)
        said = torch.func.functional_call(self.network, here, (as_floats(self.train.x[rows]),))
        self.weights = moved(here, gradient(F.cross_entropy(said, self.train.y[rows]), here), -self.lr)
