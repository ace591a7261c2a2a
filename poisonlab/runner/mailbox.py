"""A folder through which the program and one worker talk, on this machine or on a file system that both see.

Every file is written under another name and renamed, or only ever grows. Each side writes a number that counts up while
it lives; times of two machines are never compared. Nothing here outlives a loss of power, so none waits for the disk.
"""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from poisonlab.records.record import write_atomically
from poisonlab.runner.parts import WorkerLost
from poisonlab.runner.remote import Ending, Order
from poisonlab.runner.wire import GO_ON, STOP, Row

BEAT = 2.0  # seconds between two counts of a living side


class Pulse:
    """Whether the other side of a mailbox still counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last = ""
        self._changed = time.monotonic()

    def silent(self) -> float:
        """Seconds since the number last changed, or since this was made."""
        with suppress(OSError):
            count = self.path.read_text()
            if count != self._last:
                self._last = count
                self._changed = time.monotonic()
        return time.monotonic() - self._changed

    @property
    def heard(self) -> bool:
        """Whether there was ever a number."""
        return bool(self._last)


class Mailbox:
    """The files of one worker.

    Args:
        folder: of this worker alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.program = folder / "program"
        self.worker = folder / "worker"
        self._order = folder / "order.json"
        self._leave = folder / "leave"

    # -- the program's side -------------------------------------------------------------------------

    def give(self, order: Order) -> "Letters":
        """Put an order where the worker finds it."""
        letters = Letters(self.folder, order.number)
        write_atomically(self._order, json.dumps(order.json()).encode(), lasting=False)
        return letters

    def dismiss(self) -> None:
        """Ask the worker to end as soon as it has nothing to do."""
        with suppress(OSError):
            self._leave.touch()

    def remove(self) -> None:
        """Forget all of it, once the worker is gone."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- the worker's side --------------------------------------------------------------------------

    def next_order(self) -> Order | None:
        """The order that waits, which is taken with it; ``None`` without one."""
        try:
            text = self._order.read_bytes()
        except OSError:
            return None
        order = Order(**json.loads(text))
        self._order.unlink(missing_ok=True)
        return order

    def dismissed(self) -> bool:
        """Whether the worker is to end."""
        return self._leave.exists() or not self.folder.is_dir()


class Letters:
    """What passes about one order: a :class:`~poisonlab.runner.remote.Line`, but for whether the worker lives."""

    def __init__(self, folder: Path, number: int) -> None:
        self._said = folder / f"said-{number}.jsonl"
        self._told = folder / f"told-{number}"
        self._ended = folder / f"ended-{number}.json"
        self._read = 0
        self._cut = False  # whether what was said last may be half a line

    # -- the program's side -------------------------------------------------------------------------

    def said(self) -> Iterator[Row]:
        """Whole lines that came since last asked; what a full disk has cut is left out."""
        try:
            with self._said.open("rb") as file:
                file.seek(self._read)
                new = file.read()
        except OSError:
            return
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            yield row

    def tell(self, word: str) -> None:
        write_atomically(self._told, word.encode(), lasting=False)

    def ended(self) -> Ending | None:
        """How the order ended; ``None`` before.

        Raises:
            WorkerLost: that cannot be read, and will never be.
        """
        try:
            text = self._ended.read_bytes()
        except OSError:
            return None
        try:
            return Ending(**json.loads(text))
        except (TypeError, ValueError):
            raise WorkerLost("what the worker wrote of the job's end cannot be read") from None

    # -- the worker's side --------------------------------------------------------------------------

    def post(self, rows: list[Row]) -> str:
        """Say something; what the program says in return. Where its folder is gone, so is the program.

        What a full disk does not take is not said: the record of the run holds it all.
        """
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        try:
            with self._said.open("ab") as file:
                file.write(("\n" + text if self._cut else text).encode())
            self._cut = False
        except FileNotFoundError:
            return STOP
        except OSError:
            self._cut = True
        try:
            return self._told.read_text()
        except OSError:
            return GO_ON

    def end(self, ending: Ending) -> None:
        """Say how the order ended.

        Raises:
            OSError: nobody will know, unless it is said again.
        """
        write_atomically(self._ended, json.dumps(asdict(ending)).encode(), lasting=False)
