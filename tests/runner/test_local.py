"""The in-process runner, on experiments of a fraction of a second."""

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from runner_helpers import wait_for

from poisonlab.machine import DeviceError
from poisonlab.runner import local, queue, runtime
from poisonlab.runner.local import LocalRunner
from poisonlab.store import Store, StoreError
from poisonlab.store.errors import explained


@pytest.fixture
def runner(store: Store, results) -> Iterator[LocalRunner]:
    started = LocalRunner(store, results, ["cpu"])
    started.start()
    yield started
    assert started.stop()


def test_a_job_becomes_a_run_and_a_failing_one_leaves_the_queue_alive(store, runner, spec):
    bad, good = runner.submit_many([spec(attack__poison_rate=1.0), spec()])
    assert wait_for(store, good, "done", "failed") == "done"
    assert "candidate images" in store.jobs.get(bad).message
    assert store.runs.find().run_id.tolist() == [good]
    assert len(store.runs.points(good)) == len(store.runs.record(good).points) > 0
    assert store.jobs.find().state.tolist() == ["done", "failed"]


def test_a_running_job_shows_its_progress_and_can_be_cancelled(store, runner, spec, monkeypatch):
    monkeypatch.setattr("poisonlab.runner.progress.FLUSH_SECONDS", 0.02)
    long, waiting = runner.submit_many([spec(training__epochs=1000), spec()])
    wait_for(store, long, "running")
    deadline = time.monotonic() + 30
    while not (store.jobs.get(long).step and len(store.runs.points(long))) and time.monotonic() < deadline:
        time.sleep(0.02)
    job = store.jobs.get(long)
    assert job.stage == "control" and job.total == 2000 and job.rate > 0 and job.eta_seconds > 0
    assert runner.live(long)
    assert runner.cancel(waiting) == "cancelled"
    assert runner.cancel(long) == "running"
    assert wait_for(store, long, "cancelled", "done") == "cancelled"
    assert store.runs.find(state="cancelled").run_id.tolist() == [long]


def test_stopping_interrupts_and_resuming_goes_on_after_the_last_whole_stage(store, results, spec):
    first = LocalRunner(store, results, ["cpu"])
    first.start()
    run_id = first.submit(spec(training__epochs=12))
    while not list((results / "cache").glob("control-*")):
        time.sleep(0.005)
    assert first.stop()
    assert store.jobs.get(run_id).state == "interrupted"
    second = LocalRunner(store, results, ["cpu"])
    second.start()
    second.resume(run_id)
    assert wait_for(store, run_id, "done", "failed") == "done"
    second.stop()
    assert (
        store.runs.record(run_id).cached[:2] == ["poison", "control"] and store.jobs.get(run_id).attempt == 2
    )


def test_two_runners_on_one_store_run_every_job_once(store, results, runner, spec):
    other = LocalRunner(store, results, ["cpu"])
    other.start()
    run_ids = other.submit_many([spec(seed=s) for s in range(4)])
    for run_id in run_ids:
        assert wait_for(store, run_id, "done", "failed", "interrupted") == "done"
        assert store.jobs.get(run_id).attempt == 1
    assert other.stop()


