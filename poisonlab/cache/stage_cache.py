"""Content-addressed cache of finished stages.

A stage's folder is named by the hash of exactly what its result depends on (``stage_key``). It is written under a
temporary name and renamed when whole, so a killed process leaves nothing that could be taken for a result. A file lock
a key makes two jobs (threads or processes) that need the same stage compute it once. What a long stage keeps on its
way lies beside it, in the same form under another name, until the stage is whole.
"""

import dataclasses
import errno
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from filelock import Timeout

from poisonlab.cache import stage_folder
from poisonlab.cache.lock import StageLock
from poisonlab.cache.partial import Partial
from poisonlab.cache.stage_key import canonical_key, stage_id
from poisonlab.context import Context
from poisonlab.events import Event, Progress, StageFinished, StageStarted
from poisonlab.types import Bundle


def run_stage(ctx: Context, name: str, key: Any, compute: Callable[[Context], Bundle]) -> Bundle:
    """The result of a stage, from the cache when it is there whole, computed and stored otherwise.

    Metrics, logs and artifacts that the stage emitted when it was computed are emitted again on a hit, so that a run
    shows the same things whether or not it had to work for them.

    Args:
        ctx: of the run; without a cache everything is computed.
        name: shown to people and part of the key.
        key: exactly what the result depends on, seed included where it matters: JSON-able values, configurations, and
            the parts of the spec whose methods have a hand in it (:func:`~poisonlab.cache.stage_key.canonical_key`).
        compute: called with a context whose events carry the stage's name.

    Returns:
        The bundle on the device of ``ctx``.

    Raises:
        CacheError: the folder of the cache cannot be written. Cancelled, and whatever ``compute`` raises.
    """
    inner = ctx.for_stage(name)
    ctx.emit(StageStarted(name))
    started = time.perf_counter()
    if ctx.cache is None:
        bundle = compute(inner)
        cached = False
    else:
        bundle, cached = ctx.cache.get_or_compute(name, key, inner, compute)
    seconds = 0.0 if cached else time.perf_counter() - started - inner.seconds_apart
    ctx.emit(StageFinished(name, seconds, cached))
    return bundle.to(ctx.device)


class CacheError(RuntimeError):
    """The cache folder cannot be written; the message says what to do."""


