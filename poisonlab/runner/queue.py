"""What every engine shares: a daemon thread a slot, fed from the queue in the store, which it alone writes.

Daemon threads, because one that the interpreter waits for makes Ctrl-C hang. Nothing here is kept by Streamlit, whose
caches any browser can empty.
"""

import abc
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from poisonlab import machine
from poisonlab.measure.recorded import read_record
from poisonlab.records.record import RecordError, RunRecord
from poisonlab.runner import cost
from poisonlab.runner.failures import disk_message
from poisonlab.runner.parts import OWNER, EngineError, NoWorker, Person, Slot, WorkerLost
from poisonlab.runner.progress import TICK, Listener
from poisonlab.runner.recorder import Interrupted
from poisonlab.runner.remote import Ending, Order, program
from poisonlab.runner.rules import NotAllowed, read_rules
from poisonlab.runner.time_left import TimeLeft
from poisonlab.spec.config import ExperimentSpec
from poisonlab.store import Estimate, Job, Store, StoreError

POLL_SECONDS = 1.0
RESTS = (5.0, 20.0, 60.0, 180.0, 300.0)  # seconds without a worker before the next try; then jobs fail
LOOK_SECONDS = 5.0  # between looks for run folders that others wrote
FOLD_SECONDS = 10.0  # between two foldings of the database's log into its file
STOPPED = "the program was stopped while this job ran; resume goes on after its last whole stage"

log = logging.getLogger(__name__)


