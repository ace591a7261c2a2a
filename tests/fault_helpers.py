"""Processes in which something goes wrong at a random place: they work as a person's would, until it strikes."""

import os
import random
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poisonlab.cli import main as command_line
from poisonlab.runner.engines import make_runner
from poisonlab.runner.local import LocalRunner
from poisonlab.runner.queue import QueueRunner
from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.store import Store, StoreError

SMALL = {
    "dataset.train_images": 120,
    "dataset.test_images": 40,
    "training.epochs": 2,
    "victim.width": 8,
}
DEFENSES = ("clp", "none")  # share all of their stages but the repair
ENGINES = {"processes": ("local", ["workers=2"]), "ray": ("ray", ["workers=2"])}
ENDING = 60.0  # seconds that jobs may take to end
NOTES = "notes"  # where a process writes what must outlive it: not on the disk of the results folder
FILLING = "fills the disk"


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and where.

    Attributes:
        kind: ``kill``, ``fill``, ``truncate``, ``flip``, ``delay`` or ``nothing``.
        place: the n-th touch of a file below the results folder; of engines, seconds after the start.
        seed: of all else that is random about it.
    """

    kind: str
    place: float
    seed: int


def tiny(defense: str) -> ExperimentSpec:
    return make_spec("digits", "badnets", defense, overrides=SMALL)


def note(results: Path, name: str, text: str) -> None:
    """Write a line that outlives this process."""
    folder = results.parent.parent / NOTES
    folder.mkdir(exist_ok=True)
    with (folder / name).open("a") as file:
        file.write(f"{text}\n")


def noted(results: Path, name: str) -> list[str]:
    path = results.parent.parent / NOTES / name
    return path.read_text().splitlines() if path.exists() else []


class Trap:
    """Counts the places that a run passes, and strikes at one of them."""

    def __init__(self, results: Path, fault: Fault, victims: Callable[[], list[int]]) -> None:
        self.results = results
        self.fault = fault
        self.victims = victims
        self.draws = random.Random(fault.seed)
        self.passed = 0
        self._counting = threading.Lock()
        self._below = f"{results.resolve()}{os.sep}"

    def watch(self) -> None:
        """Count what this process does to files from now on."""
        sys.addaudithook(self._hear)

    def wait(self) -> None:
        """Strike after some seconds."""
        threading.Timer(self.fault.place, self.strike).start()

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.scandir", "os.utime"):
            return
        path = arguments[0]
        if isinstance(path, int | None) or not os.fsdecode(path).startswith(self._below):
            return
        with self._counting:
            self.passed += 1
            due = self.passed == self.fault.place
        if due:
            self.strike()

    def strike(self) -> None:
        note(self.results, "struck", self.fault.kind)
        getattr(self, f"_{self.fault.kind}")()

    def _nothing(self) -> None:
        pass

    def _kill(self) -> None:
        """At once, or a moment later, in the midst of what no file tells of."""
        victims = self.victims()
        if not victims:
            return
        number = self.draws.choice(victims)
        if self.draws.random() < 0.5:
            kill(number)
        else:
            threading.Timer(self.draws.uniform(0, 0.2), kill, (number,)).start()

    def _fill(self) -> None:
        """No room is left but some kilobytes; in half of all cases there is again after a second or two."""
        room = shutil.disk_usage(self.results).free - self.draws.choice([0, 5_000, 40_000])
        with suppress(OSError), (self.results / FILLING).open("wb") as file:
            file.write(b"x" * max(0, room))
        if self.draws.random() < 0.5:
            threading.Timer(self.draws.uniform(0.5, 2), (self.results / FILLING).unlink).start()

    def _truncate(self) -> None:
        self._harm(lambda whole: whole[: self.draws.randrange(len(whole))])

    def _flip(self) -> None:
        def flipped(whole: bytes) -> bytes:
            place = self.draws.randrange(len(whole))
            return whole[:place] + bytes([whole[place] ^ 1 << self.draws.randrange(8)]) + whole[place + 1 :]

        self._harm(flipped)

    def _harm(self, change: Callable[[bytes], bytes]) -> None:
        """Change a file of the cache or an artifact; in half of all cases the process is killed as well."""
        found = [*self.results.glob("cache/*/*"), *self.results.glob("runs/*/*.safetensors")]
        files = sorted(path for path in found if path.suffix != ".lock" and path.is_file())
        if files:
            path = self.draws.choice(files)
            with suppress(OSError):
                whole = path.read_bytes()
                if whole:
                    path.write_bytes(change(whole))
            note(self.results, "harmed", str(path.relative_to(self.results)))
        if self.draws.random() < 0.5:
            self._kill()

    def _delay(self) -> None:
        time.sleep(self.draws.uniform(0.2, 1.5))


def kill(number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)


def by_command(results: Path, fault: Fault) -> None:
    """``poisonlab run`` with one spec."""
    trap = Trap(results, fault, lambda: [os.getpid()])
    trap.watch()
    pairs = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    methods = ["--dataset", "digits", "--attack", "badnets", "--defense", DEFENSES[0]]
    code = command_line.main(["run", *methods, "--results", str(results), "--device", "cpu", *pairs])
    note(results, "places", str(trap.passed))
    note(results, "exit codes", str(code))


def by_queue(results: Path, fault: Fault, way: str) -> None:
    """What the dashboard does: open the store, start the runner, queue, wait. Each job that is taken on is noted."""
    with suppress(StoreError):  # a full disk, which is said and waited for
        store = Store(results, results / "reference")
        runner = runner_of(way, store, results)
        program = [] if way == "ray" else [os.getpid()]  # whose death Ray's own processes would outlive
        trap = Trap(results, fault, lambda: program + workers(store))
        if way == "app":
            trap.watch()
        else:
            trap.wait()
        begun = time.monotonic()
        runner.start()
        for defense in DEFENSES:
            note(results, "jobs", f"{runner.submit(tiny(defense), 'cpu')} {defense}")
        wait_for_all(store)
        note(results, "places", str(trap.passed if way == "app" else time.monotonic() - begun))
        runner.stop()
        store.close()


def runner_of(way: str, store: Store, results: Path) -> QueueRunner:
    if way in ENGINES:
        runner = make_runner(store, results, *ENGINES[way])
        assert isinstance(runner, QueueRunner)
        return runner
    return LocalRunner(store, results, ["cpu"])


def workers(store: Store) -> list[int]:
    """The processes that carry out jobs, as the logs of these name them."""
    logs = store.db.rows("SELECT message FROM logs JOIN jobs USING (run_id) WHERE state = 'running'")
    found = [re.search(r"process (\d+)", message) for (message,) in logs]
    return [int(match[1]) for match in found if match]


def wait_for_all(store: Store, seconds: float = ENDING) -> None:
    """Let every job end, or the time pass."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(StoreError):
            counts = store.counts()
            if not counts["queued"] + counts["running"]:
                return
        time.sleep(0.02)


def work(results: Path, fault: Fault, way: str) -> None:
    """One process, from its start to its end."""
    if way == "cli":
        by_command(results, fault)
    else:
        by_queue(results, fault, way)
