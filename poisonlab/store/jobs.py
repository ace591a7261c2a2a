"""The queue: jobs are rows before they are anything else, so that a crash forgets none of them."""

import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from poisonlab.records.record import RECORD, check_run_id, finite, new_run_id
from poisonlab.records.recorded_spec import NotRunnable
from poisonlab.spec.config import ExperimentSpec
from poisonlab.spec.shared import needs
from poisonlab.store.database import Database, StoreError
from poisonlab.store.job import STATES, Job, parse_spec, to_job, utc_now
from poisonlab.store.rows import append_rows, delete_runs, point_rows, spec_columns

MAX_QUEUED = 10_000
MAX_LOST = 3  # times that a job is tried again after its worker was lost
_AT_ONCE = 1000  # rows of one statement, of which DuckDB keeps the order
RESUMABLE = ("interrupted", "failed", "cancelled")
PROCESS = uuid.uuid4().hex  # who we are: a PID may come back after a crash, this does not

_COLUMNS = """run_id::VARCHAR AS run_id, submission::VARCHAR AS submission, dataset, attack, defense, victim, preset,
    seed, state, stage, step, total, rate, eta_seconds, message, coalesce(ran_on, device) AS device, created, started,
    finished, person"""
_IN_ORDER = """ORDER BY CASE state WHEN 'running' THEN 0 WHEN 'queued' THEN 1 ELSE 2 END,
    CASE WHEN state = 'queued' THEN position ELSE -position END"""
# of columns that are no text
_TYPES = {
    "run_id": "UUID",
    "submission": "UUID",
    "seed": "BIGINT",
    "spec": "JSON",
    "created": "TIMESTAMP",
    "needs": "VARCHAR[]",
}

# The job to be taken next: joins, as lists of what hundreds of running jobs hold would be searched for every job.
_NEXT = """WITH at_work AS (SELECT person, coalesce(string_split(held, ','), needs) AS keys FROM jobs
        WHERE state = 'running'),
    busy AS (SELECT DISTINCT unnest(keys) AS key FROM at_work),
    served AS (SELECT person FROM at_work GROUP BY person HAVING count(*) >= $each),
    waiting AS (SELECT run_id, position, needs FROM jobs WHERE state = 'queued' AND device IN ('auto', $device)
        AND (list_contains($unlimited::VARCHAR[], person) OR NOT ($kept_back OR person IN (FROM served)))
        AND coalesce(needs[1], '') NOT IN (FROM busy)),
    sharing AS (SELECT DISTINCT run_id FROM (SELECT run_id, unnest(needs) AS key FROM waiting) WHERE key IN (FROM busy))
    SELECT run_id FROM waiting LEFT JOIN sharing USING (run_id)
    ORDER BY sharing.run_id IS NOT NULL, position LIMIT 1"""
_ANY_NUMBER = 2**31  # of jobs of one person at work


class QueueFull(StoreError):
    """Too many jobs wait already."""


