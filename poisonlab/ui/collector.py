"""Python's garbage collector, kept from reading all of torch after every page.

Streamlit collects all garbage whenever a page's script has ended. With torch, pandas and plotly loaded it then looks at
half a million objects, a quarter of a second in which no other page and no job of this process moves.
"""

import gc
import time

SLOW_SECONDS = 0.02  # a collection that takes longer found much that stays
AGAIN_SECONDS = 900.0  # after which everything is looked at once more: nothing is kept for ever


class Collector:
    """Sets aside what outlived a slow collection, so that the next ones need not look at it.

    Objects that nobody refers to are freed as ever; only those that refer to each other in a circle wait until
    everything is looked at again.
    """

    def __init__(self) -> None:
        self._begun = 0.0
        self._whole = time.monotonic()  # when everything was looked at last

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """What :data:`gc.callbacks` call before and after each collection."""
        if info["generation"] != 2:
            return
        now = time.monotonic()
        if phase == "start":
            if now - self._whole > AGAIN_SECONDS:
                gc.unfreeze()
                self._whole = now
            self._begun = time.thread_time()
        elif time.thread_time() - self._begun > SLOW_SECONDS:
            gc.freeze()


def install() -> None:
    """Let a :class:`Collector` watch this process, once."""
    if not any(isinstance(callback, Collector) for callback in gc.callbacks):
        gc.callbacks.append(Collector())
