"""A job as the runner and the pages see it."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from poisonlab.spec.config import ExperimentSpec, explain
from poisonlab.store.database import StoreError

STATES = ("queued", "running", "done", "failed", "cancelled", "interrupted")


@dataclass(frozen=True)
class Job:
    """A job; times are UTC without zone, ``rate`` steps a second, ``eta_seconds`` of the current stage.

    ``logs`` holds ``(stage, level, message)``; ``device`` is what was asked for.
    """

    run_id: str
    spec: ExperimentSpec
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
    created: datetime
    started: datetime | None
    finished: datetime | None
    logs: tuple[tuple[str, str, str], ...] = ()


def utc_now() -> datetime:
    """Now in UTC without a zone, as every TIMESTAMP column holds it."""
    return datetime.now(UTC).replace(tzinfo=None)


def parse_spec(text: str) -> ExperimentSpec:
    """A stored spec.

    Raises:
        StoreError: it does not fit this version of the program.
    """
    try:
        return ExperimentSpec.model_validate(json.loads(text))
    except ValidationError as error:
        raise StoreError(
            f"this spec does not fit this version of the program: {explain(error)[:500]}"
        ) from None


def to_job(row: dict[str, Any], said: list[tuple[str, str, str]]) -> Job:
    """A row of the table ``jobs`` and the rows of its log."""
    fields = {k: row[k] for k in Job.__dataclass_fields__ if k not in ("spec", "logs", "run_id")}
    return Job(run_id=str(row["run_id"]), spec=parse_spec(row["spec"]), logs=tuple(said), **fields)
