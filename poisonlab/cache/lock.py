"""The lock of a stage: the system's own where the file system has one, a lease that expires where it has not."""

import errno
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLease, Timeout

LEASE = 120.0  # seconds without a sign of the holder after which another may take its place
# what a network file system answers that knows no locks
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)


class StageLock:
    """Held by one thread of one process, on any machine that sees the file.

    A lease can, after a machine stood still for minutes, have two holders: both compute the same stage, and one of
    the two equal results stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # a marker instead of a lock would stay for ever when its holder dies on another machine
        self._lock: BaseFileLock = FileLock(path, fallback_to_soft=False)

    def acquire(self, timeout: float) -> None:
        """Hold the lock.

        Raises:
            Timeout: somebody else holds it still after ``timeout`` seconds. OSError: the folder cannot be used.
        """
        try:
            self._lock.acquire(timeout=timeout)
        except Timeout:
            raise
        except OSError as error:
            if error.errno not in _NO_LOCKS or isinstance(self._lock, SoftFileLease):
                raise
            self._lock = SoftFileLease(self._path.with_suffix(".lease"), lease_duration=LEASE)
            self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        """Let others have it."""
        self._lock.release()
