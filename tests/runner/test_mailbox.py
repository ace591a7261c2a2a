"""What passes between the program and its workers, where something goes wrong with it."""

import errno
import math
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from runner_helpers import wait_for

from poisonlab.events import Log, Progress
from poisonlab.records import archive
from poisonlab.records.record import RecordError
from poisonlab.runner import pool, queue, worker
from poisonlab.runner.local import LocalRunner
from poisonlab.runner.mailbox import Letters, Mailbox
from poisonlab.runner.parts import EngineError, NoWorker, Slot, WorkerLost
from poisonlab.runner.pool import PoolRunner, ProcessRunner
from poisonlab.runner.progress import Listener
from poisonlab.runner.recorder import Interrupted, run_and_record
from poisonlab.runner.remote import Ending, Order, follow
from poisonlab.runner.wire import GO_ON, LATE, STOP


class Line:
    """A worker that says some rows, then ends, or goes on until it is told something."""

    def __init__(self, rows=(), ending: Ending | None = None) -> None:
        self.rows = list(rows)
        self.ending = ending

    def said(self):
        rows, self.rows = self.rows, []
        return rows

    def tell(self, word: str) -> None:
        self.ending = Ending("interrupted")

    def wait(self, seconds: float) -> None:
        pass

    def ended(self) -> Ending | None:
        return self.ending


def test_what_nobody_understands_is_left_out(tmp_path):
    rows = [["Nonsense", 1], [], 5, ["Log"], ["dataclass", "x"], ["Log", "", "hello", "info"]]
    heard = []
    assert follow(Line(rows, Ending("done")), heard.append, lambda: GO_ON, 0).state == "done"
    assert heard == [Log("", "hello")]


def test_words_out_of_their_order_end_no_job(store, spec):
    store.jobs.enqueue([spec()])
    listener = Listener(store, store.jobs.claim("cpu"), threading.Event())
    rows = [["StageFinished", "victim", 0.0, False], ["StageStarted", "repair"]]
    assert follow(Line(rows, Ending("done")), listener, listener.wanted, 0).state == "done"
    assert listener.stages == ["repair"]