class Jobs:
    """The queue.

    Args:
        runs: the folder of run folders, where a job that is queued again leaves no earlier record.
    """

    def __init__(self, db: Database, runs: Path) -> None:
        self.db = db
        self.runs = runs

    # -- asking -------------------------------------------------------------------------------------

    def find(self, states: Sequence[str] | None = None, limit: int = 200) -> pd.DataFrame:
        """Jobs, those at work first, then waiting ones in their order, then the newest finished."""
        wanted = list(STATES if states is None else states)
        return self.db.frame(
            f"""SELECT {_COLUMNS} FROM jobs WHERE state IN (SELECT unnest(?::VARCHAR[]))
            {_IN_ORDER} LIMIT ?""",
            [wanted, limit],
        )

    def active(self) -> pd.DataFrame:
        """All jobs that wait or are at work, and what ended of those queued together with one of them."""
        at_work = "state IN ('queued', 'running')"
        return self.db.frame(
            f"""SELECT {_COLUMNS} FROM jobs WHERE {at_work}
                OR submission IN (SELECT submission FROM jobs WHERE {at_work})
            {_IN_ORDER}"""
        )

    def specs(self, run_ids: Sequence[str]) -> list[ExperimentSpec]:
        """What these jobs run, in the order of their ids; without those that this version cannot run."""
        texts = dict(
            self.db.rows(
                "SELECT run_id::VARCHAR, spec FROM jobs WHERE run_id IN (SELECT unnest(?::UUID[]))",
                [list(run_ids)],
            )
        )
        found = []
        for run_id in run_ids:
            with suppress(StoreError, NotRunnable):
                found.append(parse_spec(texts[run_id]).experiment())
        return found

    def get(self, run_id: str) -> Job | None:
        """A job with its log, or ``None``.

        Raises:
            StoreError: its spec does not fit this version of the program.
        """
        with self.db.cursor() as cursor:
            found = _stored(cursor, check_run_id(run_id))
        return None if found is None else to_job(*found)

    def queued(self) -> dict[tuple[str, int], str]:
        """Group and seed of every job that waits or is at work, and its id."""
        found = {}
        waiting = self.db.rows("SELECT run_id::VARCHAR, spec FROM jobs WHERE state IN ('queued', 'running')")
        for run_id, text in waiting:
            # one that another version of the program queued is equal to no spec of this one
            with suppress(StoreError):
                spec = parse_spec(text)
                found[spec.group(), spec.seed] = run_id
        return found

    def waiting_of(self, person: str) -> int:
        """How many jobs of somebody wait."""
        ((count,),) = self.db.rows(
            "SELECT count(*) FROM jobs WHERE state = 'queued' AND person = ?", [person]
        )
        return int(count)

    def person_of(self, run_id: str) -> str:
        """Whose a job is; empty where it is nobody's, or the owner's of the machine."""
        found = self.db.rows("SELECT person FROM jobs WHERE run_id = ?", [check_run_id(run_id)])
        return str(found[0][0]) if found else ""

    def endings(self, run_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """State and message of those of some jobs that ended."""
        rows = self.db.rows(
            """SELECT run_id::VARCHAR, state, message FROM jobs
            WHERE run_id IN (SELECT unnest(?::UUID[])) AND state NOT IN ('queued', 'running')""",
            [list(run_ids)],
        )
        return {run_id: (state, message) for run_id, state, message in rows}

    # -- queueing -----------------------------------------------------------------------------------

    def enqueue(self, specs: Iterable[ExperimentSpec], device: str = "auto", person: str = "") -> list[str]:
        """Put jobs at the end of the queue, all of them or none; their ids, in order, become the runs'.

        Several belong together from then on: they share a ``submission``.

        Args:
            device: the only worker that may take them, or ``auto`` for any.
            person: whose they are.

        Raises:
            QueueFull: too many wait already.
        """
        jobs = [(new_run_id(), spec) for spec in specs]
        submission = jobs[0][0] if len(jobs) > 1 else None
        rows = [_row(run_id, spec, device, person, submission) for run_id, spec in jobs]

        def change(cursor: duckdb.DuckDBPyConnection) -> None:
            _check_room(cursor, len(rows))
            for start in range(0, len(rows), _AT_ONCE):
                _insert(cursor, rows[start : start + _AT_ONCE])

        self.db.write(change, of_jobs=True)
        return [row["run_id"] for row in rows]

    def requeue(self, run_id: str) -> None:
        """Queue a job that did not finish once more, under its own id; its earlier attempt is forgotten.

        Raises:
            StoreError: no such job or run, or it is done, waiting or running.
        """
        run_id = check_run_id(run_id)

        def change(cursor: duckdb.DuckDBPyConnection) -> None:
            _check_room(cursor, 1)
            changed = cursor.execute(
                """UPDATE jobs SET state = 'queued', position = nextval('job_position'), cancel = false,
                    message = '', stage = '', step = 0, total = 0, rate = NULL, eta_seconds = NULL,
                    finished = NULL, owner = NULL, held = NULL, lost = 0
                WHERE run_id = ? AND state IN (SELECT unnest(?::VARCHAR[])) RETURNING run_id""",
                [run_id, list(RESUMABLE)],
            ).fetchall()
            if not changed:
                _insert_from_run(cursor, run_id)
            delete_runs(cursor, [run_id])

        self.db.write(change)
        # the old record would be indexed again otherwise
        (self.runs / run_id / RECORD).unlink(missing_ok=True)

    # -- working ------------------------------------------------------------------------------------

    def claim(
        self,
        device: str,
        worker: str = "",
        each: int = 0,
        unlimited: Sequence[str] = ("",),
        kept_back: bool = False,
    ) -> Job | None:
        """The next job that waits for ``device`` or for any, or ``None``. No two workers get the same.

        First come jobs whose networks nobody is computing at present, then those that would have to wait for one of
        them in their midst. A job whose victim is being computed waits: its worker could do nothing but wait as well.

        Args:
            worker: its name, shown to people; that of the device by default.
            each: how many jobs of one person may run; 0 for any number.
            unlimited: people whom ``each`` and ``kept_back`` do not bind.
            kept_back: whether the device is for those people alone.

        Raises:
            StoreError: the database cannot be used; the job still waits.
        """

        wanted = {
            "device": device,
            "each": each or _ANY_NUMBER,
            "unlimited": list(unlimited),
            "kept_back": kept_back,
        }

        def change(cursor: duckdb.DuckDBPyConnection) -> dict[str, Any] | None:
            found = cursor.execute(_NEXT, wanted).fetchone()
            if found is None:
                return None
            taken = cursor.execute(
                """UPDATE jobs SET state = 'running', owner = ?, ran_on = ?, held = NULL,
                    attempt = attempt + 1, started = ?, finished = NULL
                WHERE run_id = ? AND state = 'queued' RETURNING *""",
                [PROCESS, worker or device, utc_now(), found[0]],
            )
            return _first(taken)

        while True:
            found = self.db.write(change, of_jobs=True)
            if found is None:
                return None
            run_id = str(found["run_id"])
            try:
                job = to_job(found, [])  # a new attempt has said nothing yet
                job.spec.experiment()
                return job
            except NotRunnable as error:
                text = f"this spec does not fit this version of the program: {error}"
                self.set_state(run_id, "failed", text)
            except StoreError as error:
                self.set_state(run_id, "failed", str(error))

    def update_progress(
        self,
        run_id: str,
        *,
        stage: str = "",
        step: int = 0,
        total: int = 0,
        rate: float | None = None,
        eta_seconds: float | None = None,
        points: Sequence[tuple[str, str, int, float | None]] = (),
        logs: Sequence[tuple[str, str, str]] = (),
        artifacts: Sequence[tuple[str, str, str]] = (),
        held: Sequence[str] | None = None,
    ) -> bool:
        """Store what a running job said since the last call; returns whether it was asked to stop.

        Args:
            points: ``(stage, name, step, value)``. logs: ``(stage, level, message)``.
            artifacts: ``(name, kind, stage)``.
            held: of what the job needed, what it may still be computing; ``None`` for all of it.
        """

        still_held = None if held is None else ",".join(held)

        def change(cursor: duckdb.DuckDBPyConnection) -> bool:
            append_rows(cursor, "points", point_rows(run_id, points))
            append_rows(cursor, "logs", [(run_id, *log) for log in logs])
            append_rows(cursor, "artifacts", [(run_id, *artifact) for artifact in artifacts])
            found = cursor.execute(
                """UPDATE jobs SET stage = ?, step = ?, total = ?, rate = ?, eta_seconds = ?, held = ?
                WHERE run_id = ? AND state = 'running' RETURNING cancel""",
                [stage, step, total, finite(rate), finite(eta_seconds), still_held, run_id],
            ).fetchone()
            return found is None or bool(found[0])

        return self.db.write(change, of_jobs=True)

    def set_state(self, run_id: str, state: str, message: str = "", *, attempt: int | None = None) -> bool:
        """Change a job's state; with ``attempt`` only while that attempt is the one that runs."""
        if state not in STATES:
            raise ValueError(f"unknown state {state!r}; choose one of: {', '.join(STATES)}")
        finished = None if state in ("queued", "running") else utc_now()
        sql = """UPDATE jobs SET state = ?, message = ?, finished = ?, rate = NULL, eta_seconds = NULL
            WHERE run_id = ?"""
        values: list[Any] = [state, message, finished, check_run_id(run_id)]
        if attempt is not None:
            sql = f"{sql} AND attempt = ? AND state = 'running'"
            values = [*values, attempt]
        return self.db.write(
            lambda cursor: bool(cursor.execute(f"{sql} RETURNING run_id", values).fetchall()), of_jobs=True
        )

    def worker_lost(self, run_id: str, attempt: int, why: str) -> str:
        """The worker of a running job is gone: the job waits again, before all others; after some times it failed.

        Returns:
            The state that it is in then, empty where that attempt is over; what was cancelled meanwhile is cancelled.
        """
        again = f"{why}; the job is tried again and goes on after its last whole stage"
        failed = f"{why}, {MAX_LOST + 1} times: see the log of the worker, or what the machine says about its memory"
        return self._wait_again(run_id, attempt, again, failed, counts=True)

    def put_back(self, run_id: str, attempt: int, why: str) -> str:
        """No worker could be had for a claimed job: it waits again, or is cancelled; its state as above."""
        return self._wait_again(run_id, attempt, why, why, counts=False)

    def _wait_again(self, run_id: str, attempt: int, again: str, failed: str, *, counts: bool) -> str:
        values = {
            "run_id": check_run_id(run_id),
            "attempt": attempt,
            "again": again,
            "failed": failed,
            "counts": counts,
            "most": MAX_LOST,
            "now": utc_now(),
        }

        def change(cursor: duckdb.DuckDBPyConnection) -> str:
            changed = cursor.execute(
                """UPDATE jobs SET lost = lost + $counts::INTEGER, held = NULL, rate = NULL, eta_seconds = NULL,
                    state = CASE WHEN cancel THEN 'cancelled' WHEN $counts AND lost >= $most THEN 'failed'
                        ELSE 'queued' END,
                    message = CASE WHEN cancel THEN 'cancelled on request' WHEN $counts AND lost >= $most THEN $failed
                        ELSE $again END,
                    finished = CASE WHEN cancel OR ($counts AND lost >= $most) THEN $now::TIMESTAMP END
                WHERE run_id = $run_id AND attempt = $attempt AND state = 'running' RETURNING state""",
                values,
            ).fetchone()
            if changed is None:
                return ""
            delete_runs(cursor, [run_id])
            return str(changed[0])

        return self.db.write(change, of_jobs=True)

    def request_cancel(self, run_id: str) -> tuple[str | None, bool]:
        """Cancel a waiting job at once, ask a running one to stop.

        Returns:
            The state that it is in then, and whether that was anything new: what ended, or was cancelled before, is
            left as it is.
        """
        run_id = check_run_id(run_id)

        def change(cursor: duckdb.DuckDBPyConnection) -> tuple[str | None, bool]:
            waited = cursor.execute(
                """UPDATE jobs SET state = 'cancelled', message = 'cancelled before it started', finished = ?
                WHERE run_id = ? AND state = 'queued' RETURNING run_id""",
                [utc_now(), run_id],
            ).fetchall()
            ran = cursor.execute(
                """UPDATE jobs SET cancel = true
                WHERE run_id = ? AND state = 'running' AND NOT cancel RETURNING run_id""",
                [run_id],
            ).fetchall()
            found = cursor.execute("SELECT state FROM jobs WHERE run_id = ?", [run_id]).fetchone()
            return (str(found[0]) if found else None), bool(waited or ran)

        return self.db.write(change, of_jobs=True)

    def untakeable(
        self, devices: Sequence[str], kept_back: Sequence[str], unlimited: Sequence[str]
    ) -> list[tuple[str, str]]:
        """Waiting jobs that no worker will ever take: ``(run_id, device)``.

        Args:
            devices: what there are workers for.
            kept_back: those of them that only people in ``unlimited`` may use.
        """
        open_to_all = [device for device in devices if device not in kept_back]
        for_all = [*open_to_all, "auto"] if open_to_all else []
        return self.db.rows(
            """SELECT run_id::VARCHAR, device FROM jobs WHERE state = 'queued' AND NOT list_contains(
                CASE WHEN list_contains(?::VARCHAR[], person) THEN ?::VARCHAR[] ELSE ?::VARCHAR[] END, device)
            ORDER BY position""",
            [list(unlimited), ["auto", *devices], for_all],
        )

    def recover(self) -> int:
        """At start-up: jobs that a dead process left running become interrupted; returns how many."""

        def change(cursor: duckdb.DuckDBPyConnection) -> int:
            left = "state = 'running' AND owner IS DISTINCT FROM ?"
            cursor.execute(  # killed between the record and the row
                f"""UPDATE jobs SET state = r.state, message = r.message, finished = r.finished
                FROM own_runs r WHERE jobs.run_id = r.run_id AND jobs.{left}""",
                [PROCESS],
            )
            text = "the program ended while this job ran; resume goes on after its last whole stage"
            return len(
                cursor.execute(
                    f"""UPDATE jobs SET state = 'interrupted', message = ?, finished = ?, rate = NULL,
                        eta_seconds = NULL WHERE {left} RETURNING run_id""",
                    [text, utc_now(), PROCESS],
                ).fetchall()
            )

        return self.db.write(change, of_jobs=True)


# -- rows -----------------------------------------------------------------------------------------


def _stored(
    cursor: duckdb.DuckDBPyConnection, run_id: str
) -> tuple[dict[str, Any], list[tuple[str, str, str]]] | None:
    """The row of a job and the rows of its log, or ``None``."""
    row = _first(cursor.execute("SELECT * FROM jobs WHERE run_id = ?", [run_id]))
    if row is None:
        return None
    said = cursor.execute("SELECT stage, level, message FROM logs WHERE run_id = ?", [run_id]).fetchall()
    return row, said


def _first(answer: duckdb.DuckDBPyConnection) -> dict[str, Any] | None:
    """The first row of an answer by the names of its columns, or ``None``."""
    columns = [column[0] for column in answer.description or ()]
    row = answer.fetchone()
    return None if row is None else dict(zip(columns, row, strict=True))


def _check_room(cursor: duckdb.DuckDBPyConnection, more: int) -> None:
    (waiting,) = cursor.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone() or (0,)
    if waiting + more > MAX_QUEUED:
        raise QueueFull(
            f"{waiting} jobs wait already and {more} more would pass the limit of {MAX_QUEUED}: "
            "wait, cancel some, or queue a smaller matrix"
        )


def _row(
    run_id: str, spec: ExperimentSpec, device: str, person: str = "", submission: str | None = None
) -> dict[str, Any]:
    """The columns of a waiting job."""
    columns = {"run_id": run_id, **spec_columns(spec), "device": device, "created": utc_now()}
    return columns | {"person": person, "submission": submission, "needs": needs(spec).all()}


def _insert(cursor: duckdb.DuckDBPyConnection, rows: Sequence[dict[str, Any]]) -> None:
    """Waiting jobs, at the end of the queue in their order."""
    names = list(rows[0])
    columns = ", ".join(f"unnest(?::{_TYPES.get(name, 'VARCHAR')}[]) AS {name}" for name in names)
    cursor.execute(
        f"INSERT INTO jobs ({', '.join(names)}) SELECT {columns}",
        [[row[name] for row in rows] for name in names],
    )


def _insert_from_run(cursor: duckdb.DuckDBPyConnection, run_id: str) -> None:
    """A job for a recorded run that never was one (started from the command line)."""
    found = cursor.execute(
        "SELECT spec FROM own_runs WHERE run_id = ? AND state <> 'done' "
        "AND run_id NOT IN (SELECT run_id FROM jobs)",
        [run_id],
    ).fetchone()
    if found is None:
        raise StoreError(f"run {run_id} cannot be resumed: only jobs that are {', '.join(RESUMABLE)} can")
    try:
        _insert(cursor, [_row(run_id, parse_spec(found[0]).experiment(), "auto")])
    except NotRunnable as error:
        raise StoreError(f"run {run_id} cannot be resumed: {error}") from None
