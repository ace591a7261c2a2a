"""A run opened again: its images and its networks, out of the stages that the cache keeps. Nothing is trained."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from poisonlab import machine
from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.pipeline.defend import Defender
from poisonlab.pipeline.experiment import Defended, attack_and_prepare, defend, load
from poisonlab.pipeline.poison import Attacked
from poisonlab.spec.config import ExperimentSpec
from poisonlab.spec.stages import Stage
from poisonlab.training.protocols import Trainer
from poisonlab.training.victims import Victims
from poisonlab.types import Bundle

UNKEPT = frozenset({Stage.DRIVE})  # a picture alone: nothing that comes after it needs it


class NotKept(RuntimeError):
    """A stage of the run is no longer in the cache, or other code or another device made it; says what to do."""


@dataclass(frozen=True)
class Opened:
    """What a run worked with.

    Attributes:
        attacked: images, poison, threat, control and undefended victims.
        defended: what the defense made of them.
        ctx: of the run, without a cache, for whatever is looked at now.
    """

    spec: ExperimentSpec
    attacked: Attacked
    defended: Defended
    ctx: Context

    @property
    def victims(self) -> dict[str, Victims]:
        """``control``, ``undefended`` and ``defended``, in this order."""
        return {
            "control": self.attacked.control,
            "undefended": self.attacked.undefended,
            "defended": self.defended.victims,
        }


def reopen(spec: ExperimentSpec, cache: Path, device: str = "auto") -> Opened:
    """Walk through a run whose stages are all kept; takes seconds.

    Args:
        cache: folder of the stage cache, as the run was given it.
        device: of the same type as the run's.

    Raises:
        NotKept: a stage is not there.
        DataError: the dataset cannot be loaded.
    """
    ctx = Context(
        device=machine.resolve_device(device),
        seed=spec.seed,
        cache=_KeptStages(StageCache(cache)),
        precision=getattr(torch, spec.precision),
    )
    splits = load(spec, ctx.device)
    trainer = Trainer(spec, splits, ctx)
    defender = Defender(spec, splits.reserve, ctx)
    attacked = attack_and_prepare(spec, splits, trainer, defender, ctx)
    defended = defend(attacked, defender, trainer, ctx)
    return Opened(spec, attacked, defended, dataclasses.replace(ctx, cache=None))


class _KeptStages:
    """A stage cache that is read alone."""

    def __init__(self, cache: StageCache) -> None:
        self._cache = cache

    def get_or_compute(
        self, name: str, key: Any, ctx: Context, compute: Callable[[Context], Bundle]
    ) -> tuple[Bundle, bool]:
        """Raises:
        NotKept: the stage is not there.
        """
        bundle = Bundle() if name in UNKEPT else self._cache.kept(name, key, ctx)
        if bundle is None:
            raise NotKept(
                f"the networks of this run are no longer kept ({name} is not in the cache, or was made by another "
                "version of the code or on another device); run it again to have them"
            )
        return bundle, True
