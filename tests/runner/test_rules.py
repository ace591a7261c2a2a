"""What people may do on a shared server."""

import shutil
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from runner_helpers import wait_for

from poisonlab import machine
from poisonlab.events import Cancelled
from poisonlab.runner.local import LocalRunner
from poisonlab.runner.parts import OWNER, Person
from poisonlab.runner.recorder import run_and_record
from poisonlab.runner.rules import RULES, NotAllowed, Rules, read_rules, size_gb
from poisonlab.spec.config import make_spec
from poisonlab.store import StoreError

ADA = Person("ada@example.org", False)
BOB = Person("bob@example.org", False)
ROOT = Person("root@example.org", True)
NOBODY = Person("", False)


def check(
    rules: Rules, person: Person = ADA, spec=None, device: str = "auto", waiting: int = 0, results=Path()
):
    rules.check([spec or make_spec("digits", "badnets", "none")], device, person, waiting, results)


def test_without_rules_everything_is_allowed():
    check(Rules(), spec=make_spec("cifar10", "badnets", "none", preset="paper"), waiting=1000)


@pytest.mark.parametrize(
    ("rules", "spec", "words"),
    (
        ({"presets": ("quick", "full")}, ("digits", "paper"), "preset quick or full, not paper"),
        ({"datasets": ("digits",)}, ("cifar10", "quick"), "dataset digits, not cifar10"),
        ({"teaching": True}, ("cifar10", "quick"), "dataset digits, not cifar10"),
        ({"teaching": True}, ("digits", "full"), "preset quick, not full"),
    ),
)
def test_what_is_not_allowed_is_said_with_what_is(rules, spec, words):
    wanted = make_spec(spec[0], "badnets", "none", preset=spec[1])
    with pytest.raises(NotAllowed, match=words):
        check(Rules(**rules), spec=wanted)
    check(Rules(**rules), ROOT, wanted)


def test_a_queue_of_ones_own_has_a_limit():
    rules = Rules(waiting=3)
    check(rules, waiting=2)
    with pytest.raises(NotAllowed, match="3 of your jobs wait already, and 1 more"):
        check(rules, waiting=3)
    check(rules, ROOT, waiting=100)


def test_devices_can_be_kept_back():
    with pytest.raises(NotAllowed, match="cuda:1, not cuda:0"):
        check(Rules(devices=("cuda:1",)), device="cuda:0")


def test_a_full_disk_is_said_before_anything_is_queued(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**40, 2**28))
    assert machine.free_disk_gb(tmp_path) == 0.25
    with pytest.raises(NotAllowed, match=r"0\.25 GiB are free .* 0\.5 have to stay"):
        check(Rules(), ROOT, results=tmp_path)


def test_runs_and_cache_have_a_size(tmp_path):
    (tmp_path / "cache" / "stage").mkdir(parents=True)
    (tmp_path / "cache" / "stage" / "tensors").write_bytes(bytes(3_000_000))
    assert size_gb(tmp_path) == pytest.approx(3e6 / 2**30)
    with pytest.raises(NotAllowed, match="ask an administrator for room"):
        check(Rules(runs_gb=0.002), results=tmp_path)
    check(Rules(runs_gb=0.003), results=tmp_path)


def test_rules_are_read_from_the_file_that_the_administrator_names(monkeypatch, tmp_path):
    path = tmp_path / "rules.toml"
    monkeypatch.setenv(RULES, str(path))
    path.write_text('administrators = ["root@example.org"]\nwaiting = 5\npresets = ["quick"]\n')
    rules = read_rules()
    assert rules.person("root@example.org").administrator and not rules.person(ADA.name).administrator
    assert (rules.waiting, rules.presets) == (5, ("quick",))
    path.write_text("waiting = 5\nminutes = 60\n", encoding="utf-8-sig")  # as Notepad does
    assert read_rules().waiting == 5
    for text, words in (
        ("waiting = -1", "waiting: Input should be greater"),
        ("hours = 2", "hours: Extra inputs"),
        ('presets = ["fast"]', "presets"),
        ("waiting =", "cannot be read"),
        ("waiting = true", "waiting: Input should be a valid integer"),
        ("minutes = nan", "minutes"),
        ('teaching = "no"', "teaching: Input should be a valid boolean"),
    ):
        path.write_text(text)
        with pytest.raises(StoreError, match=words):
            read_rules()
    path.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        read_rules()


@pytest.fixture
def under(store, results, monkeypatch, tmp_path):
    """Makes runners under rules, which are not started."""

    def make(rules: str, devices: list[str]) -> LocalRunner:
        path = tmp_path / "rules.toml"
        path.write_text(rules)
        monkeypatch.setenv(RULES, str(path))
        return LocalRunner(store, results, devices)

    return make


@pytest.fixture
def idle(under):
    """A runner that takes nothing, under rules."""
    return under("waiting = 3\nrunning = 1\n", ["cpu"])


def test_nobody_cancels_or_resumes_somebody_elses_job(store, idle, spec):
    (mine,) = idle.submit_many([spec()], person=ADA)
    with pytest.raises(NotAllowed, match="ada@example.org's"):
        idle.cancel(mine, BOB)
    assert idle.cancel(mine, ADA) == "cancelled"
    with pytest.raises(NotAllowed):
        idle.resume(mine, BOB)
    idle.resume(mine, ADA)
    assert idle.cancel(mine, ROOT) == "cancelled"
    idle.resume(mine, OWNER)


