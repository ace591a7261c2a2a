"""The one store and the one runner of this process, held in a plain module.

Not in a Streamlit cache: any browser can empty those, and a runner must outlive its viewers.
"""

import atexit
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import poisonlab
from poisonlab.runner.options import ENGINE, ENGINE_OPTIONS
from poisonlab.store import Store, StoreError

if TYPE_CHECKING:
    from poisonlab.runner.base import Runner


class Runtime:
    """What pages work with: the store at once, the runner from when somebody first asks for it.

    The runner's import brings torch and takes seconds; a page of tables does not wait for it.
    """

    def __init__(self, results: Path) -> None:
        self.results = results
        self.store = Store(results)
        self._runner: Runner | None = None
        self._stopped = False
        self._lock = threading.Lock()

    @property
    def runner(self) -> "Runner":
        """The runner, imported and started on first use.

        Raises:
            StoreError: the queue cannot be read, the engine cannot be used, or the runtime was stopped.
        """
        from poisonlab.runner.engines import make_runner  # noqa: PLC0415
        from poisonlab.runner.parts import EngineError  # noqa: PLC0415 - bring torch

        with self._lock:
            if self._stopped:
                raise StoreError("the dashboard is being stopped")
            if self._runner is None:
                engine = os.environ.get(ENGINE) or "local"
                try:
                    runner = make_runner(
                        self.store, self.results, engine, os.environ.get(ENGINE_OPTIONS, "").split()
                    )
                except EngineError as error:
                    raise StoreError(str(error)) from error
                runner.start()
                self._runner = runner
            return self._runner

    def runs_jobs(self) -> bool:
        """Whether the runner is there already."""
        return self._runner is not None

    def stop(self) -> None:
        """Interrupt running jobs and close the store."""
        with self._lock:
            self._stopped = True
            if self._runner is not None:
                self._runner.stop()
        self.store.close()


_lock = threading.RLock()
_runtime: Runtime | None = None


def start(results: Path | None = None) -> Runtime:
    """Open the store; what is open already is returned as it is.

    Raises:
        StoreLocked, StoreError: the message is meant for the page.
        ValueError: this process already works in another results folder.
    """
    global _runtime
    wanted = Path(results or poisonlab.results_folder())
    with _lock:
        if _runtime is None:
            _runtime = Runtime(wanted)
        elif results is not None and wanted.resolve() != _runtime.results.resolve():
            raise ValueError(
                f"this process works in {_runtime.results} already, not in {wanted}; stop() first"
            )
        return _runtime


def is_running() -> bool:
    """Whether the store is open."""
    return _runtime is not None


def runs_jobs() -> bool:
    """Whether the runner has been started, too."""
    return _runtime is not None and _runtime.runs_jobs()


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
        runtime.stop()


atexit.register(stop)
