"""What a method is handed besides its data: device, random generators, the event stream, the stage cache."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import torch
from torch.nn import Module

from poisonlab.cache.partial import Partial
from poisonlab.cache.stage_cache import Bundle, StageCache
from poisonlab.events import (
    ArtifactReady,
    Event,
    Kept,
    Log,
    Metric,
    Observed,
    Progress,
    StageFinished,
    StageStarted,
)

T = TypeVar("T")


def _ignore(event: Event) -> None:
    pass


@dataclass(frozen=True)
class Context:
    """Everything a method may use that is not data.

    Attributes:
        device: where tensors live.
        seed: root of all randomness below.
        send: takes every event; raises ``Cancelled`` when the run should stop.
        cache: finished stages; ``None`` computes everything anew.
        precision: autocast type of network passes on CUDA.
        stage_name: the stage being computed, attached to every event.
        observer: takes phase, step and model before a run ends; changes neither of them, nor any random state.
        partial: the unfinished work of the stage being computed; ``None`` where nothing is cached.
    """

    device: torch.device = torch.device("cpu")
    seed: int = 0
    send: Callable[[Event], None] = _ignore
    cache: StageCache | None = None
    precision: torch.dtype = torch.float32
    stage_name: str = ""
    observer: Callable[[str, int, Module], None] | None = None
    partial: Partial | None = None
    _observed: list[float] = field(
        default_factory=list, repr=False
    )  # seconds of this stage that were the observer's
    _throttle: dict[str, float] = field(default_factory=dict, repr=False)

    # -- randomness -----------------------------------------------------------------------------

    def generator(self, *names: str) -> torch.Generator:
        """A generator that depends on the seed and on who asks, not on the order of asking."""
        return derive(self.seed, *names, device=self.device)

    def reseeded(self, seed: int) -> Self:
        """The same context for work that must not depend on the run's seed (shared generative models)."""
        return dataclasses.replace(self, seed=seed)

    # -- events -----------------------------------------------------------------------------------

    def emit(self, event: Event) -> None:
        """Send an event. Raises ``Cancelled`` when the run was asked to stop."""
        self.send(event)

    def metric(self, name: str, step: int, value: float) -> None:
        self.emit(Metric(self.stage_name, name, step, float(value)))

    def artifact(self, name: str, value: Any) -> None:
        self.emit(ArtifactReady(self.stage_name, name, value))

    def log(self, message: str, level: str = "info") -> None:
        self.emit(Log(self.stage_name, message, level))

    def progress(self, step: int, total: int, every: float = 0.1) -> None:
        """Report ``step`` of ``total``, at most once in ``every`` seconds but always at the end."""
        now = time.monotonic()
        if step >= total or now - self._throttle.get(self.stage_name, 0.0) >= every:
            self._throttle[self.stage_name] = now
            self.emit(Progress(self.stage_name, step, total))

    def track(self, items: Iterable[T], total: int) -> Iterator[T]:
        """Yield ``items`` while reporting progress after each."""
        for done, item in enumerate(items, 1):
            yield item
            self.progress(done, total)

    # -- going on after an interruption -----------------------------------------------------------

    def resume(self) -> Bundle | None:
        """What an interrupted attempt at this stage kept last; what that one reported is reported again.

        To be called once, before the work, by whoever does the whole of a stage. The stage ends with the numbers of
        one that was never interrupted.
        """
        if self.partial is None:
            return None
        kept = self.partial.load()
        if kept:
            self.log(f"goes on after {self.partial.spent:.0f} s of an interrupted attempt")
        self.emit(Kept(self.stage_name))
        return kept and kept.to(self.device)

    def keep(self, done: Callable[[], Bundle]) -> None:
        """Where the stage could be left: store how far it has come, at most every ``partial.EVERY`` seconds."""
        if self.partial and self.partial.due():
            self.partial.save(done())
            self.emit(Kept(self.stage_name))

    # -- the experimenter -------------------------------------------------------------------------

    def observe(self, phase: str, step: int, model: Module) -> None:
        """Let the experimenter look at a model. What is seen stays there, its time is not the method's.

        Args:
            phase: what is being done to the model, such as ``unlearning``; ``trials`` where it is the finished one of
                a trial.
            step: how often it was done, or the trial's number from 1 on; 0 is the model that the phase starts from.
        """
        if self.observer is None:
            return
        if self.device.type == "cuda":  # the method's own work in flight is not the observer's time
            torch.cuda.synchronize(self.device)
        started = time.perf_counter()
        self.observer(phase, step, model)
        self._observed.append(time.perf_counter() - started)
        self.emit(Observed(self.stage_name, self._observed[-1]))

    # -- precision --------------------------------------------------------------------------------

    def autocast(self) -> Any:
        """Mixed precision for network passes where the device has it; nothing elsewhere."""
        if self.device.type == "cuda" and self.precision != torch.float32:
            return torch.autocast("cuda", dtype=self.precision)
        return nullcontext()

    # -- stages -----------------------------------------------------------------------------------

    def stage(
        self, name: str, key: Any, code: Iterable[object], compute: Callable[["Context"], Bundle]
    ) -> Bundle:
        """The result of a stage, from the cache when it is there whole, computed and stored otherwise.

        Metrics, logs and artifacts that the stage emitted when it was computed are emitted again on
        a hit, so that a run shows the same things whether or not it had to work for them.

        Args:
            name: shown to people and part of the key.
            key: JSON-able; exactly what the result depends on, seed included where it matters.
            code: objects whose source decides the result; a change of it changes the key.
            compute: called with a context whose events carry the stage's name.
        """
        inner = dataclasses.replace(self, stage_name=name, partial=None, _observed=[])
        self.emit(StageStarted(name))
        started = time.perf_counter()
        if self.cache is None:
            bundle, cached = compute(inner), False
        else:
            bundle, cached = self.cache.get_or_compute(name, key, code, inner, compute)
        seconds = 0.0 if cached else time.perf_counter() - started - sum(inner._observed)
        self.emit(StageFinished(name, seconds, cached))
        return bundle.to(self.device)


def derive(seed: int, *names: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator from a seed and a path of names; equal arguments give equal streams."""
    hashed = hashlib.sha256("/".join([str(seed), *names]).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(hashed[:8], "big") >> 1)
