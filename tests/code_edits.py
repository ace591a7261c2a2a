"""Edits of source files that only the hashes of code see."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from poisonlab.cache import code_version

# Of an edit, the files that were not edited are parsed no second time: what they say depends on their text alone.
hash_of_text = functools.cache(code_version.source_hash)


@functools.cache
def imported_names(module: str, path: Path, source: bytes) -> tuple[str, ...]:
    """What a module imports when its file holds ``source``."""
    assert code_version._source(path) == source
    return tuple(REAL_NAMES(module, path))


REAL_NAMES = code_version._imported_names


def clear() -> None:
    """Forget all hashes, as a new process would."""
    for remembered in (code_version.module_hash, code_version.imports_of, code_version.core_modules):
        remembered.cache_clear()


@contextmanager
def edited(path: Path, source: str) -> Iterator[None]:
    """As if ``source`` stood in a file when the program was started."""
    real = code_version._source
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_version, "_source", lambda p: source.encode() if p == path else real(p))
        patch.setattr(code_version, "source_hash", hash_of_text)
        patch.setattr(
            code_version,
            "_imported_names",
            lambda module, p: imported_names(module, p, code_version._source(p)),
        )
        clear()
        yield
    clear()
