"""Run a spec and keep everything it said: the one way from ``run_experiment`` to a run folder.

Called alike by the in-process runner, by the command line and on a bare GPU node: nothing here
needs a database or a browser.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from poisonlab import __version__, machine, registry
from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.events import (
    ArtifactReady,
    Cancelled,
    Event,
    Log,
    Metric,
    SetAside,
    StageFinished,
    StageStarted,
)
from poisonlab.pipeline.evaluate import ModelName
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.records import writing
from poisonlab.records.record import (
    RECORD,
    ArtifactFile,
    RecordError,
    RunRecord,
    check_run_id,
    finite,
    new_run_id,
    save_artifact,
    write_record,
)
from poisonlab.records.recorded_spec import RecordedSpec
from poisonlab.records.revision import LOADED
from poisonlab.runner.failures import RunFolderError, disk_message, explain_failure, is_expected
from poisonlab.runner.known_stages import NotingCache, remember
from poisonlab.spec.config import ExperimentSpec

__all__ = ["ArtifactFile", "Interrupted", "RecordError", "RunRecord", "cache_at", "run_and_record"]

CACHE_GB = "POISONLAB_CACHE_GB"
DEFAULT_CACHE_GB = 10.0
# what one record may hold
MAX_POINTS = 500_000
MAX_LOGS = 20_000
ARTIFACT_TRIALS = 20  # of later trials numbers are kept, but no images

log = logging.getLogger(__name__)


class Interrupted(Cancelled):
    """The process goes down: the run leaves no record, so that it can be resumed."""


def cache_at(root: Path) -> StageCache:
    """The stage cache in a folder, as large as ``POISONLAB_CACHE_GB`` allows.

    Raises:
        ValueError: the variable is not a positive number.
    """
    text = os.environ.get(CACHE_GB, "")
    try:
        gigabytes = float(text or DEFAULT_CACHE_GB)
    except ValueError:
        gigabytes = -1.0
    if not 0 < gigabytes < 1e6:
        raise ValueError(f"{CACHE_GB}={text!r} must be a positive number of gigabytes")
    return StageCache(root, int(gigabytes * 2**30))


def context_at(
    results: Path, device: str = "auto", seed: int = 0, send: Callable[[Event], None] = lambda event: None
) -> Context:
    """For work that is no run, and keeps its stages with those of the runs of a results folder.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. send: takes every event; may raise ``Cancelled``.
    """
    return Context(machine.resolve_device(device), seed, send, cache_at(results / "cache"))


def run_and_record(
    spec: ExperimentSpec,
    folder: Path,
    *,
    run_id: str | None = None,
    device: str = "auto",
    cache_root: Path | None = None,
    send: Callable[[Event], None] = lambda event: None,
) -> RunRecord:
    """Run ``spec`` and write ``folder/<run id>/``: artifacts as they come, ``run.json`` at the end.

    A run that fails is recorded too, with a message a person can act on; so is a cancelled one.

    Args:
        folder: holds one folder a run (``results/runs``).
        run_id: a UUID; a new one by default. What an earlier attempt left in its folder is removed.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        cache_root: where finished stages are kept; ``None`` computes everything and keeps nothing.
        send: takes every event after it was recorded; may raise ``Cancelled``.

    Raises:
        Interrupted: out of ``send``; nothing is recorded. KeyboardInterrupt: after recording ``cancelled``.
    """
    run_id = check_run_id(run_id or new_run_id())
    recorder = _Recorder(spec, run_id, folder / run_id, send)
    with writing.held(folder / run_id):
        return _recorded(recorder, device, cache_root)


def _recorded(recorder: "_Recorder", device: str, cache_root: Path | None) -> RunRecord:
    try:
        recorder.run(device, cache_root)
    except Interrupted:
        raise
    except Cancelled:
        return recorder.finish("cancelled", "cancelled on request")
    except KeyboardInterrupt as stop:  # it names what stopped the run where that was no key
        recorder.finish("cancelled", str(stop) or "cancelled from the keyboard")
        raise
    except Exception as error:  # whatever a method raises, the run keeps its message and the queue goes on
        return recorder.fail(error)
    finally:
        machine.release_memory()
    return recorder.finish("done")


class _Recorder:
    """Listens to one run."""

    def __init__(
        self, spec: ExperimentSpec, run_id: str, folder: Path, send: Callable[[Event], None]
    ) -> None:
        self.spec = spec
        self.run_id = run_id
        self.folder = folder
        self.forward = send
        self.device = torch.device("cpu")
        self.device_shown = ""
        self.stage = ""
        self.started = datetime.now(UTC)
        self.data: str | None = None
        self.undefined: tuple[str, ...] = ()
        self.collapsed: tuple[ModelName, ...] | None = None
        self.metrics: dict[str, float | None] = {}
        self.timings: dict[str, float] = {}
        self.cached: set[str] = set()
        self.points: list[tuple[str, str, int, float | None]] = []
        self.logs: list[tuple[str, str, str]] = []
        self.artifacts: dict[tuple[str, int], ArtifactFile] = {}  # by name and trial
        self._open: list[
            tuple[float, float]
        ] = []  # (start, seconds spent in stages within) of every open stage

    def run(self, device: str, cache_root: Path | None) -> None:
        _clear(self.folder)
        self.device = machine.resolve_device(device)
        self.device_shown = machine.device_name(self.device)
        machine.set_threads()
        machine.keep_memory()
        machine.settle_arithmetic(self.device)
        machine.reset_peak_memory(self.device)
        cache = None if cache_root is None else NotingCache(cache_at(cache_root))
        result = run_experiment(self.spec, Context(device=self.device, cache=cache, send=self.hear))
        if cache and cache_root:
            remember(self.spec, cache.asked, self.device.type, cache_root)
        self.metrics = {name: finite(value) for name, value in result.metrics.items()}
        self.undefined = tuple(name for name, value in result.metrics.items() if value is None)
        self.collapsed = result.collapsed
        self.data = result.data

    def hear(self, event: Event) -> None:
        """Record an event, then pass it on."""
        match event:
            case Metric(stage, name, step, value) if len(self.points) < MAX_POINTS:
                self.points.append((stage, name, step, finite(value)))
            case Log(stage, message, level) if len(self.logs) < MAX_LOGS:
                self.logs.append((stage, level, message[:5000]))
            case ArtifactReady() if event.trial < ARTIFACT_TRIALS:
                self._save(event)
            case StageStarted(stage):
                self.stage = stage
                self._open.append((time.perf_counter(), 0.0))
            case StageFinished(stage, _, cached):
                self._close(stage, cached)
            case SetAside(_, seconds, stage) if self._open:
                self._set_aside(stage, seconds)
        self.forward(event)

    def _save(self, event: ArtifactReady) -> None:
        """Keep an artifact beside those of other trials and names; of the same ones the last is kept."""
        saved = save_artifact(event.value, event.name, event.stage, self.folder, event.trial)
        self.artifacts[event.name, event.trial] = saved

    def _close(self, stage: str, cached: bool) -> None:
        """Add a stage's own seconds, those of stages within it left out, so that timings sum to the run's."""
        start, within = self._open.pop()
        whole = time.perf_counter() - start
        self.timings[stage] = self.timings.get(stage, 0.0) + (0.0 if cached else max(0.0, whole - within))
        if cached:
            self.cached.add(stage)
        if self._open:
            outer, inside = self._open[-1]
            self._open[-1] = (outer, inside + whole)

    def _set_aside(self, stage: str, seconds: float) -> None:
        """Time of what is no part of the open stage is that of a stage of its own, within it."""
        self.timings[stage] = self.timings.get(stage, 0.0) + seconds
        start, within = self._open[-1]
        self._open[-1] = (start, within + seconds)

    def fail(self, error: Exception) -> RunRecord:
        message = explain_failure(error, self.spec, self.stage, self.device)
        log.warning("run %s failed: %s", self.run_id, message, exc_info=None if is_expected(error) else error)
        self.logs.append((self.stage, "error", message[:5000]))
        return self.finish("failed", message)

    def finish(self, state: Any, message: str = "") -> RunRecord:
        record = self._record(state, message)
        try:
            write_record(record, self.folder)
        except OSError as error:
            text = f"the run's record cannot be written: {disk_message(error, self.folder)}"
            log.warning("%s", text)
            # without its record a run is not whole, however well it went, and nobody would find its folder
            shutil.rmtree(self.folder, ignore_errors=True)
            record = record.model_copy(
                update={"state": "failed", "message": f"{message}; {text}".removeprefix("; ")}
            )
        return record

    def _record(self, state: Any, message: str) -> RunRecord:
        return RunRecord(
            run_id=self.run_id,
            spec=RecordedSpec.of(self.spec),
            data=self.data,
            state=state,
            revision=LOADED,
            version=__version__,
            device=self.device_shown,
            torch=str(torch.__version__),
            created=self.started,
            started=self.started,
            finished=datetime.now(UTC),
            timings={stage: round(seconds, 4) for stage, seconds in self.timings.items()},
            cached=[s for s, seconds in self.timings.items() if s in self.cached and seconds == 0],
            threat=registry.attack[self.spec.attack.name].threat_kind(),
            metrics=self.metrics,
            undefined=self.undefined,
            collapsed=self.collapsed,
            points=self.points,
            logs=self.logs,
            artifacts=list(self.artifacts.values()),
            peak_memory_mb=_rounded(machine.peak_memory_mb(self.device)),
            message=message[:5000],
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _clear(folder: Path) -> None:
    """Make the folder, without what an earlier attempt left in it."""
    try:
        if folder.exists():
            (folder / RECORD).unlink(missing_ok=True)
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    except OSError as error:
        raise RunFolderError(disk_message(error, folder)) from error