class StageCache:
    """Finished stages in one folder, evicted oldest-used first above ``limit_bytes``."""

    _sizes: ClassVar[dict[str, int]] = {}  # path of a whole stage -> bytes, for all caches of this process

    def __init__(self, root: Path, limit_bytes: int = 10 * 2**30) -> None:
        self.root = root
        self.limit_bytes = limit_bytes

    # -- the one entry ----------------------------------------------------------------------------

    def get_or_compute(
        self,
        name: str,
        key: Any,
        ctx: Context,
        compute: Callable[[Context], Bundle],
    ) -> tuple[Bundle, bool]:
        """The stage's bundle and whether it was there already."""
        folder = self.root / stage_id(name, key, ctx)
        with self._locked(folder.name, ctx):
            bundle = self._read(folder, ctx)
            if bundle is not None:
                return bundle, True
            bundle = self._compute_and_write(folder, name, key, ctx, compute)
        self._make_room(keep=folder.name)
        return bundle, False

    def kept(self, name: str, key: Any, ctx: Context) -> Bundle | None:
        """The stage's bundle if it is there whole; what it reported is reported again."""
        return self._read(self.root / stage_id(name, key, ctx), ctx)

    @contextmanager
    def _locked(self, folder: str, ctx: Context) -> Iterator[None]:
        """Hold the stage's file lock; while waiting for another job, stay open to a cancel."""
        lock = StageLock(self.root / "locks" / f"{folder}.lock")
        waiting = False
        while True:
            try:
                (self.root / "locks").mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=0.5)
                break
            except Timeout:
                if not waiting:
                    ctx.log("waiting for another job that computes this stage")
                waiting = True
                ctx.emit(Progress(ctx.stage_name, 0, 0))
            except OSError as error:
                raise self._unusable(ctx.stage_name, error) from error
        try:
            yield
        finally:
            lock.release()

    # -- disk -------------------------------------------------------------------------------------

    def _read(self, folder: Path, ctx: Context) -> Bundle | None:
        """A whole stage with its events sent again, or ``None``; a damaged one is removed and made anew."""
        if not folder.is_dir():
            return None
        try:
            stored = stage_folder.read(folder)
        except Exception as error:  # whatever is wrong with it, it can be made again
            ctx.log(f"cached stage {folder.name} is damaged and will be computed again: {error}", "warning")
            shutil.rmtree(folder, ignore_errors=True)
            return None
        os.utime(folder)
        stored.report(ctx)
        return stored.bundle

    def _compute_and_write(
        self, folder: Path, name: str, key: Any, ctx: Context, compute: Callable[[Context], Bundle]
    ) -> Bundle:
        heard: list[Event] = []

        def send(event: Event) -> None:
            ctx.send(event)
            heard.append(event)

        inner = dataclasses.replace(ctx, send=send)
        unfinished = self.root / f"unfinished-{folder.name}"
        partial = Partial(
            lambda: self._read(unfinished, inner),
            lambda done: self._write(unfinished, name, key, done, heard),
        )
        bundle = compute(dataclasses.replace(inner, partial=partial))
        self._write(folder, name, key, bundle, heard)
        shutil.rmtree(unfinished, ignore_errors=True)
        return bundle

    def _write(self, folder: Path, name: str, key: Any, bundle: Bundle, heard: list[Event]) -> None:
        """A stage's bundle and what it reported, in place of what lies there of an unfinished one."""
        for left in self.root.glob(f".{folder.name}.*"):  # by a process that was killed: the lock is ours
            shutil.rmtree(left, ignore_errors=True)
        temporary = self.root / f".{folder.name}.{uuid.uuid4().hex[:8]}"
        try:
            temporary.mkdir(parents=True)
            about = {"stage": name, "key": canonical_key(key), "created": time.time()}
            stage_folder.write(temporary, about, bundle, heard)
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
        except OSError as error:
            raise self._unusable(name, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _unusable(self, name: str, error: OSError) -> CacheError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "Free some disk space" if full else "Let this user write there"
        return CacheError(
            f"cannot store stage {name!r} under {self.root}: {error.strerror or error}. "
            f"{advice} or choose another folder with --results, then resume the run."
        )

    # -- size -------------------------------------------------------------------------------------

    def entries(self) -> list[tuple[str, int, float]]:
        """``(stage id, bytes, last used)`` of every whole stage, oldest use first."""
        found = []
        with suppress(FileNotFoundError), os.scandir(self.root) as folders:
            for folder in folders:
                if folder.name.startswith(".") or "-" not in folder.name:
                    continue  # still being written, or the locks
                with suppress(OSError):
                    found.append((folder.name, self._size(folder), folder.stat().st_mtime))
        return sorted(found, key=lambda entry: entry[2])

    def _size(self, folder: os.DirEntry[str]) -> int:
        """Bytes of a stage; that of a whole one never changes, so it is asked for once."""
        size = self._sizes.get(folder.path, 0)
        if not size:
            with os.scandir(folder) as files:
                size = sum(file.stat().st_size for file in files)
            if not folder.name.startswith("unfinished-"):
                self._sizes[folder.path] = size
        return size

    def _make_room(self, keep: str) -> None:
        """Evict what is too much; one process at a time looks, the others need not."""
        lock = StageLock(self.root / "locks" / "eviction.lock")
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            return
        try:
            self._evict(keep)
        finally:
            lock.release()

    def _evict(self, keep: str) -> None:
        entries = self.entries()
        total = sum(size for _, size, _ in entries)
        for name, size, _ in entries:
            if total <= self.limit_bytes:
                return
            if name != keep:
                shutil.rmtree(self.root / name, ignore_errors=True)
                total -= size
