"""Run folders in and out. What comes in is checked to the last byte before it is given a place."""

import json
import secrets
import shutil
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from poisonlab.records import record as run_folder
from poisonlab.records import writing
from poisonlab.records.record import (
    RECORD,
    RecordError,
    RunRecord,
    check_artifacts,
    check_run_id,
    read_record,
)

MAX_RUN_BYTES = 512 * 2**20


@dataclass
class Moved:
    """Run ids that were copied, those that were there already, and folders refused with the reason."""

    copied: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def export_runs(run_ids: Iterable[str] | None, homes: Iterable[Path], target: Path) -> Moved:
    """Copy whole run folders into ``target``.

    Args:
        run_ids: ``None`` for every finished run of the first of ``homes``.
        homes: folders that are searched for the ids, in their order.

    Raises:
        RecordError: an id that is none or that nobody knows. OSError: the disk refuses.
    """
    homes = list(homes)
    if run_ids is None:
        folders = [f for f in sorted(homes[0].glob("*")) if (f / RECORD).is_file() and not f.is_symlink()]
    else:
        folders = [_find(check_run_id(run_id), homes) for run_id in run_ids]
    moved = Moved()
    for folder in folders:
        try:
            record, _ = read_record(folder)
            if run_ids is None and record.state != "done":
                continue
            _place(record, folder, target, moved, {})
        except RecordError as error:
            moved.refused[folder.name] = str(error)
    return moved


def import_runs(
    source: Path, runs: Path, shipped: Container[str], check: Callable[[RunRecord], None]
) -> Moved:
    """Check run folders from anywhere and copy them into ``runs``, marked as imported.

    Args:
        source: a run folder, or a folder of run folders.
        shipped: ids of the runs that come with the program, which are not imported again.
        check: raises ``ValueError`` for a record whose values cannot be; the message says which.

    Raises:
        RecordError: no run folder there. OSError: the disk refuses.
    """
    if (source / RECORD).exists():
        folders = [source]
    elif source.is_dir():
        folders = [f for f in sorted(source.iterdir()) if f.is_dir() and (f / RECORD).exists()]
    else:
        folders = []
    if not folders:
        raise RecordError(f"{source} holds no run: expected {RECORD} in it or in its subfolders")
    moved = Moved()
    for folder in folders:
        try:
            if folder.is_symlink() and folder != source:
                raise RecordError(f"{folder.name} is a link; links are refused")
            record, _ = read_record(folder)
            if record.run_id in shipped:
                moved.present.append(record.run_id)
            else:
                check(record)
                _place(record, folder, runs, moved, {"source": "imported"})
        except ValueError as error:  # a RecordError is one
            moved.refused[folder.name] = str(error)
    return moved


def receive(folder: Path, runs: Path) -> None:
    """Check the folder of a run that a worker of ours sent, and copy it into ``runs`` in place of an earlier attempt.

    Args:
        folder: named by the id of the run that was asked for.

    Raises:
        RecordError: it is not whole, or another run's. OSError: the disk refuses.
    """
    record, _ = read_record(folder)
    if record.run_id != folder.name:
        raise RecordError(f"the folder of run {folder.name} holds the record of run {record.run_id}")
    shutil.rmtree(runs / record.run_id, ignore_errors=True)
    _place(record, folder, runs, Moved(), {})


def _find(run_id: str, homes: list[Path]) -> Path:
    for home in homes:
        if (home / run_id / RECORD).is_file():
            return home / run_id
    raise RecordError(f"there is no finished run {run_id} in {homes[0]}, nor among the shipped ones")


def _place(record: RunRecord, folder: Path, target: Path, moved: Moved, changes: dict[str, Any]) -> None:
    """Copy exactly the files that the record names, under a temporary name until all of them hold.

    The record itself is copied as it was written, whatever its schema, but for ``changes``.
    """
    final = target / record.run_id
    if final.exists():
        moved.present.append(record.run_id)
        return
    with writing.held(final):
        _copy(record, folder, final, changes)
    moved.copied.append(record.run_id)


def _copy(record: RunRecord, folder: Path, final: Path, changes: dict[str, Any]) -> None:
    temporary = final.with_name(f".{record.run_id}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir(parents=True)
    try:
        total = 0
        for item, raw in check_artifacts(record, folder):
            total += len(raw)
            if total > MAX_RUN_BYTES:
                raise RecordError(f"run {record.run_id} has more than {MAX_RUN_BYTES} bytes of artifacts")
            path = temporary / item.file
            path.write_bytes(raw)
            kind = type(run_folder.load_artifact(path)).__name__
            if kind != item.kind:
                raise RecordError(f"{folder.name}/{item.file} is a {kind}, not a {item.kind}")
        values, _ = run_folder.read_values(folder)
        run_folder.write_atomically(temporary / RECORD, json.dumps(values | changes).encode())
        temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