def test_a_worker_that_stops_untold_is_lost_and_its_job_another_ones():
    with pytest.raises(WorkerLost, match="heard nothing of the program"):
        follow(Line(ending=Ending("interrupted")), lambda event: None, lambda: GO_ON, 0)
    with pytest.raises(Interrupted):
        follow(Line(), lambda event: None, lambda: STOP, 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_full_disk_takes_words_and_no_run(tmp_path):
    worker_side, program = Letters(tmp_path, 1), Letters(tmp_path, 1)
    said = tmp_path / "said-1.jsonl"
    said.symlink_to("/dev/full")
    assert worker_side.post([["Log", "", "lost", "info"]]) == GO_ON
    said.unlink()
    said.write_bytes(b'["Log", "", "cut in')
    assert list(program.said()) == []
    assert worker_side.post([["Log", "", "whole", "info"]]) == GO_ON
    assert list(program.said()) == [["Log", "", "whole", "info"]]


@pytest.mark.parametrize("text", ("", "[]", '{"state": "do', '{"state": "done", "more": 1}', "\udc80"))
def test_an_ending_that_cannot_be_read_is_a_lost_worker(text, tmp_path):
    letters = Letters(tmp_path, 1)
    assert letters.ended() is None
    (tmp_path / "ended-1.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(WorkerLost, match="cannot be read"):
        letters.ended()


def test_an_ending_is_said_again_until_the_disk_takes_it(tmp_path, monkeypatch):
    def full_at_first(letters: Letters, ending: Ending) -> None:
        tries.append(ending)
        if len(tries) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        end(letters, ending)

    tries = []
    end = Letters.end
    monkeypatch.setattr(Letters, "end", full_at_first)
    monkeypatch.setattr(worker, "BEAT", 0.01)
    monkeypatch.setattr(worker, "carry_out", lambda *arguments: Ending("done"))
    letters = Letters(tmp_path, 1)
    watch = worker._Watch(Mailbox(tmp_path / "box"), math.inf)
    worker._serve(Order(1, "", {}, str(tmp_path), ""), letters, watch)
    assert letters.ended() == Ending("done")


def test_a_worker_outlives_a_full_disk_but_not_its_folder(tmp_path, monkeypatch):
    def full(path, data, lasting) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write = worker.write_atomically
    monkeypatch.setattr(worker, "BEAT", 0.01)
    monkeypatch.setattr(worker, "write_atomically", full)
    mailbox = Mailbox(tmp_path / "box")
    watch = worker._Watch(mailbox, math.inf)  # it would end this process some time after its limit
    assert not watch.alone.wait(0.1)
    monkeypatch.setattr(worker, "write_atomically", write)
    deadline = time.monotonic() + 10
    while not mailbox.worker.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    mailbox.remove()
    assert watch.alone.wait(10)


class OneSlot(PoolRunner):
    """Its workers are processes that do nothing."""

    def __init__(self, store, results) -> None:
        super().__init__(store, results, [Slot("one", "cpu")], poll=0)
        self.ended = 0

    def open(self, slot: Slot, mailbox: Mailbox):
        return self

    def gone(self) -> str:
        return ""

    def end(self) -> None:
        self.ended += 1


def test_a_job_that_is_given_up_has_nobody_at_work_on_it(store, results, spec, monkeypatch):
    def broken(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    runner = OneSlot(store, results)
    runner.submit(spec())
    job = store.jobs.claim("cpu")
    monkeypatch.setattr(pool, "follow", broken)
    with pytest.raises(OSError, match="No space"):
        runner.carry_out(job, runner.slots[0], Listener(store, job, threading.Event()))
    assert runner.ended == 1 and not list((results / pool.FOLDER).iterdir())


class Refused(OneSlot):
    """No worker can be had the first times; then a job ends at once."""

    def __init__(self, store, results, times: int) -> None:
        super().__init__(store, results)
        self.times = times
        self.asked = 0

    def open(self, slot: Slot, mailbox: Mailbox):
        self.asked += 1
        if self.asked <= self.times:
            raise NoWorker("Slurm takes no job: the controller does not answer")
        return self

    def carry_out(self, job, slot, listener):
        self._worker(slot)
        return run_and_record(job.spec.experiment(), self.results / "runs", device="cpu", run_id=job.run_id)


def test_a_job_waits_while_no_worker_can_be_had(store, results, spec, monkeypatch):
    """It was failed at once, and all that waited behind it within seconds."""
    monkeypatch.setattr(queue, "RESTS", (0.05, 0.1))
    runner = Refused(store, results, times=2)
    first, second = runner.submit(spec()), runner.submit(spec(seed=1))
    runner.start()

    assert wait_for(store, first, "done", "failed") == wait_for(store, second, "done", "failed") == "done"
    assert runner.asked == 3 and runner.stop()
    assert len(list((results / pool.FOLDER).iterdir())) == 0  # no box of those that never began


def test_a_site_that_never_takes_a_job_is_told_after_some_tries(store, results, spec, monkeypatch):
    monkeypatch.setattr(queue, "RESTS", (0.01, 0.01))
    runner = Refused(store, results, times=1000)
    run_ids = [runner.submit(spec(seed=seed)) for seed in range(3)]
    runner.start()

    assert [wait_for(store, run_id, "done", "failed") for run_id in run_ids] == ["failed"] * 3
    assert "the controller does not answer" in store.jobs.get(run_ids[0]).message
    assert runner.asked == 2 + 3 and runner.stop()  # the others do not wait again for what never comes


def test_a_job_that_was_put_back_can_be_cancelled(store, results, spec, monkeypatch):
    monkeypatch.setattr(queue, "RESTS", (30.0,))
    runner = Refused(store, results, times=1000)
    run_id = runner.submit(spec())
    runner.start()
    while "tried again in 30 s" not in (store.jobs.get(run_id).message or ""):
        time.sleep(0.02)

    assert runner.cancel(run_id) == "cancelled"
    assert runner.stop() and store.jobs.get(run_id).state == "cancelled"


def test_a_worker_lost_while_the_program_ends_leaves_its_job_interrupted(store, results, spec, monkeypatch):
    def lost(*arguments):
        runner._stopping.set()
        raise WorkerLost("killed with the program")

    runner = LocalRunner(store, results, ["cpu"])
    run_id = runner.submit(spec())
    monkeypatch.setattr(runner, "carry_out", lost)
    runner._run(store.jobs.claim("cpu"), runner.slots[0])
    assert store.jobs.get(run_id).state == "interrupted"


def test_the_record_of_another_run_is_taken_for_no_jobs_and_removes_none(store, results, spec, tmp_path):
    theirs = run_and_record(spec(), results / "runs", device="cpu")
    runner = OneSlot(store, results)
    mine = runner.submit(spec(seed=1))
    shutil.copytree(results / "runs" / theirs.run_id, tmp_path / mine)
    with pytest.raises(RecordError, match="holds the record of run"):
        archive.receive(tmp_path / mine, results / "runs")
    assert (results / "runs" / theirs.run_id / "run.json").exists()
    shutil.copytree(tmp_path / mine, results / "runs" / mine)
    with pytest.raises(EngineError, match="no record of this run"):
        runner.record_of(store.jobs.claim("cpu"), Ending("done"))


def test_a_ctrl_c_is_for_the_program_alone(store, results, monkeypatch):
    runner = ProcessRunner(store, results, 1)
    child = runner.open(runner.slots[0], Mailbox(results / "box"))
    try:
        assert os.getpgid(child._process.pid) != os.getpgid(0)
    finally:
        child._process.kill()
        child._process.wait()


def test_waiting_for_a_place_on_a_cluster_is_no_time_of_the_job(store, spec):
    store.jobs.enqueue([spec()])
    listener = Listener(store, store.jobs.claim("cpu"), threading.Event(), limit=0.05)
    time.sleep(0.1)
    assert listener.wanted() == GO_ON
    listener(Progress("victim", 0, 10))
    time.sleep(0.1)
    assert listener.wanted() == LATE
