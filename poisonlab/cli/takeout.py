"""``export --with-models --with-data``: what runs worked with, beside their folders."""

import argparse
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from poisonlab.cli.terminal import one_line, say
from poisonlab.data.base import DataError
from poisonlab.measure.recorded import read_record
from poisonlab.pipeline.reopen import NotKept, Opened
from poisonlab.pipeline.takeout import network_files, open_run, poison_files
from poisonlab.records.record import RecordError, RunRecord

MODELS = "models"
DATA = "data"
Files = Iterator[tuple[str, bytes]]


def take_out(run_ids: Iterable[str], options: argparse.Namespace) -> int:
    """Write what the options ask for of runs whose folders lie in ``options.folder``; how many could not be opened."""
    missing = 0
    for run_id in run_ids:
        try:
            record, _ = read_record(options.folder / run_id)
            _write(open_run(record, options.results / "cache"), record, options)
        except (NotKept, DataError, RecordError) as error:
            say(f"{run_id}: {one_line(error)}")
            missing += 1
    return missing


def _write(opened: Opened, record: RunRecord, options: argparse.Namespace) -> None:
    target: Path = options.folder
    if options.with_models:
        write_files(lambda: network_files(opened, record.run_id), target / f"{record.run_id}-{MODELS}")
    if options.with_data:
        write_files(lambda: poison_files(opened), target / f"{record.run_id}-{DATA}")


def write_files(make: Callable[[], Files], folder: Path) -> None:
    """Write files into a folder that is whole or not there; one that is there already stays as it is.

    Args:
        make: the files, each by its path below the folder.

    Raises:
        OSError: the disk refuses.
    """
    if folder.exists():
        return
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for name, raw in make():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(raw)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
