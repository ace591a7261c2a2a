"""What clean-label attacks on one target image share: targets, base images, the bound, descent on pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from pydantic import model_validator
from torch import Tensor

from poisonlab.attacks.base import Attack, AttackerView
from poisonlab.attacks.shared.pixels import round_within
from poisonlab.attacks.shared.surrogates import (
    Loss,
    Surrogate,
    SurrogateNames,
    mean_gradient,
    surrogates_of,
)
from poisonlab.context import Context
from poisonlab.models.base import Classifier, as_floats, predict
from poisonlab.spec.config import Config, param
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.types import ImageSet, Poison, Targeted

BENCHMARK = "poisoning-benchmark, white-box linear transfer"
DEVIATIONS = (
    "All targets of a run are crafted as one batch; their losses are independent.",
    "Targets are images that a clean model of the victim's kind gets right, of random classes unless source_class and "
    "target_class are set; the repositories take frogs to be called ships. A black-box attacker, too, is given targets "
    "that way, so that every number is over the same images; pixels are changed by the surrogates alone.",
    "Surrogates are trained by the victim's recipe; dropout stands before every inner 3x3 convolution, in the "
    "repositories once in a block.",
)


class TargetChoice(Config):
    """Which images are attacked, and which labels they should be given."""

    targets: int = param(
        100,
        "Independent trials, one target image each",
        quick=20,
        ge=1,
        le=1000,
        unit="images",
        source="PureGen",
    )
    source_class: int = param(-1, "Class of the target images; -1 for any", ge=-1)
    target_class: int = param(-1, "Class the target should be given; -1 for a random other one", ge=-1)


class TargetedConfig(TargetChoice):
    """Parameters of every attack in feature space."""

    poisons: int = param(
        25,
        "Poisoned images in a trial",
        quick={"*": 25, "digits": 20, "gtsrb": 5, "tiny_imagenet": 5},
        ge=1,
        unit="images",
        source=BENCHMARK,
    )
    eps: float = param(
        8,
        "L-infinity bound of the perturbation",
        quick={"*": 8, "digits": 48},
        ge=1,
        le=255,
        unit="1/255",
        source=BENCHMARK,
    )
    surrogates: SurrogateNames = param(
        "",
        "Victims to craft on (black box), such as 'resnet9 width=8, resnet8'; empty for the victim's own extractor",
    )
    dropout: float = param(
        0.0,
        "Share of activations dropped in surrogates, in training and crafting",
        ge=0,
        lt=1,
        source="Bullseye Polytope repository: 0.2, 0.25 and 0.3 in the black-box ensembles",
    )
    draws: int = param(
        1,
        "Passes with dropout whose features are averaged",
        ge=1,
        le=20,
        source="Bullseye Polytope-3x and -5x: 3 and 5",
    )

    @model_validator(mode="after")
    def _draws_differ(self) -> Self:
        if self.draws > 1 and not self.dropout:
            raise ValueError(f"draws={self.draws} averages passes that are all the same; set dropout above 0")
        return self


class DescentConfig(TargetedConfig):
    """Of attacks that move pixels by Adam."""

    steps: int = param(1200, "Adam steps", quick={"*": 200, "digits": 150}, ge=1, le=10_000, source=BENCHMARK)
    step_size: float = param(
        2.04,
        "Adam learning rate",
        quick={"*": 1.275, "digits": 5.1},
        gt=0,
        le=255,
        unit="1/255",
        source="BullseyePoison repository: 0.04 standard deviations of a channel, each about 0.2 of [0, 1]",
    )
    depths: int = param(
        1,
        "Depths whose features are compared: 1 for the penultimate alone, 2 for end-to-end",
        ge=1,
        le=4,
        source="BullseyePoison repository, end-to-end mode: 2",
    )


def choose_targets(
    candidates: ImageSet, predicted: Tensor, config: TargetChoice, generator: torch.Generator
) -> tuple[ImageSet, Tensor]:
    """Target images that a clean model gets right, and the label each should be given instead."""
    classes = len(candidates.classes)
    right = predicted == candidates.y
    if config.source_class >= 0:
        right &= candidates.y == config.source_class
    if config.target_class >= 0:
        right &= candidates.y != config.target_class
    rows = right.nonzero().squeeze(1)
    if len(rows) < config.targets:
        raise ValueError(
            f"targets={config.targets} asks for more than the {len(rows)} correctly classified candidates"
        )
    order = torch.randperm(len(rows), generator=generator, device=rows.device)
    chosen = candidates[rows[order[: config.targets]]]
    if config.target_class >= 0:
        return chosen, torch.full_like(chosen.y, config.target_class)
    shift = torch.randint(1, classes, chosen.y.shape, generator=generator, device=rows.device)
    return chosen, (chosen.y + shift) % classes


def base_rows(y: Tensor, label: int, count: int, generator: torch.Generator) -> Tensor:
    """Rows of ``count`` training images of a class."""
    rows = (y == label).nonzero().squeeze(1)
    if len(rows) < count:
        raise ValueError(
            f"poisons={count} asks for more than the {len(rows)} training images of class {label}"
        )
    return rows[torch.randperm(len(rows), generator=generator, device=rows.device)[:count]]


@dataclass(frozen=True)
class Trials:
    """Which images should be misclassified as what, and which training images are changed for it.

    Attributes:
        index: int64 ``(trials, k)``, rows of the training set.
        base: uint8 ``(trials, k, c, h, w)``, the images there.
        targets: uint8 ``(trials, c, h, w)``.
        true_labels, adversarial: int64 ``(trials,)``.
    """

    index: Tensor
    base: Tensor
    targets: Tensor
    true_labels: Tensor
    adversarial: Tensor

    def poison(self, images: Tensor, train: ImageSet) -> Poison:
        """The poison whose images, uint8 like ``base``, keep their labels."""
        state = {
            "target_images": self.targets,
            "true_labels": self.true_labels,
            "adversarial_labels": self.adversarial,
        }
        return Poison(self.index, images, train.y[self.index], state)


def draw_trials(view: AttackerView, model: Classifier, config: Any, draws: torch.Generator) -> Trials:
    """Targets that ``model`` classifies correctly, their adversarial labels, and base images of those classes.

    Args:
        config: a :class:`TargetChoice` with a number of ``poisons``.
    """
    train = view.train
    predicted = predict(model, view.candidates.x)
    chosen, adversarial = choose_targets(view.candidates, predicted, config, draws)
    index = torch.stack([base_rows(train.y, int(label), config.poisons, draws) for label in adversarial])
    return Trials(index, train.x[index], chosen.x, chosen.y, adversarial)


class TargetedAttack(Attack):
    """Changes images of the adversarial class so that a model that learns them takes the target for one of them."""

    protocols = ("linear_transfer", "fine_tune_transfer")
    clean_label = True

    def craft(self, surrogates: Sequence[Surrogate], base: Tensor, targets: Tensor, ctx: Context) -> Tensor:
        """The poisons of each trial.

        Args:
            base: uint8 ``(trials, k, c, h, w)``; not modified.
            targets: uint8 ``(trials, c, h, w)``.

        Returns:
            uint8 like ``base``.
        """
        raise NotImplementedError

    def poison(self, view: AttackerView, ctx: Context) -> Poison:
        # one stream for all: the same targets and bases for each attack
        draws = ctx.generator("bullseye", "choice")
        trials = draw_trials(view, view.clean_model(), self.config, draws)
        surrogates = surrogates_of(self.config, view, ctx)
        return trials.poison(self.craft(surrogates, trials.base, trials.targets, ctx), view.train)

    def threat(self, poison: Poison, classes: int) -> Targeted:
        return targeted_threat(poison)


def targeted_threat(poison: Poison) -> Targeted:
    """The threat from what an attack on single images keeps with its poison."""
    state = poison.state
    return Targeted(state["target_images"], state["true_labels"], state["adversarial_labels"])


def descend(
    base: Tensor,
    targets: Tensor,
    losses_of: Callable[[Tensor], Sequence[Loss]],
    trials_at_once: int,
    config: DescentConfig,
    metric: str,
    ctx: Context,
    draws: Sequence[torch.Generator] | None = None,
) -> Tensor:
    """Adam on the pixels from ``base``, clipped to the bound after each step.

    Args:
        base: uint8 ``(trials, k, c, h, w)``; not modified.
        targets: uint8 ``(trials, c, h, w)``.
        losses_of: targets of some trials -> one loss a surrogate; float images like their ``base`` in [0, 1] ->
            ``(trials,)``. Losses of trials are independent, so that they can be taken in groups.
        metric: name under which the mean loss is reported.
        draws: all that the losses draw from, where they remember nothing else: an interrupted descent then continues
            where it was.

    Returns:
        uint8 like ``base``, within ``eps`` of it and in [0, 255].
    """
    eps = config.eps / 255
    x = base.float() / 255
    low = (x - eps).clamp_min(0)
    high = (x + eps).clamp_max(1)
    poisons = x.clone().requires_grad_()
    optimizer = torch.optim.Adam([poisons], lr=config.step_size / 255)
    losses_of_groups = [losses_of(group) for group in targets.split(trials_at_once)]
    checkpoint = Checkpoint({"poisons": poisons}, optimizer, draws or ())
    kept = ctx.resume() if draws is not None else None
    taken = checkpoint.load(kept)["step"] if kept else 0
    for step in range(taken + 1, config.steps + 1):
        groups = zip(losses_of_groups, poisons.split(trials_at_once), strict=True)
        found = [mean_gradient(losses, group) for losses, group in groups]
        loss = torch.cat([values for values, _ in found])
        poisons.grad = torch.cat([gradient for _, gradient in found])
        optimizer.step()
        with torch.no_grad():
            poisons.copy_(torch.minimum(torch.maximum(poisons, low), high))
        if step % 10 == 0 or step == config.steps:
            ctx.metric(metric, step, loss.mean().item())
        ctx.progress(step, config.steps)
        if draws is not None and step < config.steps:
            ctx.keep(partial(checkpoint.bundle, step=step))
    return round_within(poisons.detach(), base, config.eps)


def trials_at_once(surrogates: Sequence[Surrogate], base: Tensor) -> int:
    """How many trials, uint8 ``(trials, k, c, h, w)``, a graph through the largest surrogate may hold."""
    x = as_floats(base.flatten(0, 1)[:2])
    images = min(surrogate.images_at_once(x) for surrogate in surrogates)
    trials, poisons = base.shape[:2]
    return min(trials, max(1, images // poisons))
