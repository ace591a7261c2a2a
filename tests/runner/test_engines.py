"""One contract for every engine: the same numbers, cancelled in time, and nothing lost with a worker."""

import errno
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from poisonlab.records.record import RunRecord, read_record
from poisonlab.runner.base import Runner
from poisonlab.runner.engines import make_runner
from poisonlab.runner.parts import EngineError
from poisonlab.runner.recorder import run_and_record
from poisonlab.runner.remote import Ending, Order
from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.store import Store

ENGINES = {
    "local": ("local", []),
    "processes": ("local", ["workers=2"]),
    "ray": ("ray", ["workers=2"]),
    "slurm": ("slurm", ["workers=2", "cluster=local", "gpus=0", "cpus=1", "minutes=20"]),
}
ELSEWHERE = [name for name in ENGINES if name != "local"]
STAGES = ("poison", "control", "victim", "repair")
EARLY = ("poison", "control")  # the same way back as the victim
PATIENCE = 120.0


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """One Ray for all tests of this module: it takes seconds to start."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'poisonlab[ray]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_worker_niceness", "0")  # these are told to be in time
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    os.environ["PYTHONPATH"] = paths
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    yield
    ray.shutdown()


@pytest.fixture
def make(store: Store, results: Path, request) -> Iterator[Callable[[str], Runner]]:
    """Starts runners by name and stops them at the end."""
    started: list[Runner] = []

    def make(name: str) -> Runner:
        engine, settings = ENGINES[name]
        if engine == "ray":
            request.getfixturevalue("ray_here")
        if engine == "slurm":
            pytest.importorskip(
                "submitit", reason="submitit is not installed: pip install 'poisonlab[slurm]'"
            )
        runner = make_runner(store, results, engine, settings)
        started.append(runner)
        runner.start()
        return runner

    yield make
    for runner in started:
        runner.stop()


def small(defense: str = "none", **overrides) -> ExperimentSpec:
    values = {"training.epochs": 2, "dataset.train_images": 200, "dataset.test_images": 60}
    return make_spec("digits", "badnets", defense, overrides=values | overrides)


def wait(until: Callable[[], bool], seconds: float = PATIENCE) -> float:
    """Seconds until something holds."""
    begun = time.monotonic()
    while not until():
        assert time.monotonic() - begun < seconds, "it never came about"
        time.sleep(0.05)
    return time.monotonic() - begun


def ended(store: Store, run_id: str) -> bool:
    return store.jobs.get(run_id).state not in ("queued", "running")


def record(results: Path, run_id: str) -> RunRecord:
    return read_record(results / "runs" / run_id)[0]


def process_of(store: Store, run_id: str) -> int:
    """The process that carries out a job, as its log names it."""
    found = [re.search(r"process (\d+)", message) for _, _, message in store.jobs.get(run_id).logs]
    return int(next(match[1] for match in reversed(found) if match))


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_gives_the_numbers_of_a_run_by_hand(name, make, store, results, tmp_path):
    wanted = [small(), small("ft"), small("clp")]
    alone = [
        run_and_record(s, tmp_path / "runs", cache_root=tmp_path / "cache", device="cpu") for s in wanted
    ]
    run_ids = make(name).submit_many(wanted)
    wait(lambda: all(ended(store, run_id) for run_id in run_ids))
    for run_id, by_hand in zip(run_ids, alone, strict=True):
        assert record(results, run_id).metrics == by_hand.metrics
        assert record(results, run_id).source == "local"
    assert store.runs.find(state="done").run_id.isin(run_ids).sum() == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
def test_a_job_is_seen_at_work_and_cancelled_within_five_seconds(name, make, store, results):
    runner = make(name)
    (run_id,) = runner.submit_many([small(**{"training.epochs": 1000})])
    wait(lambda: store.jobs.get(run_id).step > 0)
    step = store.jobs.get(run_id).step
    assert wait(lambda: store.jobs.get(run_id).step > step, 10) < 3.5
    runner.cancel(run_id)
    assert wait(lambda: ended(store, run_id)) < 5
    assert store.jobs.get(run_id).state == record(results, run_id).state == "cancelled"


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
def test_a_stopped_program_interrupts_and_another_goes_on(name, make, store, results):
    first = make(name)
    (run_id,) = first.submit_many([small("ft", **{"training.epochs": 60})])
    wait(lambda: store.jobs.get(run_id).stage == "victim")
    assert first.stop(15)
    assert store.jobs.get(run_id).state == "interrupted"
    second = make(name)
    second.resume(run_id)
    wait(lambda: ended(store, run_id))
    assert store.jobs.get(run_id).state == "done" and "control" in record(results, run_id).cached


@pytest.mark.slow
@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize(
    "stage", [pytest.param(stage, marks=pytest.mark.long if stage in EARLY else ()) for stage in STAGES]
)
def test_a_killed_worker_loses_no_more_than_its_stage(name, stage, make, store, results, tmp_path):
    spec = small("ft", **{"training.epochs": 40, "defense.epochs": 200})
    (run_id,) = make(name).submit_many([spec])
    wait(lambda: store.jobs.get(run_id).stage == stage or ended(store, run_id))
    if not ended(store, run_id):
        os.kill(process_of(store, run_id), signal.SIGKILL)
    wait(lambda: ended(store, run_id))
    job = store.jobs.get(run_id)
    assert job.state == "done"
    found = record(results, run_id)
    if job.attempt > 1:
        assert set(STAGES[: STAGES.index(stage)]) <= set(found.cached)
    by_hand = run_and_record(spec, tmp_path / "runs", cache_root=None, device="cpu")
    assert found.metrics == by_hand.metrics


@pytest.mark.slow
def test_without_a_shared_folder_runs_come_back_through_ray(make, store, results, monkeypatch, tmp_path):
    runner = make("ray")
    (results / ".shared").write_text("another program's")
    (run_id,) = runner.submit_many([small("ft")])
    wait(lambda: ended(store, run_id))
    found = record(results, run_id)
    assert found.state == "done" and not (results / "cache").exists()
    assert {item.file for item in found.artifacts} <= {f.name for f in (results / "runs" / run_id).iterdir()}


@pytest.fixture
def task(monkeypatch, tmp_path):
    """What a worker of Ray does with an order, and the folders in which it carried that out; nothing is run."""
    ray_task = pytest.importorskip("poisonlab.runner.ray_task", reason="Ray is not installed")
    folders = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()

    def carry_out(order, say, runs, cache) -> Ending:
        folders.append(runs.parent)
        if runs.parent == tmp_path / "results":
            raise OSError(errno.ENOSPC, "No space left on device")
        return Ending("done")

    monkeypatch.setattr(ray_task, "carry_out", carry_out)
    order = Order(1, "run", {}, str(tmp_path / "results"), "").json()
    return lambda: ray_task.attempt(order, "ours", "key", None), folders


def test_an_error_in_a_shared_folder_is_no_reason_to_run_a_job_elsewhere(task, tmp_path):
    attempt, folders = task
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / ".shared").write_text("ours")
    with pytest.raises(OSError, match="No space"):
        attempt()
    assert folders == [tmp_path / "results"]


def test_a_worker_keeps_its_stages_where_no_other_account_writes(task, tmp_path):
    attempt, folders = task
    assert attempt() == ("done", "", {})
    (own,) = folders
    assert own.parent == tmp_path / "tmp" and own.stat().st_mode & 0o777 == 0o700
    own.rmdir()
    (tmp_path / "planted").mkdir()
    own.symlink_to(tmp_path / "planted")
    state, message, _ = attempt()
    assert state == "refused" and "another account" in message and folders == [own]


@pytest.mark.parametrize(
    ("engine", "settings", "words"),
    (
        ("dask", [], "choose one of: local, ray, slurm"),
        ("ray", ["gpu=1"], "takes workers, address, cpus, gpus"),
        ("ray", ["gpus=-1"], "option gpus of engine ray"),
        ("slurm", ["partition=a b"], "option partition"),
        ("slurm", ["workers=0"], "option workers"),
        ("local", ["workers=many"], "option workers of engine local"),
        ("local", ["workers"], "each as name=value"),
    ),
)
def test_an_engine_that_cannot_be_is_refused_with_what_can(engine, settings, words, store, results):
    with pytest.raises(EngineError, match=re.escape(words)):
        make_runner(store, results, engine, settings)


@pytest.mark.parametrize(("package", "engine"), (("ray", "ray"), ("submitit", "slurm")))
def test_a_missing_package_is_named_with_its_extra(package, engine, store, results, monkeypatch):
    import sys

    for name in [n for n in sys.modules if n == f"poisonlab.runner.{engine}"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineError, match=re.escape(f"pip install 'poisonlab[{engine}]'")):
        make_runner(store, results, engine)
