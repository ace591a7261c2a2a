"""A job as the runner and the pages see it."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from poisonlab.records import migrate
from poisonlab.records.recorded_spec import RecordedSpec
from poisonlab.store.database import StoreError

STATES = ("queued", "running", "done", "failed", "cancelled", "interrupted")


@dataclass(frozen=True)
class Job:
    """A job; times are UTC without zone, ``rate`` steps a second, ``eta_seconds`` of the current stage.

    ``logs`` holds ``(stage, level, message)``; ``device`` is what was asked for.
    """

    run_id: str
    spec: RecordedSpec
    dataset: str
    attack: str
    defense: str
    victim: str
    preset: str
    seed: int
    state: str
    stage: str
    step: int
    total: int
    rate: float | None
    eta_seconds: float | None
    message: str
    device: str
    attempt: int
    person: str
    created: datetime
    started: datetime | None
    finished: datetime | None
    logs: tuple[tuple[str, str, str], ...] = ()


def utc_now() -> datetime:
    """Now in UTC without a zone, as every TIMESTAMP column holds it."""
    return datetime.now(UTC).replace(tzinfo=None)


def parse_spec(text: str) -> RecordedSpec:
    """A stored spec, also one that this version of the program cannot run.

    Raises:
        StoreError: it is no spec at all.
    """
    try:
        return RecordedSpec.of(migrate.migrate_spec(json.loads(text)))
    except ValueError as error:
        raise StoreError(f"this is no spec of an experiment: {str(error)[:500]}") from None


def to_job(row: dict[str, Any], said: list[tuple[str, str, str]]) -> Job:
    """A row of the table ``jobs`` and the rows of its log."""
    fields = {k: row[k] for k in Job.__dataclass_fields__ if k not in ("spec", "logs", "run_id")}
    return Job(run_id=str(row["run_id"]), spec=parse_spec(row["spec"]), logs=tuple(said), **fields)
