"""Pages wait for no long collection of garbage, and no garbage stays."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from poisonlab.ui import collector
from poisonlab.ui.collector import Collector


class Node:
    """Something that refers to itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector to which every collection is slow."""
    monkeypatch.setattr(collector, "SLOW_SECONDS", -1.0)
    watching = Collector()
    gc.callbacks.append(watching)
    yield watching
    gc.callbacks.remove(watching)
    gc.unfreeze()


def test_what_outlives_a_slow_collection_is_set_aside(watched: Collector) -> None:
    before = gc.get_freeze_count()

    gc.collect()

    assert gc.get_freeze_count() > before


def test_a_young_collection_sets_nothing_aside(watched: Collector) -> None:
    gc.collect(0)

    assert gc.get_freeze_count() == 0


def test_a_circle_that_was_set_aside_is_freed_once_everything_is_looked_at_again(
    watched: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node()
    seen = weakref.ref(node)
    gc.collect()
    del node
    gc.collect()
    kept = seen() is not None
    monkeypatch.setattr(collector, "AGAIN_SECONDS", -1.0)

    gc.collect()

    assert kept
    assert seen() is None


def test_one_collector_is_enough() -> None:
    before = list(gc.callbacks)
    try:
        collector.install()
        collector.install()

        assert sum(isinstance(callback, Collector) for callback in gc.callbacks) == 1
    finally:
        gc.callbacks[:] = before
