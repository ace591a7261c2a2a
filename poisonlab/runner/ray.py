"""The engine for several machines: each job is a task of Ray, on whichever of them has room.

Workers say what happens through an actor beside the program, which alone writes the database. With a results folder
that all of them see, runs and stages are written there; without one, each machine keeps its own stages, and the folder
of a run comes back with the task and is checked like one from elsewhere.
"""

import os
import secrets
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from poisonlab.records import archive
from poisonlab.records.record import RecordError, RunRecord
from poisonlab.runner.options import RayOptions
from poisonlab.runner.parts import EngineError, Slot, WorkerLost
from poisonlab.runner.progress import Listener
from poisonlab.runner.queue import QueueRunner
from poisonlab.runner.ray_task import MARK, SILENT, Files, attempt
from poisonlab.runner.remote import Ending, follow
from poisonlab.runner.wire import Post, Row
from poisonlab.store import Job, Store

POLL = 0.25  # seconds between two looks at what a job says


class RayRunner(QueueRunner):
    """Runs queued jobs as tasks of Ray.

    Args:
        results: holds ``runs`` and the stage ``cache``; other machines use it where they see it under the same name.

    Raises:
        EngineError: there is no such cluster, or none of its machines has room for a job.
    """

    def __init__(self, store: Store, results: Path, options: RayOptions) -> None:
        _join(options)
        found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = options.gpus if found.get("GPU", 0) > 0 else 0.0
        super().__init__(store, results, _slots(found, options, gpus))
        self.memory_share = min(1.0, gpus) if gpus else 1.0
        # a crash of a worker is told apart from a job that failed, and is another attempt of the job
        self._task = ray.remote(num_cpus=options.cpus, num_gpus=gpus, max_retries=0)(attempt)
        # on the program's own machine: another one may die, and with it what all jobs said
        beside = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor: Any = ray.remote(Post)
        self._post: Any = actor.options(num_cpus=0, scheduling_strategy=beside).remote()
        self._mark = secrets.token_hex(8)
        results.mkdir(parents=True, exist_ok=True)
        (results / MARK).write_text(self._mark)

    def carry_out(self, job: Job, slot: Slot, listener: Listener) -> RunRecord:
        order = self.order_of(job, slot, job.attempt)
        key = f"{job.run_id} {job.attempt}"
        line = _TaskLine(self._task.remote(order.json(), self._mark, key, self._post), key, self._post)
        ending = follow(line, listener, listener.wanted, POLL)
        if line.files:
            try:
                _receive(line.files, job.run_id, self.results / "runs")
            except RecordError as error:
                raise EngineError(f"what a worker sent of the run is not whole: {error}") from error
        return self.record_of(job, ending)

    def stop(self, timeout: float = 10.0) -> bool:
        ended = super().stop(timeout)
        with suppress(Exception):  # a cluster that is gone has nothing left to be ended
            ray.kill(self._post)
        return ended


def _join(options: RayOptions) -> None:
    """Join the cluster, or start one on this machine that nobody else reaches."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        return
    try:
        if options.address:
            ray.init(address=options.address, log_to_driver=False)
        else:
            ray.init(
                address="local", include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1"
            )
    except (RayError, ConnectionError, ValueError, RuntimeError) as error:
        raise EngineError(f"Ray cannot be reached at {options.address or 'this machine'}: {error}") from error


def _slots(found: dict[str, float], options: RayOptions, gpus: float) -> list[Slot]:
    """One slot for each job that the cluster has room for."""
    room = int(found.get("CPU", 0) / options.cpus) if options.cpus else options.workers
    if gpus:
        room = min(room, int(found["GPU"] / gpus)) if options.cpus else int(found["GPU"] / gpus)
    if options.workers:
        room = min(room, options.workers)
    if room < 1:
        raise EngineError(
            f"the cluster has {found.get('CPU', 0):g} CPUs and {found.get('GPU', 0):g} GPUs, a job asks for "
            f"{options.cpus:g} and {gpus:g}: lower cpus or gpus"
        )
    return [Slot(f"ray {number}", "cuda" if gpus else "cpu") for number in range(1, room + 1)]


class _TaskLine:
    """One attempt at a job: a :class:`~poisonlab.runner.remote.Line`.

    Attributes:
        files: of the run's folder, where it came back with the task.
    """

    def __init__(self, task: Any, key: str, post: Any) -> None:
        self.files: Files = {}
        self._task = task
        self._key = key
        self._post = post

    def said(self) -> Iterable[Row]:
        try:
            rows: list[Row] = ray.get(self._post.take.remote(self._key), timeout=SILENT)
        except GetTimeoutError:  # a busy machine, or the actor is still starting
            return []
        except RayError as error:
            raise EngineError(f"Ray does not answer: {error}") from error
        return rows

    def tell(self, word: str) -> None:
        self._post.tell.remote(self._key, word)

    def wait(self, seconds: float) -> None:
        ray.wait([self._task], timeout=seconds)

    def ended(self) -> Ending | None:
        ready, _ = ray.wait([self._task], timeout=0)
        if not ready:
            return None
        try:
            state, message, self.files = ray.get(self._task)
        except RayError as error:
            first = str(error).strip().partition("\n")[0]
            raise WorkerLost(f"the worker is gone ({type(error).__name__}: {first[:200]})") from error
        return Ending(state, message)


def _receive(files: Files, run_id: str, runs: Path) -> None:
    """Give the folder of a run its place, if it is whole."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / run_id
        folder.mkdir()
        for name, content in files.items():
            (folder / Path(name).name).write_bytes(content)
        archive.receive(folder, runs)
