"""A stage's lock where the file system has locks, and where it has none."""

import errno
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest

from poisonlab.cache import lock
from poisonlab.cache.lock import StageLock

HOLDER = """
import errno, sys, time
import filelock
from pathlib import Path
from poisonlab.cache import lock

def refused(self):
    raise OSError(errno.ENOLCK, "No locks available")

if sys.argv[2] == "none":
    filelock.FileLock._acquire = refused
lock.LEASE = 0.6
held = lock.StageLock(Path(sys.argv[1]))
held.acquire(5)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def no_flock(monkeypatch) -> None:
    def refused(self) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "_acquire", refused)
    monkeypatch.setattr(lock, "LEASE", 0.6)


def holder(path: Path, locks: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), locks], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert child.stdout.readline().strip() == "held"
    return child


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = StageLock(tmp_path / "a.lock"), StageLock(tmp_path / "a.lock")
    first.acquire(1)
    with pytest.raises(filelock.Timeout):
        second.acquire(0.05)
    first.release()
    second.acquire(1)
    second.release()


def test_without_locks_of_the_system_a_lease_does_the_same(tmp_path: Path, no_flock) -> None:
    first, second = StageLock(tmp_path / "a.lock"), StageLock(tmp_path / "a.lock")
    first.acquire(1)
    with pytest.raises(filelock.Timeout):
        second.acquire(1.5)  # longer than the lease, which its holder renews
    first.release()
    second.acquire(1)
    second.release()
    assert (tmp_path / "a.lock").with_suffix(".lease").parent == tmp_path


@pytest.mark.parametrize("locks", ("none", "system"))
def test_a_dead_holder_is_replaced(tmp_path: Path, request, locks: str) -> None:
    if locks == "none":
        request.getfixturevalue("no_flock")
    child = holder(tmp_path / "a.lock", locks)
    mine = StageLock(tmp_path / "a.lock")
    with pytest.raises(filelock.Timeout):
        mine.acquire(0.05)
    child.kill()
    child.wait()
    begun = time.monotonic()
    while True:
        try:
            mine.acquire(0.1)
            break
        except filelock.Timeout:
            assert time.monotonic() - begun < 10
    mine.release()


def test_a_dead_holder_of_another_machine_is_replaced_when_its_lease_is_over(tmp_path, no_flock, monkeypatch):
    child = holder(tmp_path / "a.lock", "none")
    child.kill()
    child.wait()
    marker = tmp_path / "a.lease"
    text = marker.read_text()
    import socket

    marker.write_text(text.replace(socket.gethostname(), "another-host"))
    mine = StageLock(tmp_path / "a.lock")
    with pytest.raises(filelock.Timeout):
        mine.acquire(0.2)  # nobody here can know whether that process lives
    mine.acquire(5)
    mine.release()


def test_other_errors_are_not_taken_for_missing_locks(tmp_path: Path, monkeypatch) -> None:
    def refused(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(filelock.FileLock, "_acquire", refused)
    with pytest.raises(OSError, match="No space left"):
        StageLock(tmp_path / "a.lock").acquire(1)
