"""Gradient matching: clean-label poisons whose training gradient is aligned with the attacker's."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from poisonlab.attacks.base import Attack, AttackerView
from poisonlab.attacks.shared.alignment import parameter_gradient
from poisonlab.attacks.shared.matched_poisons import MatchedPoisons, surrogate_recipe
from poisonlab.attacks.shared.step_counter import StepCounter
from poisonlab.attacks.shared.targeted import TargetChoice, draw_trials, targeted_threat
from poisonlab.context import Context
from poisonlab.models.base import Classifier, as_floats
from poisonlab.models.shared.second_derivatives import check_second_derivatives
from poisonlab.registry import Card, attack
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param
from poisonlab.types import Bundle, Poison, Targeted

REPOSITORY = "poisoning-gradient-matching repository"
# poisons of the preset quick: two fifths of a class
TWO_FIFTHS = {
    "*": 480,
    "digits": 40,
    "cifar3": 120,
    "cifar100": 120,
    "cinic10": 160,
    "gtsrb": 19,
    "tiny_imagenet": 16,
}
EVERY = 10  # steps between two points of the curve


class GradientMatchingConfig(TargetChoice):
    targets: int = param(
        100,
        "Independent trials, one target image and one victim each",
        quick={"*": 10, "digits": 10},
        ge=1,
        le=1000,
        unit="images",
        source="PureGen",
    )
    poisons: int = param(
        500,
        "Poisoned images in a trial, of the class the target should be given",
        quick=TWO_FIFTHS,
        elsewhere={"tiny_imagenet": 250},
        ge=1,
        unit="images",
        source="poisoning-benchmark: 1 % of CIFAR-10; PureGen: 0.25 % of Tiny-ImageNet",
    )
    eps: float = param(
        8,
        "L-infinity bound of the perturbation",
        quick={"*": 16, "digits": 64},
        ge=1,
        le=255,
        unit="1/255",
        source="PureGen; the paper uses 16",
    )
    steps: int = param(
        250,
        "Signed Adam steps; 0 leaves the random start, the control of equal size",
        quick=20,
        ge=0,
        le=10_000,
        source=REPOSITORY,
    )
    step_size: float = param(
        0.1,
        "Adam learning rate of one model, in standard deviations of a channel",
        gt=0,
        le=10,
        source=REPOSITORY,
    )
    restarts: int = param(
        8, "Random starts, of which the best aligned is kept", quick=1, ge=1, le=64, source="paper"
    )
    models: int = param(1, "Surrogates whose losses are averaged", ge=1, le=16, source=REPOSITORY)
    crop_padding: int = param(
        4,
        "Random crop of the poisons after padding by this much",
        quick=1,
        ge=0,
        le=16,
        unit="pixels",
        source=REPOSITORY,
    )
    flip: bool = param(True, "Mirror the poisons half of the time", quick={"*": True, "digits": False})
    surrogate_recipe: Literal["published", "victim"] = param(
        "published",
        "How surrogates are trained: by the repository's recipe, or as the victim is",
        quick="victim",
        full="victim",
        neutral="victim",
        source=f"{REPOSITORY}: 40 epochs",
    )


@dataclass(frozen=True)
class Attempt:
    """Poisons crafted from one random start.

    Attributes:
        images: uint8 ``(k, c, h, w)``, within ``eps`` of their bases.
        losses: alignment loss at each step, averaged over the surrogates.
    """

    images: Tensor
    losses: list[float]

    @property
    def final_loss(self) -> float:
        return self.losses[-1] if self.losses else 0.0


@dataclass
class Crafted:
    """The best attempt of each trial that is finished."""

    images: list[Tensor] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=list)

    @classmethod
    def resumed(cls, ctx: Context) -> "Crafted":
        """The trials that an interrupted attempt finished."""
        kept = ctx.resume()
        if kept is None:
            return cls()
        return cls(list(kept.tensors["images"]), kept.data["losses"])

    def add(self, attempt: Attempt) -> None:
        self.images.append(attempt.images)
        self.losses.append(attempt.losses)

    def bundle(self) -> Bundle:
        return Bundle({"images": torch.stack(self.images)}, {"losses": self.losses})

    def __len__(self) -> int:
        return len(self.losses)


def craft(
    models: list[Classifier],
    base: Tensor,
    labels: Tensor,
    target: Tensor,
    adversarial: Tensor,
    config: GradientMatchingConfig,
    draws: torch.Generator,
    advance: Callable[[], None] = lambda: None,
) -> Attempt:
    """Perturb ``base`` from one random start so that training on it moves a model towards the adversarial label.

    Args:
        models: surrogates in eval mode, whose parameters require gradients.
        base, labels: uint8 ``(k, c, h, w)`` and int64 ``(k,)``; not modified.
        target, adversarial: uint8 ``(1, c, h, w)`` and the label it should be given, int64 ``(1,)``.
        advance: called after each step.
    """
    poisons = MatchedPoisons(
        base,
        labels,
        models[0],
        eps=config.eps,
        rate=config.step_size / len(models),
        steps=config.steps,
        crop_padding=config.crop_padding,
        flip=config.flip,
        draws=draws,
    )
    wanted = [parameter_gradient(model, as_floats(target), adversarial) for model in models]
    losses: list[Tensor] = []
    for _ in range(config.steps):
        losses.append(poisons.step(models, wanted))
        advance()
    return Attempt(poisons.images(), torch.stack(losses).tolist() if losses else [])


@attack("gradient_matching")
class GradientMatching(Attack):
    """Witches' Brew (Geiping et al. 2021, arXiv:2009.02276)."""

    Config = GradientMatchingConfig
    protocols = ("from_scratch",)
    clean_label = True
    card = Card(
        title="Gradient matching (Witches' Brew)",
        references=(
            Reference(
                authors="J. Geiping et al.",
                title="Witches' Brew: Industrial Scale Data Poisoning via Gradient Matching",
                venue="ICLR",
                year=2021,
                arxiv="2009.02276",
            ),
        ),
        summary="Correctly labeled images of one class are changed slightly so that the gradient they cause in "
        "training points where the gradient of a lie would: one chosen image of another class is taken for theirs.",
        threat_model="Clean label, bounded perturbation of some training images of one class; trains clean models of "
        "the victim's kind, knows neither the victim's start nor its order of images.",
        deviations=(
            "The victim's own augmentation (whole-pixel crops, zero padding) instead of bilinear shifts, in crafting "
            "as in training; its derivative is exact.",
            "Targets are images that the first surrogate gets right, of random classes unless source_class and "
            "target_class are set; the benchmark has fixed lists.",
            "An ensemble is of the victim's own architecture, each member with its own start.",
            "All poisons are one batch; the repository matches batches of 512, one by one, where there are more.",
            "The presets quick and full train surrogates by the victim's recipe, paper by the repository's.",
            "Quick: one restart and 20 steps, after which the alignment stands still, 4 % poisons at eps 16. On digits "
            "nobody is hit: their classes lie too far apart.",
        ),
    )

    def check_network(self, network: Classifier, shape: tuple[int, int, int]) -> None:
        check_second_derivatives(network, shape, self.name)

    def poison(self, view: AttackerView, ctx: Context) -> Poison:
        cfg: GradientMatchingConfig = self.config
        train = view.train
        recipe = surrogate_recipe(cfg)
        surrogates = [view.surrogate(n, recipe=recipe) for n in range(cfg.models)]
        models = [copy.deepcopy(surrogate).requires_grad_(True) for surrogate in surrogates]
        draws = ctx.generator("gradient matching", "choice")
        trials = draw_trials(view, models[0], cfg, draws)
        crafted = Crafted.resumed(ctx)
        steps_a_trial = cfg.restarts * cfg.steps
        counter = StepCounter(ctx, len(crafted) * steps_a_trial, cfg.targets * steps_a_trial)
        for trial in range(len(crafted), cfg.targets):
            base = train[trials.index[trial]]
            target = trials.targets[trial, None]
            label = trials.adversarial[trial, None]
            noise = ctx.generator("gradient matching", "craft", str(trial))
            attempts = [
                craft(models, base.x, base.y, target, label, cfg, noise, counter.advance)
                for _ in range(cfg.restarts)
            ]
            crafted.add(min(attempts, key=lambda attempt: attempt.final_loss))
            ctx.keep(crafted.bundle)
        _report(crafted.losses, cfg.steps, ctx)
        return trials.poison(torch.stack(crafted.images), train)

    def threat(self, poison: Poison, classes: int) -> Targeted:
        return targeted_threat(poison)


def _report(losses: list[list[float]], steps: int, ctx: Context) -> None:
    """The alignment loss at some steps and at the last, averaged over the trials."""
    shown = list(range(1, steps, EVERY))
    if steps:
        shown.append(steps)
    for step in shown:
        ctx.metric("alignment_loss", step, sum(curve[step - 1] for curve in losses) / len(losses))
