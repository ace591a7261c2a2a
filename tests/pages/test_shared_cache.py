"""The memory that viewers share: one computation for all who ask, nothing out of date, no more bytes than allowed."""

import threading
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from poisonlab.store.ranking import Block
from poisonlab.ui.shared import Cache, fingerprint, size_of


def test_threads_that_ask_at_once_wait_for_one_computation() -> None:
    cache = Cache()
    computed = []
    together = threading.Barrier(8)

    def compute() -> str:
        computed.append(threading.get_ident())
        time.sleep(0.1)
        return "value"

    def ask() -> None:
        together.wait()
        found.append(cache.value("key", 1, compute))

    found: list[str] = []
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(computed) == 1
    assert found == ["value"] * 8


def test_another_generation_is_computed_anew_and_takes_the_place_of_the_last() -> None:
    cache = Cache()

    first, again, later = (cache.value("key", generation, object) for generation in (1, 1, 2))

    assert first is again
    assert later is not first
    assert len(cache) == 1


def test_what_fails_is_not_kept() -> None:
    cache = Cache()

    with pytest.raises(ZeroDivisionError):
        cache.value("key", 1, lambda: 1 / 0)

    assert len(cache) == 0
    assert cache.value("key", 1, lambda: 5) == 5


def test_memory_is_bounded_and_what_was_asked_for_last_stays() -> None:
    cache = Cache(most_bytes=10_000)
    for number in range(100):
        cache.value(number, 1, lambda: bytes(1000))
    asked: list[int] = []

    cache.value(99, 1, lambda: asked.append(99))
    cache.value(0, 1, lambda: asked.append(0))

    assert cache.bytes <= 10_000
    assert asked == [0]


def test_what_is_larger_than_all_memory_is_given_and_not_kept() -> None:
    cache = Cache(most_bytes=1000)

    assert len(cache.value("key", 1, lambda: bytes(5000))) == 5000
    assert (len(cache), cache.bytes) == (0, 0)


def test_the_number_of_values_is_bounded() -> None:
    cache = Cache(most_entries=10)
    for number in range(50):
        cache.value(number, 1, lambda: None)

    assert len(cache) == 10


@pytest.mark.parametrize(
    ("value", "least"),
    [
        (np.zeros(1000), 8000),
        (torch.zeros(1000), 4000),
        (pd.DataFrame({"a": np.zeros(1000)}), 8000),
        ({"a": [bytes(1000), bytes(1000)]}, 2000),
        (Block("d" * 1000, "t", "p"), 1000),
    ],
    ids=["array", "tensor", "table", "dictionary", "dataclass"],
)
def test_the_size_of_a_value_counts_what_it_holds(value: Any, least: int) -> None:
    assert least <= size_of(value) <= 2 * least


# -- what decides a shared value ------------------------------------------------------------------


ARGUMENTS: list[Any] = [
    1,
    1.0,
    "1",
    b"1",
    True,
    None,
    [1, 2],
    (1, 2),
    [[1], 2],
    {"a": 1},
    {"b": 1},
    range(3),
    np.zeros(4),
    np.zeros((2, 2)),
    np.zeros(4, dtype=np.float32),
    torch.zeros(4),
    torch.ones(4),
    pd.DataFrame({"a": [1.0]}),
    pd.DataFrame({"b": [1.0]}),
    pd.DataFrame({"a": ["x"]}),
    Block("d", "t", "p"),
    Block("d", "tp", ""),
    test_what_fails_is_not_kept,
]


def test_different_arguments_have_different_fingerprints() -> None:
    assert len({fingerprint(value) for value in ARGUMENTS}) == len(ARGUMENTS)


def test_equal_arguments_have_equal_fingerprints() -> None:
    assert fingerprint({"x": torch.arange(5)}) == fingerprint({"x": torch.arange(5)})


def test_an_argument_that_has_no_content_is_refused() -> None:
    with pytest.raises(TypeError, match="no fingerprint of object"):
        fingerprint([object()])
