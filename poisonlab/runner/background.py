"""Work that a page starts and does not wait for: a thread that says how far it is and can be asked to stop."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from poisonlab.events import Cancelled, Event, Log, Progress

State = Literal["running", "done", "failed", "cancelled"]
LINES = 50  # of the log that are kept

log = logging.getLogger(__name__)


class Task:
    """One piece of work.

    Attributes:
        state: what has become of it. result: what it returned, once it is done.
        message: why it failed, for a person.
        progress: the last :class:`~poisonlab.events.Progress` of each stage, by the name of the stage.
        lines: the last sentences of its log.
    """

    def __init__(self, name: str, work: Callable[[Callable[[Event], None]], Any]) -> None:
        """Begin.

        Args:
            name: of the thread. work: called with where its events go to, which is also where a cancel arrives.
        """
        self.state: State = "running"
        self.result: Any = None
        self.message = ""
        self.progress: dict[str, Progress] = {}
        self.lines: deque[str] = deque(maxlen=LINES)
        self._work = work
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Ask it to stop; it does at its next event."""
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within a time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop and still works."""
        return self._stop.is_set() and self.state == "running"

    def _hear(self, event: Event) -> None:
        if self._stop.is_set():
            raise Cancelled
        match event:
            case Progress(stage):
                self.progress[stage] = event
            case Log(_, message):
                self.lines.append(message)

    def _run(self) -> None:
        try:
            self.result = self._work(self._hear)
            self.state = "done"
        except Cancelled:
            self.state = "cancelled"
        except (RuntimeError, ValueError, OSError) as error:
            self.message = " ".join(str(error).split())
            self.state = "failed"
        except Exception as error:  # the page has to say something of whatever it was
            log.exception("work in the background failed")
            self.message = f"unexpectedly, {type(error).__name__}: {error}"
            self.state = "failed"


class Desk:
    """Where work is done one piece at a time, whoever asks, from whatever page."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._task: Task | None = None

    def begin(self, name: str, work: Callable[[Callable[[Event], None]], Any]) -> Task | None:
        """The work, begun; ``None`` while another piece is at work. Arguments as of :class:`Task`."""
        with self._lock:
            if self._task is not None and self._task.state == "running":
                return None
            self._task = Task(name, work)
            return self._task


CHECKS = Desk()  # checks of networks and of data sets, and repairs of checked networks
