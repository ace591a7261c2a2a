"""Which runs were measured again from their weights on this machine.

A mark is a file of the results folder, ``verified/<run id>.json``, that nothing but ``verify`` writes: what an imported
record says of itself is not asked. It holds a hash of what was claimed, and counts for no other claim of this run id.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from poisonlab.records.record import (
    Moment,
    RecordError,
    RunId,
    RunRecord,
    Short,
    check_run_id,
    read_plain,
    write_atomically,
)
from poisonlab.spec.config import digest

FOLDER = "verified"
MAX_MARK_BYTES = 2**14

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Mark(BaseModel):
    """That the numbers of a run were measured again.

    Attributes:
        claim: of the record, see :func:`claim_of`.
        submission: the SHA-256 of its manifest.
        device: on which they were measured again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: RunId
    claim: Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")]
    submission: Sha256
    time: Moment
    device: Short = ""


def claim_of(record: RunRecord) -> str:
    """Hash of what a record claims: the experiment, its data, every number, and what they are numbers of."""
    spec = record.spec.model_dump()
    return digest([record.run_id, spec, record.data, record.threat, record.metrics, record.collapsed])


def mark(results: Path, record: RunRecord, submission: str, device: str) -> Mark:
    """Note that a run was verified here.

    Raises:
        OSError: the disk refuses.
    """
    made = Mark(
        run_id=record.run_id,
        claim=claim_of(record),
        submission=submission,
        time=datetime.now(UTC),
        device=device,
    )
    folder = results / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{made.run_id}.json", made.model_dump_json().encode())
    return made


def read_mark(path: Path) -> Mark:
    """A mark by its file.

    Raises:
        RecordError: no mark, or that of another run than the file's name says.
    """
    check_run_id(path.stem)
    try:
        found = Mark.model_validate_json(read_plain(path, MAX_MARK_BYTES))
    except ValidationError as error:
        raise RecordError(f"{path.name} is no mark of a verified run: {error.error_count()} errors") from None
    if found.run_id != path.stem:
        raise RecordError(f"{path.name} holds the mark of run {found.run_id}")
    return found
