"""A run opened by a page: one at a time, as an open run holds its networks and all its images."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from poisonlab.records.record import RunRecord
from poisonlab.runner import runtime

if TYPE_CHECKING:
    from poisonlab.pipeline.reopen import Opened

_one_at_a_time = threading.Lock()


@contextmanager
def opened(record: RunRecord) -> Iterator["Opened"]:
    """What a run worked with, out of the stages that the cache still holds.

    Raises:
        NotKept: the cache no longer has them. DataError: the dataset cannot be loaded.
    """
    from poisonlab.pipeline.takeout import open_run  # noqa: PLC0415 - brings torch, which not every page has at once

    with _one_at_a_time:
        yield open_run(record, runtime.get().results / "cache")
