"""Unfinished stages: what a long one has done so far lies in the cache, so that an interrupted run goes on there."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from poisonlab.types import Bundle

EVERY = 60.0  # seconds of work that an interruption may cost, where a stage can be left so often
_SPENT = "seconds_spent"


@dataclass
class Partial:
    """How far one stage has come, on disk.

    Attributes:
        read, write: the last kept state, if any, and a new one in its place.
        spent: seconds that interrupted attempts worked before the kept state.
    """

    read: Callable[[], Bundle | None]
    write: Callable[[Bundle], None]
    spent: float = 0.0
    _started: float = field(default_factory=time.monotonic)
    _last: float = field(default_factory=time.monotonic)

    def load(self) -> Bundle | None:
        found = self.read()
        if found:
            self.spent = found.data.pop(_SPENT)
        return found

    def due(self) -> bool:
        return time.monotonic() - self._last >= EVERY

    def save(self, done: Bundle) -> None:
        seconds = self.spent + time.monotonic() - self._started
        self.write(type(done)(done.tensors, done.data | {_SPENT: seconds}))
        self._last = time.monotonic()
