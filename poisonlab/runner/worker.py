"""A worker in a process of its own: takes orders from its mailbox until it is dismissed or its program is gone.

python -m poisonlab.runner.worker FOLDER [--idle SECONDS] [--alone SECONDS]
"""

import argparse
import os
import sys
import threading
import time
from pathlib import Path

from poisonlab.records.record import write_atomically
from poisonlab.runner.mailbox import BEAT, Letters, Mailbox, Pulse
from poisonlab.runner.remote import Order, carry_out, pause
from poisonlab.runner.wire import STOP, Row

POLL = 0.02  # seconds between two looks for an order, at most
IDLE = 60.0  # seconds without an order after which a worker gives its place back
ALONE = 15.0  # seconds without a sign of the program after which a worker stops
GRACE = 60.0  # more seconds after which it does not wait for the job to notice


def serve(folder: str, idle: float = IDLE, alone: float = ALONE) -> None:
    """Carry out orders, one after the other.

    Args:
        folder: of the mailbox.
        idle: seconds without an order after which it ends.
        alone: seconds without a sign of the program after which it ends, in the midst of a job, too.
    """
    mailbox = Mailbox(Path(folder))
    watch = _Watch(mailbox, alone)
    since = time.monotonic()
    while not watch.alone.is_set() and not mailbox.dismissed() and time.monotonic() - since < idle:
        order = mailbox.next_order()
        if order is None:
            time.sleep(pause(time.monotonic() - since, POLL))
            continue
        _serve(order, Letters(mailbox.folder, order.number), watch)
        since = time.monotonic()


def _serve(order: Order, letters: Letters, watch: "_Watch") -> None:
    def post(rows: list[Row]) -> str:
        return STOP if watch.alone.is_set() else letters.post(rows)

    results = Path(order.results)
    ending = carry_out(order, post, results / "runs", results / "cache")
    while not watch.alone.is_set():
        try:
            letters.end(ending)
        except OSError:  # the disk is full, say, and the program waits for this
            time.sleep(BEAT)
        else:
            return


class _Watch:
    """Counts for the program to see, and watches whether the program does."""

    def __init__(self, mailbox: Mailbox, limit: float) -> None:
        self.alone = threading.Event()
        self._mailbox = mailbox
        self._limit = limit
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        pulse = Pulse(self._mailbox.program)
        count = 0
        while True:
            count += 1
            try:
                write_atomically(self._mailbox.worker, str(count).encode(), lasting=False)
            except FileNotFoundError:
                self.alone.set()  # the folder is gone
            except OSError:  # a full disk may have room again; else the program takes this for lost
                pass
            silent = pulse.silent()
            if silent > self._limit:
                self.alone.set()
            if silent > self._limit + GRACE:
                os._exit(1)
            time.sleep(BEAT)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--idle", type=float, default=IDLE)
    parser.add_argument("--alone", type=float, default=ALONE)
    options = parser.parse_args(arguments)
    serve(options.folder, options.idle, options.alone)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
