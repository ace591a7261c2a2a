"""The one store and the one runner of this process, held in a plain module.

Not in a Streamlit cache: any browser can empty those, and a runner must outlive its viewers.
"""

import atexit
import threading
from dataclasses import dataclass
from pathlib import Path

from poisonlab.machine import results_folder
from poisonlab.runner.local import LocalRunner
from poisonlab.store import Store


@dataclass(frozen=True)
class Runtime:
    """What pages work with."""

    results: Path
    store: Store
    runner: LocalRunner


_lock = threading.RLock()
_runtime: Runtime | None = None


def start(results: Path | None = None) -> Runtime:
    """Open the store and start the runner; what runs already is returned as it is.

    Raises:
        StoreLocked, StoreError: the message is meant for the page.
        ValueError: this process already works in another results folder.
    """
    global _runtime
    wanted = Path(results or results_folder())
    with _lock:
        if _runtime is None:
            store = Store(wanted)
            runner = LocalRunner(store, wanted)
            try:
                runner.start()
            except BaseException:
                store.close()
                raise
            _runtime = Runtime(wanted, store, runner)
        elif results is not None and wanted.resolve() != _runtime.results.resolve():
            raise ValueError(
                f"this process works in {_runtime.results} already, not in {wanted}; stop() first"
            )
        return _runtime


def is_running() -> bool:
    """Whether the store is open and the runner started."""
    return _runtime is not None


def get() -> Runtime:
    """The runtime, started on first use."""
    return _runtime or start()


def stop() -> None:
    """Interrupt running jobs and close the store. Idempotent."""
    global _runtime
    with _lock:
        runtime = _runtime
        _runtime = None
    if runtime:
        runtime.runner.stop()
        runtime.store.close()


atexit.register(stop)