def test_runs_from_the_command_line_appear_in_a_running_app(store, results, spec, monkeypatch):
    monkeypatch.setattr(queue, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(queue, "POLL_SECONDS", 0.05)
    runner = LocalRunner(store, results, ["cpu"])
    runner.start()
    record = local.run_and_record(spec(), results / "runs")
    deadline = time.monotonic() + 10
    while store.runs.find().empty and time.monotonic() < deadline:
        time.sleep(0.05)
    assert store.runs.find().run_id.tolist() == [record.run_id]
    runner.stop()


def test_a_pinned_job_is_taken_by_its_worker_only(store, results, spec, monkeypatch):
    seen: dict[str, str] = {}

    def noted(spec, root, *, run_id, device, **_):
        seen[run_id] = device
        raise queue.Interrupted

    monkeypatch.setattr(local, "run_and_record", noted)
    runner = LocalRunner(store, results, ["cpu", "cuda:0"])  # nothing computes, so the second need not exist
    pinned = runner.submit_many([spec(seed=s) for s in range(4)], device="cuda:0")
    anywhere = runner.submit(spec(seed=9))
    runner.start()
    for run_id in [*pinned, anywhere]:
        wait_for(store, run_id, "interrupted")
    runner.resume(pinned[0])
    wait_for(store, pinned[0], "interrupted")
    assert runner.stop()
    assert {seen[run_id] for run_id in pinned} == {"cuda:0"} and seen[anywhere] in runner.devices
    assert store.jobs.get(pinned[0]).attempt == 2


def test_a_device_without_a_worker_is_refused(store, runner, spec):
    with pytest.raises(DeviceError, match="no worker runs on cuda:7 here, only on cpu"):
        runner.submit(spec(), device="cuda:7")
    assert store.jobs.find().empty


def test_jobs_whose_device_is_gone_fail_with_advice_instead_of_waiting(store, results, spec):
    (run_id,) = store.jobs.enqueue([spec()], device="cuda:1")
    runner = LocalRunner(store, results, ["cpu"])
    runner.start()
    assert store.jobs.get(run_id).state == "failed"
    assert "bring cuda:1 back" in store.jobs.get(run_id).message
    with pytest.raises(DeviceError, match="queue the experiment anew on another device"):
        runner.resume(run_id)
    assert store.jobs.get(run_id).state == "failed"
    assert runner.stop()


def test_the_runtime_is_one_for_the_process(results, tmp_path):
    try:
        first = runtime.start()
        assert runtime.get() is first is runtime.start(results)
        with pytest.raises(ValueError, match="works in"):
            runtime.start(tmp_path / "elsewhere")
    finally:
        runtime.stop()
    runtime.stop()  # a second time does nothing
    assert runtime._runtime is None


def no_room(store: Store, monkeypatch, change: str) -> None:
    """Every ``UPDATE`` that holds ``change`` meets a full disk, as DuckDB reports it."""
    execute_in = store.db.transaction

    @contextmanager
    def transaction(**named: bool):
        with execute_in(**named) as cursor:
            yield FullDisk(cursor, change, store.db.path)

    monkeypatch.setattr(store.db, "transaction", transaction)


class FullDisk:
    """A cursor on a disk without room."""

    def __init__(self, cursor, change, path) -> None:
        self.cursor = cursor
        self.change = change
        self.path = path

    def __getattr__(self, name):
        return getattr(self.cursor, name)

    def execute(self, sql, *values):
        if self.change in sql:
            error = duckdb.TransactionException(
                "Failed to commit: Could not write file: No space left on device"
            )
            raise explained(error, self.path)
        return self.cursor.execute(sql, *values)


def test_a_job_that_ended_on_a_full_disk_is_stored_once_there_is_room(store, results, spec, monkeypatch):
    monkeypatch.setattr(queue, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(queue, "LOOK_SECONDS", 0.02)
    runner = LocalRunner(store, results, ["cpu"])
    first, second = runner.submit_many([spec(), spec(seed=1)])
    with monkeypatch.context() as full:
        no_room(store, full, "UPDATE jobs SET state = ?")
        no_room(store, full, "INSERT OR REPLACE INTO own_runs")
        runner.start()
        deadline = time.monotonic() + 30
        while not (results / "runs" / first / "run.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        assert store.jobs.get(first).state == "running" and store.runs.find().empty

    assert wait_for(store, first, "done", "failed") == "done"
    assert wait_for(store, second, "done", "failed") == "done"
    deadline = time.monotonic() + 10
    while len(store.runs.find()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert {*store.runs.find().run_id} == {first, second}
    assert runner.stop()


@pytest.mark.parametrize(
    ("error", "words"),
    (
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
        (explained(duckdb.IOException("No space left on device"), Path("x/y")), "free some space"),
        (KeyError("x"), "its log has the details"),
    ),
)
def test_a_job_whose_run_leaves_no_record_says_why(store, runner, spec, monkeypatch, error, words):
    def broken(*args, **named):
        raise error

    monkeypatch.setattr(local, "run_and_record", broken)
    run_id = runner.submit(spec())
    assert wait_for(store, run_id, "done", "failed") == "failed"
    assert words in store.jobs.get(run_id).message


def test_a_job_that_cannot_be_read_after_it_was_taken_still_waits(store, spec, monkeypatch):
    (run_id,) = store.jobs.enqueue([spec()])
    with monkeypatch.context() as full:
        no_room(store, full, "UPDATE jobs SET state = 'running'")
        with pytest.raises(StoreError, match="free some space"):
            store.jobs.claim("cpu")
    assert store.jobs.get(run_id).state == "queued"
    assert store.jobs.claim("cpu").run_id == run_id
