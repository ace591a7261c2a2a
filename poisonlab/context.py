"""What a method is handed besides its data: device, random generators, the event stream, a way to go on after an
interruption. Imports nothing of the package but its events and nouns."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol, Self, TypeVar

import torch
from torch.nn import Module

from poisonlab.events import ArtifactReady, Event, Kept, Log, Metric, Progress, SetAside
from poisonlab.types import Bundle

T = TypeVar("T")

Look = Callable[[str, int, Module], Mapping[str, float] | None]


class Watcher(Protocol):
    """Who looks at models on the experimenter's behalf, and what that depends on."""

    def key(self) -> str:
        """Hash of all that decides what is seen, the model aside."""

    def __call__(self, phase: str, step: int, model: Module) -> Mapping[str, float] | None:
        """Look at a model; what comes back becomes points of curves."""


class PartialResult(Protocol):
    """The unfinished work of one stage, kept where an interruption does not reach it."""

    @property
    def spent(self) -> float:
        """Seconds that interrupted attempts worked before the kept state."""

    def load(self) -> Bundle | None:
        """The last kept state, if there is one."""

    def due(self) -> bool:
        """Whether enough time has passed since the last state was kept."""

    def save(self, done: Bundle) -> None:
        """Keep a new state in place of the last."""


class StageStore(Protocol):
    """Where finished stages are kept; see :func:`poisonlab.cache.stage_cache.run_stage`."""

    def get_or_compute(
        self, name: str, key: Any, ctx: "Context", compute: Callable[["Context"], Bundle]
    ) -> tuple[Bundle, bool]:
        """The stage's bundle and whether it was there already."""


def _ignore(event: Event) -> None:
    pass


@dataclass(frozen=True)
class Context:
    """Everything a method may use that is not data.

    Attributes:
        device: where tensors live.
        seed: root of all randomness below.
        send: takes every event; raises ``Cancelled`` when the run should stop.
        cache: finished stages; ``None`` computes everything anew. No method's business.
        precision: autocast type of network passes that are made for it, where the device has it.
        stage_name: the stage being computed, attached to every event.
        observer: takes phase, step and model before a run ends; changes neither of them, nor any random state. What it
            returns becomes points of curves.
        observer_key: hash of all that decides what the observer sees, the model aside. A cached stage shows again what
            an observer with the same key saw.
        partial: the unfinished work of the stage being computed; ``None`` where nothing is cached.
    """

    device: torch.device = torch.device("cpu")
    seed: int = 0
    send: Callable[[Event], None] = _ignore
    cache: StageStore | None = None
    precision: torch.dtype = torch.float32
    stage_name: str = ""
    observer: Look | None = None
    observer_key: str = ""
    partial: PartialResult | None = None
    _apart: list[float] = field(default_factory=list, repr=False)  # seconds that are not the present stage's
    _throttle: dict[str, float] = field(default_factory=dict, repr=False)

    # -- randomness -----------------------------------------------------------------------------

    def generator(self, *names: str) -> torch.Generator:
        """A generator that depends on the seed and on who asks, not on the order of asking."""
        return derive(self.seed, *names, device=self.device)

    def for_stage(self, name: str) -> Self:
        """The same context for the computation of a stage, whose name its events carry."""
        return dataclasses.replace(self, stage_name=name, partial=None, _apart=[])

    def watched_by(self, watcher: Watcher | None) -> Self:
        """The same context with another observer, or with none."""
        return dataclasses.replace(self, observer=watcher, observer_key=watcher.key() if watcher else "")

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

    def of_trial(self, trial: int) -> Self:
        """The same context for one trial of the run, from 0 on, which its artifacts then belong to."""

        def send(event: Event) -> None:
            if isinstance(event, ArtifactReady):
                event = dataclasses.replace(event, trial=trial)
            self.send(event)

        return dataclasses.replace(self, send=send)

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
        """Where the stage could be left: store how far it has come, at most once a minute."""
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
        with self.apart("observing"):  # Stage.OBSERVING, a name of the layer above
            seen = self.observer(phase, step, model) or {}
        for name, value in seen.items():
            self.emit(Metric(self.stage_name, name, step, float(value), self.observer_key))

    # -- time -------------------------------------------------------------------------------------

    @contextmanager
    def apart(self, stage: str) -> Iterator[None]:
        """What is done in here takes time of another stage, not of the present one."""
        self._finish_work()  # what is in flight belongs to the present stage
        started = time.perf_counter()
        yield
        self._finish_work()
        self._apart.append(time.perf_counter() - started)
        self.emit(SetAside(self.stage_name, self._apart[-1], stage))

    def _finish_work(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @property
    def seconds_apart(self) -> float:
        """Seconds of the present stage that were another's."""
        return sum(self._apart)

    # -- precision --------------------------------------------------------------------------------

    @property
    def autocast_type(self) -> torch.dtype:
        """``precision`` where the device computes in it: a GPU, or a processor with instructions for it."""
        if self.device.type == "cuda" or has_bfloat16():
            return self.precision
        return torch.float32

    def autocast(self) -> Any:
        """Mixed precision for network passes where the device has it; nothing elsewhere."""
        if self.autocast_type == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_type)


@cache
def has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16; others would only imitate it, more slowly than in float32."""
    can: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.11 may lack it
    return any(can.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def derive(seed: int, *names: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator from a seed and a path of names; equal arguments give equal streams."""
    hashed = hashlib.sha256("/".join([str(seed), *names]).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(hashed[:8], "big") >> 1)
