"""A sweep on disk: ``results/sweeps/<id>.json``, checked when it is read."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from poisonlab import __version__
from poisonlab.multilevel.spec import MAX_FEATURES, MAX_NAME, Outcome, SweepSpec
from poisonlab.records.record import (
    RecordError,
    RunId,
    Seconds,
    check_run_id,
    new_run_id,
    read_plain,
    write_atomically,
)
from poisonlab.records.revision import LOADED
from poisonlab.spec.config import explain

if TYPE_CHECKING:  # a table brings torch, which the store does not need
    from poisonlab.multilevel.data import Table

FOLDER = "sweeps"
MAX_RECORD_BYTES = 2 * 2**20

Column = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TableNote(_Strict):
    """Which table a sweep was run on, without its numbers."""

    name: Column
    rows: int = Field(ge=1)
    features: Annotated[tuple[Column, ...], Field(max_length=MAX_FEATURES)]
    target: Column
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SweepRecord(_Strict):
    """All that a sweep was and found."""

    sweep_id: RunId
    created: AwareDatetime
    version: Annotated[str, Field(max_length=200)]
    revision: Annotated[str, Field(max_length=200)]
    seconds: Seconds
    table: TableNote
    spec: SweepSpec
    outcomes: Annotated[tuple[Outcome, ...], Field(max_length=1000)]

    @model_validator(mode="after")
    def _every_game_once(self) -> "SweepRecord":
        games = [
            (penalty, seed) for penalty in (None, *self.spec.penalties) for seed in range(self.spec.seeds)
        ]
        if [(o.penalty, o.seed) for o in self.outcomes] != games:
            raise ValueError("outcomes must be those of every penalty and seed, bilevel first")
        if any((o.model == "bilevel") != (o.penalty is None) for o in self.outcomes):
            raise ValueError("the bilevel game, and it alone, has no penalty")
        return self


def make_record(table: "Table", spec: SweepSpec, outcomes: list[Outcome], seconds: float) -> SweepRecord:
    note = TableNote(
        name=table.name, rows=len(table.y), features=table.features, target=table.target, sha256=table.sha256
    )
    return SweepRecord(
        sweep_id=new_run_id(),
        created=datetime.now(UTC),
        version=__version__,
        revision=LOADED,
        seconds=seconds,
        table=note,
        spec=spec,
        outcomes=tuple(outcomes),
    )


def write(record: SweepRecord, results: Path) -> Path:
    """The file, written whole or not at all.

    Raises:
        OSError: the disk refuses.
    """
    path = path_of(record.sweep_id, results)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, record.model_dump_json().encode())
    return path


def read(sweep_id: str, results: Path) -> tuple[SweepRecord, str]:
    """The checked record of a sweep and the SHA-256 of its file.

    Raises:
        RecordError: an id that is none, or a file that is missing or breaks a rule.
    """
    path = path_of(sweep_id, results)
    raw = read_plain(path, MAX_RECORD_BYTES)
    try:
        record = SweepRecord.model_validate_json(raw)
    except (ValidationError, RecursionError) as error:
        found = explain(error) if isinstance(error, ValidationError) else "nested too deeply"
        raise RecordError(f"{FOLDER}/{path.name} is not a valid record: {found[:500]}") from None
    if record.sweep_id != sweep_id:
        raise RecordError(f"{FOLDER}/{path.name} holds the record of sweep {record.sweep_id}")
    return record, hashlib.sha256(raw).hexdigest()


def path_of(sweep_id: str, results: Path) -> Path:
    return results / FOLDER / f"{check_run_id(sweep_id)}.json"