def test_nobody_resumes_a_run_that_never_was_a_job(store, results, idle, spec):
    def stop(event):
        raise Cancelled

    record = run_and_record(spec(), results / "runs", device="cpu", send=stop)
    store.index.refresh()
    with pytest.raises(NotAllowed, match="an administrator's"):
        idle.resume(record.run_id, ADA)
    assert store.runs.record(record.run_id) is not None
    idle.resume(record.run_id, ROOT)


def test_who_is_nobody_queues_nothing_and_owns_nothing(store, idle, spec):
    with pytest.raises(NotAllowed, match="sign in first"):
        idle.submit_many([spec()], person=NOBODY)
    (run_id,) = idle.submit_many([spec()])
    with pytest.raises(NotAllowed, match="an administrator's"):
        idle.cancel(run_id, NOBODY)


def test_several_windows_at_once_do_not_pass_the_limit(store, idle, spec, monkeypatch):
    def slowly(*arguments):
        check(*arguments)
        time.sleep(0.2)

    check = idle._check_allowed
    monkeypatch.setattr(idle, "_check_allowed", slowly)

    def queue(seed: int) -> None:
        with suppress(NotAllowed):
            idle.submit_many([spec(seed=2 * seed), spec(seed=2 * seed + 1)], person=ADA)

    with ThreadPoolExecutor() as windows:
        list(windows.map(queue, range(3)))
    assert store.jobs.waiting_of(ADA.name) == 2


def test_limits_count_ones_own_jobs_alone(store, idle, spec):
    idle.submit_many([spec(seed=s) for s in range(3)], person=ADA)
    with pytest.raises(NotAllowed):
        idle.submit_many([spec(seed=9)], person=ADA)
    idle.submit_many([spec(seed=9)], person=BOB)
    taken = [store.jobs.claim("cpu", each=idle.rules.running) for _ in range(3)]
    assert [job.person if job else None for job in taken] == [ADA.name, BOB.name, None]


def test_limits_are_for_those_who_are_no_administrators(store, results, under, spec):
    runner = under('running = 1\nminutes = 0.001\nadministrators = ["root@example.org"]', ["cpu"])
    runner.submit_many([spec(seed=s) for s in range(2)], person=ROOT)
    runner.submit_many([spec(seed=s) for s in (2, 3)], person=ADA)
    taken = [runner._next(runner.slots[0]) for _ in range(4)]
    assert [job.person if job else None for job in taken] == [ROOT.name, ROOT.name, ADA.name, None]
    runner._run(taken[0], runner.slots[0])
    assert store.jobs.get(taken[0].run_id).state == "done"


def test_any_free_device_is_none_that_is_kept_back(under, spec):
    runner = under('devices = ["cuda:1"]\nadministrators = ["root@example.org"]', ["cuda:0", "cuda:1"])
    runner.submit_many([spec()], person=ADA)
    kept, free = runner.slots
    assert runner._next(kept) is None
    assert runner._next(free).person == ADA.name
    runner.submit_many([spec(seed=1)], person=ROOT)
    assert runner._next(kept).person == ROOT.name
    with pytest.raises(NotAllowed, match="cpu of this server are for administrators alone"):
        under('devices = ["cuda:1"]', ["cpu"]).submit_many([spec()], person=ADA)


def test_what_waits_for_a_device_that_is_kept_back_now_is_told_so(store, under, spec):
    before = under('administrators = ["root@example.org"]', ["cuda:0", "cuda:1"])
    pinned, free = (
        before.submit_many([spec(seed=s)], device, ADA)[0] for s, device in ((0, "cuda:0"), (1, "auto"))
    )
    (roots,) = before.submit_many([spec(seed=2)], "cuda:0", ROOT)

    after = under('devices = ["cuda:1"]\nadministrators = ["root@example.org"]', ["cuda:0", "cuda:1"])
    after._work = lambda slot: None  # its workers take nothing
    after.start()

    assert store.jobs.get(pinned).state == "failed"
    assert "for administrators alone now" in store.jobs.get(pinned).message
    assert [store.jobs.get(run_id).state for run_id in (free, roots)] == ["queued", "queued"]


def test_what_people_did_is_kept(store, idle, spec):
    (mine,) = idle.submit_many([spec()], person=ADA)
    idle.cancel(mine, ROOT)
    idle.cancel(mine, ADA)  # it is cancelled already: nobody did anything
    idle.resume(mine, ADA)
    log = store.audit.last()
    assert log[["person", "action", "subject"]].values.tolist()[::-1] == [
        [ADA.name, "queued", mine],
        [ROOT.name, "cancelled", mine],
        [ADA.name, "resumed", mine],
    ]
    assert "digits badnets none seed 0" in log.detail.iloc[-1]


def test_a_job_that_takes_too_long_fails_and_can_be_resumed(store, under, spec):
    runner = under("minutes = 0.005\n", ["cpu"])
    runner.start()
    (run_id,) = runner.submit_many([spec(training__epochs=1000)], person=ADA)
    assert wait_for(store, run_id, "failed", "done") == "failed"
    assert "time limit" in store.jobs.get(run_id).message
    assert store.runs.record(run_id).state == "failed"
    runner.resume(run_id)
    assert runner.stop()
