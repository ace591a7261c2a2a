"""How a run's networks are trained: by the protocol of its spec, from scratch or from a pretrained extractor."""

from collections.abc import Sequence
from typing import Any

from poisonlab.context import Context, Watcher
from poisonlab.spec.config import ExperimentSpec
from poisonlab.spec.stages import Stage
from poisonlab.training.victims import (
    MakeHook,
    Victims,
    train_from_scratch,
    train_on_extractor,
    train_transfer,
)
from poisonlab.types import ImageSet, Splits


class Trainer:
    """Each training is a stage of its own, or one for each training set."""

    def __init__(self, spec: ExperimentSpec, splits: Splits, ctx: Context) -> None:
        self.spec = spec
        self.splits = splits
        self.ctx = ctx
        self._extractor: Victims | None = (
            None  # asked for several times, trained once even where nothing is cached
        )

    def train(
        self,
        name: str,
        sets: Sequence[ImageSet],
        trials: int = 1,
        *,
        seed: int | None = None,
        make_hook: MakeHook | None = None,
        hook_key: Any = None,
        observer: Watcher | None = None,
    ) -> Victims:
        """Victims of the spec's protocol, one for each training set, which is a trial's own or the same for all.

        Args:
            seed: another than the run's.
            make_hook, hook_key: as in :func:`~poisonlab.training.victims.train_from_scratch`.
            observer: called with the victim of each trial once it is trained, where they are trained one by one.
        """
        spec, ctx = self.reseeded(seed)
        if self.spec.protocol == "linear_transfer" and make_hook is None:
            return train_transfer(name, spec, self.extractor(), sets, trials, ctx)
        ctx = ctx.watched_by(observer)
        if self.spec.protocol == "from_scratch":
            victims = train_from_scratch(name, spec, sets, ctx, make_hook, hook_key)
        else:
            victims = train_on_extractor(name, spec, self.extractor(), sets, ctx, make_hook, hook_key)
        return victims.serving(trials)

    def extractor(self) -> Victims:
        """The pretrained network that all victims of a transfer protocol start from."""
        if self._extractor is None:
            self._extractor = train_from_scratch(Stage.EXTRACTOR, self.spec, [self.splits.pretrain], self.ctx)
        return self._extractor

    def reseeded(self, seed: int | None) -> tuple[ExperimentSpec, Context]:
        """Spec and context with another seed, or the run's own."""
        if seed is None:
            return self.spec, self.ctx
        return self.spec.model_copy(update={"seed": seed}), self.ctx.reseeded(seed)
