"""A sweep that goes through the queue: submitted at once, carried out by an engine, told of as runs end."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from poisonlab.cli.terminal import say
from poisonlab.measure.recorded import read_record
from poisonlab.records.record import RecordError, RunRecord
from poisonlab.runner.engines import make_runner
from poisonlab.spec.config import ExperimentSpec
from poisonlab.store import Store

POLL = 0.5  # seconds between two looks at the queue


def run_all(
    specs: list[ExperimentSpec], results: Path, engine: str, settings: list[str]
) -> Iterator[tuple[str, str, RunRecord | None]]:
    """State, message and record of each run as it ends; no record where there is none.

    Whoever stops listening cancels those that still wait, but for what others had queued.

    Raises:
        EngineError: the engine cannot be used. StoreLocked: the dashboard holds the database, and could queue them.
    """
    with closing(Store(results)) as store:
        runner = make_runner(store, results, engine, settings)
        keys = {(spec.group(), spec.seed): spec for spec in specs}
        waiting = store.jobs.queued()
        new = [spec for key, spec in keys.items() if key not in waiting]
        left = {*(waiting[key] for key in keys if key in waiting), *runner.submit_many(new)}
        say(f"{len(left)} runs queued for {', '.join(runner.devices)}")
        runner.start()
        try:
            while left:
                for run_id, (state, message) in store.jobs.endings(sorted(left)).items():
                    left.discard(run_id)
                    yield state, message, _record(results / "runs" / run_id)
                time.sleep(POLL)
        finally:
            for run_id in left:
                if not store.jobs.person_of(run_id):
                    runner.cancel(run_id)
            runner.stop()


def _record(folder: Path) -> RunRecord | None:
    try:
        return read_record(folder)[0]
    except RecordError:
        return None
