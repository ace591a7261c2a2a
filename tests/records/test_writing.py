"""What a killed process left of a run is removed; what another process writes is not."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poisonlab.records import writing
from poisonlab.records.record import RECORD, new_run_id
from poisonlab.records.writing import held, remove_left_behind

KILLED = """
import os, sys
from pathlib import Path
from poisonlab.records.writing import held
folder = Path(sys.argv[1])
with held(folder):
    folder.mkdir()
    (folder / "poison.safetensors").touch()
    os._exit(9)
"""


def folder_of(runs: Path, *names: str, old: bool = False) -> Path:
    """A run folder with some files in it, made now or two days ago."""
    folder = runs / new_run_id()
    folder.mkdir(parents=True)
    for path in (*(folder / name for name in names), folder):
        if path != folder:
            path.touch()
        if old:
            then = time.time() - 2 * writing.OLD_SECONDS
            os.utime(path, (then, then))
    return folder


def test_a_folder_of_a_killed_process_is_removed_at_once(tmp_path: Path) -> None:
    folder = tmp_path / new_run_id()
    subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False)
    assert (folder / "poison.safetensors").exists() and len(list(tmp_path.iterdir())) == 2

    assert remove_left_behind(tmp_path, ()) == [folder.name]

    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_being_written_stays(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "poison.safetensors", old=True)
    with held(folder):
        assert remove_left_behind(tmp_path, ()) == []
        assert (folder / "poison.safetensors").exists()

    assert sorted(tmp_path.iterdir()) == [folder]  # the lock is gone with its holder


def test_a_folder_that_nobody_locked_is_removed_once_it_is_old(tmp_path: Path) -> None:
    young = folder_of(tmp_path, "poison.safetensors")
    old = folder_of(tmp_path, "poison.safetensors", old=True)
    at_work = folder_of(tmp_path, old=True)
    (at_work / "poison.safetensors").touch()

    assert remove_left_behind(tmp_path, ()) == [old.name]

    assert young.exists() and at_work.exists()


def test_records_jobs_of_the_queue_and_whatever_else_lies_there_stay(tmp_path: Path) -> None:
    run = folder_of(tmp_path, RECORD, old=True)
    job = folder_of(tmp_path, "poison.safetensors", old=True)
    other = tmp_path / "notes"
    other.mkdir()
    os.utime(other, (0, 0))
    link = tmp_path / new_run_id()
    link.symlink_to(other)

    assert remove_left_behind(tmp_path, {job.name}) == []

    assert run.exists() and job.exists() and other.exists() and link.exists()


def test_half_of_an_import_and_a_lock_without_a_folder_are_removed(tmp_path: Path) -> None:
    half = tmp_path / f".{new_run_id()}.0123abcd.tmp"
    half.mkdir()
    (half / "poison.safetensors").touch()
    (tmp_path / f".{half.name[1:37]}.lock").touch()
    alone = tmp_path / f".{new_run_id()}.lock"
    alone.touch()

    assert remove_left_behind(tmp_path, ()) == [half.name[1:37]]

    assert not half.exists() and not alone.exists()


@pytest.mark.parametrize("error", [OSError("no locks here"), NotImplementedError()])
def test_a_file_system_without_locks_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*args: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(writing.FileLock, "acquire", refuse)
    with held(tmp_path / new_run_id()):
        pass
