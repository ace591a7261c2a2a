"""Engines whose jobs run in processes of their own, each behind a mailbox: on this machine, or as jobs of Slurm."""

import abc
import itertools
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from poisonlab import machine
from poisonlab.records.record import RunRecord, write_atomically
from poisonlab.runner.mailbox import BEAT, Letters, Mailbox, Pulse
from poisonlab.runner.parts import NoWorker, Slot, WorkerLost
from poisonlab.runner.progress import Listener
from poisonlab.runner.queue import QueueRunner
from poisonlab.runner.recorder import Interrupted
from poisonlab.runner.remote import Ending, Order, follow
from poisonlab.runner.wire import Row
from poisonlab.store import Job, Store

FOLDER = "workers"  # below the results folder
DEAF = 60.0  # seconds without a sign of a worker after which it is given up


class Process(Protocol):
    """A worker's process, here or elsewhere."""

    def gone(self) -> str:
        """Why it cannot answer any more; empty while it lives, or waits to begin."""
        ...

    def end(self) -> None:
        """Make an end of it."""
        ...


class Worker:
    """A process and its mailbox."""

    def __init__(self, mailbox: Mailbox, process: Process) -> None:
        self.mailbox = mailbox
        self._process = process
        self._pulse = Pulse(mailbox.worker)
        self._numbers = itertools.count(1)

    def number(self) -> int:
        """Of its next order."""
        return next(self._numbers)

    def give(self, order: Order) -> "Attempt":
        """Let it carry out a job."""
        return Attempt(self, self.mailbox.give(order))

    def lost(self) -> str:
        """Why it cannot answer any more; empty while it lives."""
        silent = self._pulse.silent()
        if self._pulse.heard and silent > DEAF:
            return f"the worker has given no sign for {silent:.0f} s"
        return self._process.gone()

    def end(self) -> None:
        """Dismiss it."""
        self.mailbox.dismiss()
        self._process.end()
        self.mailbox.remove()


class Attempt:
    """One attempt of a worker at a job: a :class:`~poisonlab.runner.remote.Line`."""

    def __init__(self, worker: Worker, letters: Letters) -> None:
        self._worker = worker
        self._letters = letters

    def said(self) -> Iterable[Row]:
        return self._letters.said()

    def tell(self, word: str) -> None:
        self._letters.tell(word)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def ended(self) -> Ending | None:
        ending = self._letters.ended()
        if ending is None:
            why = self._worker.lost()
            if why:
                ending = self._letters.ended()  # it may have ended well in between
                if ending is None:
                    raise WorkerLost(why)
        return ending


class PoolRunner(QueueRunner):
    """Gives each job to a worker of its slot, which is started when there is a first one.

    Args:
        poll: seconds between two looks into a mailbox, at most.
        memory_share: of a GPU's memory that a job may take.
    """

    def __init__(
        self, store: Store, results: Path, slots: Sequence[Slot], poll: float, memory_share: float = 1.0
    ) -> None:
        super().__init__(store, results, slots)
        self.poll = poll
        self.memory_share = memory_share
        self._workers: dict[str, Worker] = {}
        self._beating = threading.Event()

    @abc.abstractmethod
    def open(self, slot: Slot, mailbox: Mailbox) -> Process:
        """Start the process of a worker, which finds its orders in ``mailbox``.

        Raises:
            NoWorker: not now.
        """

    def start(self) -> None:
        super().start()
        if not self._beating.is_set():
            self._beating.set()
            threading.Thread(target=self._beat, name="poisonlab beat", daemon=True).start()

    def stop(self, timeout: float = 10.0) -> bool:
        ended = super().stop(timeout)
        for name in list(self._workers):
            self._dismiss(name)
        self._beating.clear()
        return ended

    def carry_out(self, job: Job, slot: Slot, listener: Listener) -> RunRecord:
        worker = self._worker(slot)
        try:
            attempt = worker.give(self.order_of(job, slot, worker.number()))
            ending = follow(attempt, listener, listener.wanted, self.poll)
        except Interrupted:
            raise
        except Exception:  # a job that is given up has nobody at work on it
            self._dismiss(slot.name)
            raise
        return self.record_of(job, ending)

    def _worker(self, slot: Slot) -> Worker:
        """The worker of a slot, started anew where there is none, or none any more."""
        found = self._workers.get(slot.name)
        if found and not found.lost():
            return found
        self._dismiss(slot.name)
        mailbox = Mailbox(self.results / FOLDER / uuid.uuid4().hex)
        write_atomically(mailbox.program, b"0", lasting=False)
        try:
            worker = Worker(mailbox, self.open(slot, mailbox))
        except NoWorker:
            mailbox.remove()
            raise
        self._workers[slot.name] = worker
        return worker

    def _dismiss(self, name: str) -> None:
        worker = self._workers.pop(name, None)
        if worker:
            worker.end()

    def _beat(self) -> None:
        """Let every worker see that the program lives."""
        for count in itertools.count(1):
            if not self._beating.is_set():
                return
            for worker in list(self._workers.values()):
                with suppress(OSError):
                    write_atomically(worker.mailbox.program, str(count).encode(), lasting=False)
            time.sleep(BEAT)


class ProcessRunner(PoolRunner):
    """Several jobs at once on this machine, each in a process of its own with its share of the processor.

    Args:
        workers: how many; by default one a device.
    """

    def __init__(self, store: Store, results: Path, workers: int = 0) -> None:
        devices = machine.worker_devices()
        count = workers or len(devices)
        slots = [
            Slot(f"{devices[i % len(devices)]} worker {i + 1}", devices[i % len(devices)])
            for i in range(count)
        ]
        share = len(devices) / max(count, len(devices)) if devices[0] != "cpu" else 1.0
        super().__init__(store, results, slots, poll=0.1, memory_share=share)
        self.threads = max(1, machine.usable_cores() // count)

    def open(self, slot: Slot, mailbox: Mailbox) -> Process:
        environment = {"OMP_NUM_THREADS": str(self.threads)} | dict(os.environ)
        command = [sys.executable, "-m", "poisonlab.runner.worker", str(mailbox.folder), "--idle", "3600"]
        # in a session of its own: a Ctrl-C is for the program, which tells its workers what to do
        try:
            child = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:  # no memory, too many processes
            raise NoWorker(f"no process can be started: {error.strerror or error}") from error
        return _Child(child)


class _Child:
    """A process of this machine."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def gone(self) -> str:
        code = self._process.poll()
        if code is None:
            return ""
        return (
            f"the worker ended by signal {-code}" if code < 0 else f"the worker ended with exit code {code}"
        )

    def end(self) -> None:
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            try:
                self._process.wait(5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
