"""What does not differ between viewers, computed once for all of them.

In a plain module: Streamlit's caches can be emptied by any browser. Three decorators say how long a value holds: until
the results change (:func:`of_results`), until a job says something (:func:`of_jobs`), or as long as its arguments are
the same (:func:`of_arguments`). What they return belongs to all viewers, so nobody changes it; a table comes as a copy
that is made when somebody writes to it. A function that is shared uses no widget and no session, and is defined in this
package: the functions of a page file are new ones in every run.
"""

import hashlib
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, fields, is_dataclass
from functools import wraps
from pathlib import PurePath
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd
from pydantic import BaseModel

from poisonlab.runner import runtime

P = ParamSpec("P")
T = TypeVar("T")

MOST_BYTES = 256 * 2**20
MOST_ENTRIES = 4096


@dataclass
class Entry:
    """A value, or the promise of one that somebody computes; ``size`` is 0 until it is there."""

    generation: int
    found: Future[Any] = field(default_factory=Future)
    size: int = 0


class Cache:
    """The values asked for last, up to a number of bytes; each is computed by one thread while the others wait.

    Args:
        most_bytes: held at most, as :func:`size_of` counts them.
        most_entries: held at most.
    """

    def __init__(self, most_bytes: int = MOST_BYTES, most_entries: int = MOST_ENTRIES) -> None:
        self.most_bytes = most_bytes
        self.most_entries = most_entries
        self.bytes = 0
        self._entries: OrderedDict[Hashable, Entry] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def value(self, key: Hashable, generation: int, compute: Callable[[], T]) -> T:
        """What ``compute`` gives under this key and generation; what an earlier generation gave is dropped.

        Raises:
            Exception: whatever ``compute`` raises, to all who wait for it; the next one who asks computes again.
        """
        with self._lock:
            entry = self._entries.get(key)
            known = entry is not None and entry.generation == generation
            if entry is None or not known:
                self._drop(key)
                entry = Entry(generation)
                self._entries[key] = entry
            self._entries.move_to_end(key)
        if not known:
            self._compute(key, entry, compute)
        found: T = entry.found.result()
        return found

    def clear(self) -> None:
        """Forget all; who computes now still answers those who wait."""
        with self._lock:
            self._entries.clear()
            self.bytes = 0

    def _compute(self, key: Hashable, entry: Entry, compute: Callable[[], Any]) -> None:
        try:
            value = compute()
            size = size_of(value)
        except BaseException as error:
            with self._lock:
                if self._entries.get(key) is entry:
                    self._drop(key)
            entry.found.set_exception(error)
            return
        entry.found.set_result(value)
        with self._lock:
            if self._entries.get(key) is not entry:  # dropped or replaced in the meantime
                return
            entry.size = size
            self.bytes += size
            while self.bytes > self.most_bytes or len(self._entries) > self.most_entries:
                self._drop(next(iter(self._entries)))

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size


_cache = Cache()
clear = _cache.clear


def of_results(function: Callable[P, T]) -> Callable[P, T]:
    """The function, computed once for all viewers until the results change. Its arguments are names and numbers."""

    @wraps(function)
    def shared(*args: P.args, **named: P.kwargs) -> T:
        key = (function, fingerprint((args, sorted(named.items()))))
        generation = runtime.get().store.generation
        return _handed_out(_cache.value(key, generation, lambda: function(*args, **named)))

    return shared


def of_jobs(function: Callable[P, T]) -> Callable[P, T]:
    """The same until a job begins, ends or says something; jobs say something about once a second."""

    @wraps(function)
    def shared(*args: P.args, **named: P.kwargs) -> T:
        key = (function, fingerprint((args, sorted(named.items()))))
        generation = runtime.get().store.jobs_generation
        return _handed_out(_cache.value(key, generation, lambda: function(*args, **named)))

    return shared


def of_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """The same for a function of tensors, tables and records alone: equal arguments, equal value."""

    @wraps(function)
    def shared(*args: P.args, **named: P.kwargs) -> T:
        key = (function, fingerprint((args, named)))
        return _handed_out(_cache.value(key, 0, lambda: function(*args, **named)))

    return shared


def _handed_out(value: T) -> T:
    """The value, or of a table a copy: pandas copies the data once somebody writes to it."""
    return value.copy(deep=False) if isinstance(value, pd.DataFrame) else value


def fingerprint(value: Any) -> bytes:
    """A hash of the content of arguments: numbers, texts, tensors, tables, records, functions, and what holds them.

    Raises:
        TypeError: something else.
    """
    digest = hashlib.blake2b(digest_size=16)
    _feed(digest.update, value)
    return digest.digest()


def _feed(update: Callable[[bytes], None], value: Any) -> None:
    update(f"{type(value).__qualname__}(".encode())
    if value is None or isinstance(value, str | bytes | int | float | range | PurePath):
        update(repr(value).encode())
    elif isinstance(value, np.ndarray) and value.dtype != object or isinstance(value, np.generic):
        update(f"{value.dtype}{value.shape}".encode())
        update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, pd.DataFrame):
        update(repr([*value.columns, *value.dtypes]).encode())
        update(pd.util.hash_pandas_object(value).to_numpy().tobytes())
    elif isinstance(value, BaseModel):
        update(value.model_dump_json().encode())
    elif is_dataclass(value):
        for part in fields(value):
            _feed(update, getattr(value, part.name))
    elif isinstance(value, Mapping):
        for item in value.items():
            _feed(update, item)
    elif isinstance(value, Sequence | np.ndarray):
        for item in value:
            _feed(update, item)
    elif isinstance(value, frozenset):
        for item in sorted(value):
            _feed(update, item)
    elif hasattr(type(value), "detach"):  # a tensor; torch is not imported here
        _feed(update, value.detach().cpu().numpy())
    elif callable(value):
        update(f"{value.__module__}.{value.__qualname__}".encode())
    else:
        raise TypeError(f"no fingerprint of {type(value).__name__}")
    update(b")")


def size_of(value: Any) -> int:
    """About how many bytes a value takes."""
    if isinstance(value, pd.DataFrame):
        return int(value.memory_usage(deep=True).sum())
    if isinstance(value, BaseModel):
        return size_of(value.__dict__)
    if is_dataclass(value):
        return sum(size_of(getattr(value, part.name)) for part in fields(value))
    own = int(value.nbytes) if hasattr(type(value), "nbytes") else sys.getsizeof(value)
    if isinstance(value, Mapping):
        return own + sum(size_of(key) + size_of(item) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return own + sum(size_of(item) for item in value)
    return own