class QueueRunner(abc.ABC):
    """Takes jobs from the queue of a store and sees that they are carried out, one at a time in each slot.

    Two runners with the same devices on one store do no harm: jobs are claimed in SQL, and only jobs of dead processes
    are called interrupted.

    Args:
        results: holds ``runs`` and the stage ``cache``.
        slots: where jobs run, at least one; all have the same type of device.
    """

    memory_share = 1.0  # of a GPU's memory that a job may take

    def __init__(self, store: Store, results: Path, slots: Sequence[Slot]) -> None:
        self.store = store
        self.rules = read_rules()
        self.results = Path(results)
        self.slots = tuple(slots)
        self._listeners: dict[str, Listener] = {}
        self._ends: dict[str, tuple[str, str, int]] = {}  # state, message and attempt, not stored yet
        self._threads: list[threading.Thread] = []
        self._unfolded = False  # whether the database's log holds jobs that ended
        self._lock = threading.Lock()
        self._queueing = threading.Lock()  # what waits is counted and added to in one go
        self._wake = threading.Event()
        self._stopping = threading.Event()

    @property
    def devices(self) -> list[str]:
        """What an experiment may ask for, besides ``auto``."""
        return list(dict.fromkeys(slot.device for slot in self.slots))

    @property
    def workers(self) -> int:
        """How many jobs can run at once."""
        return len(self.slots)

    @property
    def device_type(self) -> str:
        """``cpu`` or ``cuda``: all slots have the same type of device."""
        return self.slots[0].device.partition(":")[0]

    # -- what an engine adds --------------------------------------------------------------------------

    @abc.abstractmethod
    def carry_out(self, job: Job, slot: Slot, listener: Listener) -> RunRecord:
        """Run a job to its end, and send all that it says to ``listener``.

        Raises:
            Interrupted: the program goes down. WorkerLost: what ran the job is gone.
        """

    def order_of(self, job: Job, slot: Slot, number: int) -> Order:
        """A job as a worker in another process gets it."""
        return Order(
            number=number,
            run_id=job.run_id,
            spec=job.spec.model_dump(mode="json"),
            results=str(self.results.absolute()),
            program=program(),
            device=slot.device,
            memory_share=self.memory_share,
        )

    def record_of(self, job: Job, ending: Ending) -> RunRecord:
        """What a worker in another process left of a job that ended.

        Raises:
            EngineError: it refused the job, or left no record that can be read.
        """
        if ending.state != "refused":
            with suppress(OSError, ValueError):
                record = read_record(self.results / "runs" / job.run_id)[0]
                if record.run_id == job.run_id:
                    return record
        raise EngineError(ending.message or "the worker left no record of this run")

    # -- life ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Mark what a dead process left behind as interrupted, then start the workers. Idempotent.

        Waiting jobs whose device is gone since they were queued, or for administrators alone now, fail: nobody would
        ever take them.
        """
        with self._lock:
            if self._threads:
                return
            self._stopping.clear()
            self.store.jobs.recover()
            kept_back = [device for device in self.devices if self.rules.keeps_back(device)]
            for run_id, device in self.store.jobs.untakeable(self.devices, kept_back, self.rules.unlimited):
                self.store.jobs.set_state(run_id, "failed", self._never_taken(device))
            self._threads = [
                threading.Thread(target=self._work, args=(slot,), name=f"poisonlab {slot.name}", daemon=True)
                for slot in self.slots
            ]
            self._threads.append(
                threading.Thread(target=self._keep_books, name="poisonlab books", daemon=True)
            )
            for thread in self._threads:
                thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Interrupt running jobs and end the workers; whether all ended within ``timeout`` seconds."""
        self._stopping.set()
        self._wake.set()
        deadline = time.monotonic() + timeout
        with self._lock:
            threads = self._threads
            self._threads = []
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        # deep in something that cannot be stopped: these end with the process
        for run_id in list(self._listeners):
            with suppress(StoreError):  # the next start finds them without an owner
                self.store.jobs.set_state(run_id, "interrupted", STOPPED)
        return not any(thread.is_alive() for thread in threads)

    # -- asking -------------------------------------------------------------------------------------

    def submit(self, spec: ExperimentSpec, device: str = "auto") -> str:
        """Queue a run; its id.

        Args:
            device: one of ``devices``, whose worker alone takes it; ``auto`` for the first that is free.

        Raises:
            QueueFull: too many wait already. DeviceError: no worker has this device.
        """
        return self.submit_many([spec], device)[0]

    def submit_many(
        self, specs: Iterable[ExperimentSpec], device: str = "auto", person: Person = OWNER
    ) -> list[str]:
        """Queue all of ``specs``, in their order, or none.

        Raises:
            NotAllowed: the rules of this server are against it.
        """
        wanted = list(specs)
        with self._queueing:
            self._check_allowed(wanted, device, person)
            run_ids = self.store.jobs.enqueue(wanted, device, person.name)
        if run_ids:
            first = wanted[0]
            named = f"{first.dataset.name} {first.attack.name} {first.defense.name} seed {first.seed}"
            self.store.audit.note(
                person.name, "queued", run_ids[0], f"{len(run_ids)} runs, the first {named}"
            )
        self._wake.set()
        return run_ids

    def cancel(self, run_id: str, person: Person = OWNER) -> str | None:
        """Cancel a waiting job, ask a running one to stop at its next event; the state it is in then.

        Raises:
            NotAllowed: it is somebody else's. StoreError: the database cannot be written; a running job is stopped all
                the same.
        """
        if not person.administrator:  # whom a database that cannot be read does not stop
            self._check_owner(self.store.jobs.get(run_id), person)
        try:
            state, new = self.store.jobs.request_cancel(run_id)
        finally:
            listener = self._listeners.get(run_id)
            if listener:
                listener.cancelled.set()
        if new:
            self.store.audit.note(person.name, "cancelled", run_id)
        return state

    def resume(self, run_id: str, person: Person = OWNER) -> None:
        """Queue a job that did not finish again, under its id and for its device; finished stages are cached.

        Raises:
            NotAllowed: it is somebody else's, or the rules are against it. StoreError: there is nothing to resume under
                this id. DeviceError: its device is gone.
        """
        job = self.store.jobs.get(run_id)
        self._check_owner(job, person)
        with self._queueing:
            if job:
                self._check_allowed([job.spec.experiment()], job.device, person)
            self.store.jobs.requeue(run_id)
        self.store.audit.note(person.name, "resumed", run_id)
        self._wake.set()

    def _check_owner(self, job: Job | None, person: Person) -> None:
        """A run that never was a job, of the command line say, is an administrator's."""
        owner = job.person if job else ""
        if not person.administrator and (owner != person.name or not owner):
            raise NotAllowed(
                f"this job is {owner or 'an administrator'}'s: only they or an administrator may"
            )

    def _check_allowed(self, specs: Sequence[ExperimentSpec], device: str, person: Person) -> None:
        """Whether there is such a device, and somebody may queue these runs."""
        if not person.name and not person.administrator:
            raise NotAllowed("this server asks who you are: sign in first")
        if device not in ("auto", *self.devices):
            raise machine.DeviceError(self._without_worker(device))
        if device == "auto" and not person.administrator and all(map(self.rules.keeps_back, self.devices)):
            raise NotAllowed(self._for_administrators())
        self.rules.check(specs, device, person, self.store.jobs.waiting_of(person.name), self.results)

    def _for_administrators(self) -> str:
        return f"{' and '.join(self.devices)} of this server are for administrators alone"

    def _never_taken(self, device: str) -> str:
        if device == "auto":
            return self._for_administrators()
        if device in self.devices:
            return f"{device} of this server is for administrators alone now: queue the experiment on another device"
        return self._without_worker(device)

    def _without_worker(self, device: str) -> str:
        return (
            f"no worker runs on {device} here, only on {', '.join(self.devices)}: bring {device} back and restart "
            "the dashboard, or queue the experiment anew on another device"
        )

    def live(self, run_id: str) -> list[tuple[str, str, int, float | None]]:
        """The latest points ``(stage, name, step, value)`` of a job running here, newer than the store's."""
        listener = self._listeners.get(run_id)
        return list(listener.recent) if listener else []

    def time_left(self, run_id: str) -> TimeLeft | None:
        """How far a job running here is over all its stages; ``None`` where nothing alike was ever measured."""
        listener = self._listeners.get(run_id)
        return listener.time_left() if listener else None

    # -- working ------------------------------------------------------------------------------------

    def _work(self, slot: Slot) -> None:
        looked = 0.0
        refused = 0  # times in a row that no worker could be had
        while not self._stopping.is_set():
            job = None
            try:
                self._store_ends()
                if time.monotonic() - looked > LOOK_SECONDS:
                    looked = time.monotonic()
                    self.store.refresh()
                job = self._next(slot)
                if job:
                    self._run(job, slot)
                    refused = 0
            except NoWorker as error:
                refused += 1
                self._rest(job, error, refused)
            except Exception as error:  # a worker outlives whatever happens to a job or to the database
                if self._stopping.is_set():
                    return
                expected = isinstance(error, StoreError | EngineError)
                log.error(
                    "worker %s goes on after: %s", slot.name, error, exc_info=None if expected else error
                )
                if job:
                    self._end(job, "failed", self._reason(error))
                self._stopping.wait(POLL_SECONDS)
            if job is None:
                self._wake.wait(POLL_SECONDS)
                self._wake.clear()

    def _rest(self, job: Job | None, error: NoWorker, refused: int) -> None:
        """Put a job back that no worker could be had for, and wait; where that goes on for long it fails."""
        if job is None:
            return
        if refused > len(RESTS):
            self._end(job, "failed", str(error))
            return
        seconds = RESTS[refused - 1]
        log.warning("job %s waits for %g s more: %s", job.run_id, seconds, error)
        try:
            self.store.jobs.put_back(job.run_id, job.attempt, f"{error}; tried again in {seconds:g} s")
        except StoreError as why:
            log.warning("job %s is not put back: %s", job.run_id, why)
            self._end(job, "interrupted", str(error))
        self._stopping.wait(seconds)

    def _next(self, slot: Slot) -> Job | None:
        """The job that a slot is to take, within what the rules give each person."""
        rules = self.rules
        kept_back = rules.keeps_back(slot.device)
        return self.store.jobs.claim(slot.device, slot.name, rules.running, rules.unlimited, kept_back)

    def _run(self, job: Job, slot: Slot) -> None:
        spec = job.spec.experiment()
        limit = 0.0 if job.person in self.rules.unlimited else 60 * self.rules.minutes
        listener = Listener(self.store, job, self._stopping, partial(self._expected, spec), limit)
        self._listeners[job.run_id] = listener
        try:
            record = self.carry_out(job, slot, listener)
        except Interrupted:
            self._end(job, "interrupted", STOPPED)
            return
        except WorkerLost as why:
            log.warning("job %s: %s", job.run_id, why)
            if self._stopping.is_set():  # and nobody could try again
                self._end(job, "interrupted", STOPPED)
                return
            self.store.jobs.worker_lost(job.run_id, job.attempt, str(why))
            return
        finally:
            listener.close()
            self._listeners.pop(job.run_id, None)
        try:
            self.store.index.add(record)
        except (RecordError, StoreError) as error:  # the disk is full, say; a later look finds a whole folder
            log.warning("run %s is not indexed: %s", job.run_id, error)
        self._end(job, record.state, record.message)
        self._wake.set()  # what waited for a network of this job can go on
        self._unfolded = True

    def _keep_books(self) -> None:
        """Write what the jobs say, and fold the log of the database into its file, so that no job waits for either."""
        folded = time.monotonic()
        while not self._stopping.wait(TICK):
            for listener in list(self._listeners.values()):
                listener.tick()
            if self._unfolded and time.monotonic() - folded > FOLD_SECONDS:
                self._unfolded = False
                self.store.db.checkpoint()
                folded = time.monotonic()

    def _expected(self, spec: ExperimentSpec) -> Estimate | None:
        """What a job will cost; a run is not lost over records of others that say nothing about it."""
        try:
            return cost.estimate(self.store, spec, self.device_type)
        except Exception:
            log.warning("no estimate of a job", exc_info=True)
            return None

    def _end(self, job: Job, state: str, message: str) -> None:
        """How a job ended: stored at once, or as soon as the database can be written again."""
        self._ends[job.run_id] = (state, message, job.attempt)
        self._store_ends()

    def _store_ends(self) -> None:
        for run_id, (state, message, attempt) in list(self._ends.items()):
            try:
                self.store.jobs.set_state(run_id, state, message, attempt=attempt)
                self._ends.pop(run_id, None)
            except Exception as error:  # a full disk most likely
                log.warning("how job %s ended is stored later: %s", run_id, error)

    def _reason(self, error: Exception) -> str:
        """Why a job failed without a record that says so."""
        if isinstance(error, StoreError | EngineError):
            return str(error)
        if isinstance(error, OSError):
            return disk_message(error, self.results)
        return "the runner itself failed on this job; its log has the details"
