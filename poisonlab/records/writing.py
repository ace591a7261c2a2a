"""Who writes a run folder: whoever holds the lock beside it, which ends with its process.

So what a killed process left can be told from what another one is writing, and removed.
"""

import os
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from poisonlab.records.record import RECORD

OLD_SECONDS = (
    24 * 3600.0
)  # a folder that nobody locked is left alone so long: older versions write without a lock
_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OF_A_RUN = re.compile(rf"(?P<id>{_ID})|\.(?P<temporary>{_ID})\.[0-9a-f]+\.tmp|\.(?P<locked>{_ID})\.lock")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder while it is written.

    A file system without locks does not stop a run: its folder is then told by its age.
    """
    path = _lock_of(folder)
    lock = FileLock(path, fallback_to_soft=False)  # a marker would outlive its process
    with suppress(OSError, NotImplementedError, Timeout):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    try:
        yield
    finally:
        if lock.is_locked:
            lock.release()
            with suppress(OSError):
                path.unlink(missing_ok=True)


def remove_left_behind(runs: Path, kept: Container[str]) -> list[str]:
    """Remove run folders without a record, and half of what was imported, whose processes are dead.

    Args:
        runs: the folder of run folders.
        kept: ids of runs that are left alone.

    Returns:
        The ids whose folders were removed.
    """
    if not runs.is_dir():
        return []
    of_runs: dict[str, list[Path]] = defaultdict(list)
    with os.scandir(runs) as entries:
        for entry in entries:
            found = _OF_A_RUN.fullmatch(entry.name)
            if found is not None and not entry.is_symlink():
                of_runs[found["id"] or found["temporary"] or found["locked"]].append(runs / entry.name)
    return [
        run_id
        for run_id, paths in sorted(of_runs.items())
        if run_id not in kept and _remove(paths, _lock_of(runs / run_id))
    ]


def _remove(paths: Sequence[Path], lock: Path) -> bool:
    """Remove what there is of a run unless it is whole or somebody may be at work on it; whether anything was."""
    if lock not in paths:
        old = [path for path in _unfinished(paths) if time.time() - _touched(path) > OLD_SECONDS]
        return _delete(old)
    try:
        with FileLock(lock, timeout=0, fallback_to_soft=False):
            removed = _delete(_unfinished(paths))
    except (OSError, NotImplementedError, Timeout):
        return False
    with suppress(OSError):
        lock.unlink(missing_ok=True)
    return removed


def _unfinished(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.is_dir() and not (path / RECORD).exists()]


def _delete(folders: Sequence[Path]) -> bool:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return bool(folders)


def _touched(folder: Path) -> float:
    """When the folder or a file in it was last written."""
    times = [folder.stat().st_mtime]
    for path in folder.iterdir():
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")
