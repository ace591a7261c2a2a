"""Poisons whose training gradient is moved towards another one: perturbation, steps, the published surrogate."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from poisonlab.attacks.shared.alignment import mismatch_gradient, poisons_at_once
from poisonlab.attacks.shared.pixels import round_within
from poisonlab.models.base import Classifier, as_floats
from poisonlab.spec.config import TrainingConfig
from poisonlab.training.augmentation import augment

BRITTLE = ("convnet", "mobilenet", "vgg")  # networks that start at a tenth of the published rate


def published_recipe(victim: str, crop_padding: int, flip: bool) -> TrainingConfig:
    """How the repositories train a network, with the augmentation of the poisons (``optimization_strategy.py``)."""
    return TrainingConfig(
        epochs=40,
        batch_size=128,
        lr=0.01 if victim.startswith(BRITTLE) else 0.1,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="steps",
        drops="0.35, 0.6, 0.875",
        crop_padding=crop_padding,
        flip=flip,
    )


def surrogate_recipe(config: Any) -> Callable[[str], TrainingConfig] | None:
    """How an attack's surrogates are trained, by the victim's name; ``None`` for as the victim is.

    Args:
        config: with ``surrogate_recipe``, and the augmentation ``crop_padding`` and ``flip``.
    """
    if config.surrogate_recipe == "victim":
        return None
    return partial(published_recipe, crop_padding=config.crop_padding, flip=config.flip)


class SignedAdam:
    """Adam on the sign of the gradient; the rate falls tenfold after 3/8, 5/8 and 7/8 of the steps."""

    def __init__(self, delta: Tensor, rate: float, steps: int) -> None:
        self.delta = delta
        self.adam = torch.optim.Adam([delta], lr=rate)
        milestones = [max(1, steps * eighths // 8) for eighths in (3, 5, 7)]
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(self.adam, milestones, gamma=0.1)

    def step(self, gradient: Tensor) -> None:
        self.delta.grad = gradient.sign()
        self.adam.step()
        self.schedule.step()


class MatchedPoisons:
    """Images x + delta, |delta| <= eps, descending on the mean over models of 1 - cos(wanted gradient, their own).

    Args:
        base, labels: uint8 ``(k, c, h, w)`` and int64 ``(k,)``; not modified.
        model: one of the kind that is crafted on; it sets the units of ``rate`` and the images held in memory.
        eps: the bound, in 1/255.
        rate: of Adam, in standard deviations of a channel.
        draws: the random start and the augmentation are drawn from it.
    """

    def __init__(
        self,
        base: Tensor,
        labels: Tensor,
        model: Classifier,
        *,
        eps: float,
        rate: float,
        steps: int,
        crop_padding: int,
        flip: bool,
        draws: torch.Generator,
    ) -> None:
        self.base = base
        self.labels = labels
        self.eps = eps
        self.crop_padding = crop_padding
        self.flip = flip
        self.draws = draws
        self.x = as_floats(base)
        self.std = model.normalize.std
        bound = eps / 255
        self.low = ((self.x - bound).clamp_min(0) - self.x) / self.std
        self.high = ((self.x + bound).clamp_max(1) - self.x) / self.std
        noise = torch.randn(self.x.shape, generator=draws, device=base.device).clamp(-1, 1)
        self.delta = (noise * bound / self.std).requires_grad_()  # in standard deviations, as the rate
        self.optimizer = SignedAdam(self.delta, rate, steps)
        self.at_once = poisons_at_once(model, self.x, labels)

    def step(self, models: Sequence[Classifier], wanted: Sequence[tuple[Tensor, ...]]) -> Tensor:
        """One step; returns the loss before it.

        Args:
            models: in eval mode, their parameters requiring gradients.
            wanted: a gradient by the parameters of each.
        """
        gradient = torch.zeros_like(self.delta)
        loss = torch.zeros((), device=self.x.device)
        for model, goal in zip(models, wanted, strict=True):
            shown = augment(self.x + self.delta * self.std, self.crop_padding, self.flip, self.draws)
            mismatch, by_image = mismatch_gradient(model, shown, self.labels, goal, self.at_once)
            gradient += torch.autograd.grad(shown, self.delta, by_image)[0]
            loss += mismatch / len(models)
        self.optimizer.step(gradient)
        with torch.no_grad():
            self.delta.copy_(self.delta.clamp(self.low, self.high))
        return loss

    def images(self) -> Tensor:
        """The poisons as they are now, uint8 like ``base`` and within ``eps`` of it."""
        return round_within(self.x + self.delta.detach() * self.std, self.base, self.eps)
