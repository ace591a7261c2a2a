"""What all backdoors share: which images are poisoned, how they are relabeled, how success is measured.

An attack defines its trigger, and how the trigger is learned where it is.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from poisonlab.attacks.base import Attack, AttackerView, check_target
from poisonlab.context import Context
from poisonlab.spec.config import Config, param
from poisonlab.types import Backdoor, ImageSet, Poison

NEEDS_NO_MODEL = "Controls a share of the training images and their labels (dirty label); needs no model."
TRAINS_A_MODEL = (
    "Controls a share of the training images and their labels (dirty label); trains a clean model of "
    "the victim's kind."
)
SPARES_THE_TARGET = (
    "All-to-one never poisons images that already are of the target class; {} does not avoid them."
)
ROUNDS = "Values are rounded to 8 bits; BackdoorBench cuts off the fraction, so that about {} % are lower by 1/255."
RATE_OF = "What poison_rate is a share of: all training images, those of other classes, or those of the target class"


class BackdoorConfig(Config):
    target_class: int = param(0, "Class that triggered images should be given (all-to-one)", ge=0)
    poison_rate: float = param(
        0.1,
        "Share of the training images that is poisoned",
        gt=0,
        le=1,
        source="BackdoorBench; the ANP paper uses 0.05 of the non-target images",
    )
    rate_of: Literal["all", "non_target", "target"] = param("all", RATE_OF, source="BackdoorBench")


class DirtyLabelConfig(BackdoorConfig):
    mapping: Literal["all_to_one", "all_to_all"] = param(
        "all_to_one", "Triggered images go to the target class, or each to the class after its own"
    )


class CleanLabelConfig(BackdoorConfig):
    poison_rate: float = param(
        0.8, "Share of the images that is poisoned", gt=0, le=1, source="ANP repository"
    )
    rate_of: Literal["all", "non_target", "target"] = param("target", RATE_OF, source="ANP repository")


def next_class(y: Tensor, classes: int) -> Tensor:
    """All-to-all: y' = (y + 1) mod C."""
    return (y + 1) % classes


class BackdoorAttack(Attack):
    """Base of attacks whose success is a triggered image given the attacker's label.

    Without relabeling (``clean_label``) only images of the target class are poisoned; with it only images
    of other classes, or all under the mapping ``all_to_all``.
    """

    recipe = "backdoor"

    def learn(self, view: AttackerView, ctx: Context) -> dict[str, Tensor]:
        """What the trigger needs besides its parameters: a drawn or optimized pattern. Nothing by default."""
        return {}

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        """uint8 images ``(n, c, h, w)`` with the trigger, as at test time; ``x`` is not modified."""
        raise NotImplementedError

    def poisoned(self, data: ImageSet, state: dict[str, Tensor], view: AttackerView, ctx: Context) -> Tensor:
        """The images that replace ``data`` in the training set: the trigger alone by default."""
        return self.trigger(data.x, state)

    def poison(self, view: AttackerView, ctx: Context) -> Poison:
        train = view.train
        index = self._rows(train, ctx)
        state = self.learn(view, ctx)
        chosen = train[index]
        images = self.poisoned(chosen, state, view, ctx)
        labels = chosen.y if self.clean_label else self._relabel(len(train.classes))(chosen.y)
        return Poison(index[None], images[None], labels[None], state)

    def finalize(self, poison: Poison, learned: dict[str, Tensor], train: ImageSet) -> Poison:
        state = poison.state | learned
        return replace(poison, images=self.trigger(train.x[poison.index[0]], state)[None], state=state)

    def threat(self, poison: Poison, classes: int) -> Backdoor:
        trigger = partial(self.trigger, state=poison.state)
        target_class = None if self._all_to_all() else self.config.target_class
        return Backdoor(trigger, self._relabel(classes), target_class)

    def _rows(self, train: ImageSet, ctx: Context) -> Tensor:
        """Rows of the poisoned images, in random order."""
        candidates, count = self._candidates(train)
        draws = ctx.generator(self.name, "index")
        order = torch.randperm(len(candidates), generator=draws, device=train.y.device)
        rows: Tensor = candidates[order[:count]]
        return rows

    def _candidates(self, train: ImageSet) -> tuple[Tensor, int]:
        """Rows that may be poisoned, and how many of them the rate asks for."""
        cfg: Any = self.config
        check_target(cfg.target_class, len(train.classes))
        of_target = train.y == cfg.target_class
        everything = torch.ones_like(of_target)
        if self.clean_label:
            allowed = of_target
        elif self._all_to_all():
            allowed = everything
        else:
            allowed = ~of_target
        candidates = allowed.nonzero().squeeze(1)
        shared = {"all": everything, "non_target": ~of_target, "target": of_target}[cfg.rate_of]
        count = round(cfg.poison_rate * int(shared.sum()))
        if not 1 <= count <= len(candidates):
            raise ValueError(
                f"poison_rate={cfg.poison_rate} asks for {count} of {len(candidates)} candidate images; "
                f"{'lower' if count else 'raise'} attack.poison_rate"
            )
        return candidates, count

    def _all_to_all(self) -> bool:
        return getattr(self.config, "mapping", "all_to_one") == "all_to_all"

    def _relabel(self, classes: int) -> Callable[[Tensor], Tensor]:
        """True labels ``(n,)`` -> the attacker's; can be sent to another process."""
        if self._all_to_all():
            return partial(next_class, classes=classes)
        return partial(torch.full_like, fill_value=self.config.target_class)
