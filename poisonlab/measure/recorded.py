"""Records as they are read from disk: whole, and with every metric in the range that the catalogue gives it."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from poisonlab.measure import catalogue
from poisonlab.records import record as run_folder
from poisonlab.records.record import RECORD, RecordError, RunRecord


def read_record(folder: Path) -> tuple[RunRecord, str]:
    """The checked record of a run folder, and the SHA-256 of its file.

    Raises:
        RecordError: not a record, or one that breaks a rule.
    """
    record, sha256 = run_folder.read_record(folder)
    try:
        check_ranges(record)
    except ValueError as error:
        raise RecordError(f"{folder.name}/{RECORD} is not a valid record: {error}") from None
    return record, sha256


def records_in(runs: Path) -> Iterator[RunRecord]:
    """All records of a folder of run folders that can be read; the index tells of the others."""
    for path in sorted(runs.glob(f"*/{RECORD}")):
        with suppress(RecordError):
            yield read_record(path.parent)[0]


def check_ranges(record: RunRecord) -> None:
    """Compare the metrics of a record, and the curves that bear the name of one, with their ranges.

    Raises:
        ValueError: a value is outside; names the metric and its range.
    """
    values: dict[str, list[float | None]] = defaultdict(list)
    for name, value in record.metrics.items():
        values[name].append(value)
    for _, name, _, value in record.points:
        values[name].append(value)
    for name, measured in values.items():
        catalogue.check_range(name, measured)
