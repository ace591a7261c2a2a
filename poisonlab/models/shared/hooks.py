"""Hooks on the modules of a network, for as long as something is looked at."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch.utils.hooks import RemovableHandle


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Takes hooks off again at the end of a block, however it ends."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
