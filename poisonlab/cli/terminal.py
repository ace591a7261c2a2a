"""Words for a terminal: tables, and a running line of progress on stderr."""

import argparse
import math
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from poisonlab.events import Event, Log, Progress, StageFinished, StageStarted

# exit codes
OK = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130
TERMINATED = 143
LONGEST = 500  # characters of a line on stderr


class Terminated(KeyboardInterrupt):
    """SIGTERM: a batch system or an administrator ends the program, and it ends as on Ctrl-C."""


@contextmanager
def ends_on_sigterm() -> Iterator[None]:
    """Within it SIGTERM raises :class:`Terminated`, so that a run leaves its record and no half of a folder.

    Only a main thread gets signals; in another one nothing changes.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated("stopped by SIGTERM")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class UsageError(ValueError):
    """A command that cannot be; the one-line message names what is allowed."""


def chosen_engine(options: argparse.Namespace) -> tuple[str, list[str]]:
    """The engine of a command and its options, each ``name=value``; ``--workers`` is one of them."""
    workers = [f"workers={options.workers}"] if options.workers is not None else []
    return options.engine, [*workers, *options.engine_option]


def check_target(option: str, path: Path) -> None:
    """Refuse a file that cannot be written, before the work that would be lost; a device would be replaced by it.

    Raises:
        UsageError: it is a folder or a device, or its folder does not exist.
    """
    if (path.exists() and not path.is_file()) or not path.absolute().parent.is_dir():
        raise UsageError(f"{option} takes a file in a folder that exists, not {path}")


def check_results(folder: Path) -> None:
    """Refuse a results folder that is a file, or lies inside one.

    Raises:
        UsageError: it is.
    """
    for path in (folder, *folder.absolute().parents):
        if path.exists():
            if not path.is_dir():
                raise UsageError(
                    f"{path} is a file, so results cannot be kept there: choose a folder with --results"
                )
            return


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def plain(text: str) -> str:
    """A text in which names from elsewhere cannot steer the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def say(text: str) -> None:
    """A line on stderr; stdout is for results. Names from elsewhere cannot steer the terminal, nor fill it."""
    line = plain(text)
    if len(line) > LONGEST:  # what was asked stands at the beginning, what to do about it at the end
        half = LONGEST // 2 - 5
        line = f"{line[:half]} [...] {line[-half:]}"
    print(line, file=sys.stderr, flush=True)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Aligned columns; numbers to the right."""
    if not rows:
        return ""
    cells = [[cell(v) for v in row] for row in rows]
    widths = [max(len(h), *(len(r[i]) for r in cells)) for i, h in enumerate(header)]
    right = [all(isinstance(r[i], int | float) or r[i] is None for r in rows) for i in range(len(header))]

    def line(values: Sequence[str]) -> str:
        padded = [v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True)]
        return "  ".join(padded).rstrip()

    return "\n".join([line(header), line(["-" * w for w in widths]), *map(line, cells)])


def cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else plain(str(value))


class ProgressLine:
    """Shows the events of a run: one line that changes on a terminal, one line a stage elsewhere."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self._since: dict[str, tuple[float, int]] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted(stage):
                self._since[stage] = (time.monotonic(), 0)
            case Progress(stage, step, total) if self.live:
                self._draw(f"{stage}  {step}/{total}{self._speed(stage, step, total)}")
            case StageFinished(stage, seconds, cached):
                self._clear()
                say(f"{stage}: {'from the cache' if cached else f'{seconds:.1f} s'}")
            case Log(_, message, level):
                self._clear()
                say(message if level == "info" else f"{level}: {message}")

    def _speed(self, stage: str, step: int, total: int) -> str:
        start, first = self._since.get(stage, (0.0, 0))
        if step <= first:
            self._since[stage] = (time.monotonic(), step)
            return ""
        rate = (step - first) / max(time.monotonic() - start, 1e-6)
        return f"  {rate:.3g}/s  {(total - step) / rate:.0f} s left"

    def _draw(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{text[:width]:<{width}}", end="", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self.live:
            self._draw("")
            print("\r", end="", file=sys.stderr)
