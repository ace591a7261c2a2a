"""Edits of source files that only the hashes of code see."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from poisonlab.cache import code_version


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
        clear()
        yield
    clear()
