"""Faults at random places of a run, through the command line, the dashboard's runner and the engines.

POISONLAB_FAULTS=200 POISONLAB_FAULT_SEED=7 pytest -m slow tests/runner/test_random_faults.py
"""

import multiprocessing
import os
import pkgutil
import random
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import fault_helpers
import pytest
from fault_helpers import DEFENSES, FILLING, Fault, noted, runner_of, tiny, wait_for_all

import poisonlab
from poisonlab.records.record import RecordError, RunRecord, read_record
from poisonlab.runner.recorder import run_and_record
from poisonlab.runner.rules import RULES
from poisonlab.store import Store

COUNT = int(os.environ.get("POISONLAB_FAULTS", "5"))
SEED = int(os.environ.get("POISONLAB_FAULT_SEED", "0"))
WAYS = {"cli": 24, "app": 48, "processes": 7, "ray": 1}  # how often each is drawn, relative to the others
KINDS = ("kill", "kill", "fill", "truncate", "flip", "delay")
NOTHING = Fault("nothing", 0, 0)
ENOUGH = 300.0  # seconds after which a process is given up
DISK = "64m"

processes = multiprocessing.get_context("forkserver")


class Drawn(NamedTuple):
    """A fault, the way it is met, and the way the work goes on after it."""

    way: str
    kind: str
    share: float  # of an undisturbed run, at which it strikes
    seed: int
    again: str


def drawn(number: int) -> Drawn:
    draws = random.Random(f"{SEED}/{number}")
    way = draws.choices(list(WAYS), WAYS.values())[0]
    again = "cli" if way == "cli" else draws.choice(["app", "app", way])
    return Drawn(way, draws.choice(KINDS), draws.uniform(0, 1.05), draws.getrandbits(32), again)


def work(results: Path, fault: Fault, way: str) -> int | None:
    """One process from its start to its end; its exit code, negative of a signal."""
    process = processes.Process(target=fault_helpers.work, args=(results, fault, way))
    process.start()
    process.join(ENOUGH)
    if process.is_alive():
        process.kill()
        pytest.fail(f"the process does not end within {ENOUGH:.0f} s")
    return process.exitcode


@pytest.fixture(scope="module", autouse=True)
def small_disks_are_allowed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Jobs are queued although hardly any room is left."""
    rules = tmp_path_factory.mktemp("rules") / "rules.toml"
    rules.write_text("free_gb = 0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RULES, str(rules))
        # tests of pages leave the dashboard's script for the main module, which a new process would run
        patch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
        yield


@pytest.fixture(scope="module", autouse=True)
def preloaded(small_disks_are_allowed: None) -> None:
    """Processes begin with everything imported: most of a tiny run would be imports."""
    methods = [
        f"poisonlab.{kind}.{found.name}"
        for kind in ("attacks", "data", "defenses", "models")
        for found in pkgutil.iter_modules([str(Path(poisonlab.__file__).parent / kind)])
    ]
    processes.set_forkserver_preload(["fault_helpers", "poisonlab.pipeline.experiment", *methods])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunRecord]:
    """Defense -> the record that each run must end with."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return {d: run_and_record(tiny(d), folder / "runs", device="cpu") for d in DEFENSES}


@pytest.fixture(scope="module")
def length(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Way -> how many places an undisturbed process passes, or how long it takes; measured when asked for."""

    class Lengths(dict[str, float]):
        def __missing__(self, way: str) -> float:
            results = tmp_path_factory.mktemp(f"undisturbed {way}") / "disk" / "results"
            results.mkdir(parents=True)
            assert work(results, NOTHING, way) == 0
            self[way] = float(noted(results, "places")[0])
            return self[way]

    return Lengths()


@contextmanager
def a_disk(folder: Path, fills: bool) -> Iterator[Path]:
    """A results folder, on a small disk of its own where that disk is to be filled."""
    results = folder / "disk" / "results"
    results.parent.mkdir()
    if fills and (sys.platform != "linux" or os.geteuid() != 0):
        pytest.skip("a disk of its own needs Linux and root")
    if fills:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(results.parent)]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("a disk of its own cannot be mounted here")
    results.mkdir()
    try:
        yield results
    finally:
        if fills:
            subprocess.run(["umount", "-l", str(results.parent)], check=False)


def whole_stages(results: Path) -> set[str]:
    """Names of stages that the cache holds whole."""
    return {path.name.partition("-")[0] for path in (results / "cache").glob("[!.]*-*")} - {"unfinished"}


def finish(results: Path, way: str) -> dict[str, RunRecord]:
    """Go on as a person would; the record of each run by its id."""
    if way == "cli":
        assert work(results, NOTHING, way) == 0
        Store(results, results / "reference").close()  # the next start removes what dead processes left
    else:
        store = Store(results, results / "reference")
        runner = runner_of(way, store, results)
        runner.start()
        for run_id in store.jobs.find(["interrupted", "failed"]).run_id:
            runner.resume(run_id)
        wait_for_all(store)
        runner.stop()
        store.close()
    return {path.name: read_record(path)[0] for path in sorted(results.glob("runs/[!.]*"))}


def check_store(results: Path, jobs: dict[str, str]) -> None:
    """It opens; nothing that was acknowledged is lost, and nothing is there twice."""
    store = Store(results, results / "reference")
    try:
        found = [run_id for (run_id,) in store.db.rows("SELECT run_id::VARCHAR FROM jobs")]
        assert len(found) == len(set(found)) and set(jobs) <= set(found)
        doubled = "SELECT run_id FROM points GROUP BY run_id, stage, name, step HAVING count(*) > 1"
        assert not store.db.rows(doubled)
        assert not store.skipped
    finally:
        store.close()


def check_artifacts(results: Path, records: dict[str, RunRecord], harmed: set[str]) -> None:
    """Each is the one that the record names, or refused."""
    store = Store(results, results / "reference")
    try:
        for run_id, record in records.items():
            for item in record.artifacts:
                try:
                    store.runs.load_artifact(run_id, item.name, item.sha256, item.trial)
                except RecordError:
                    assert f"runs/{run_id}/{item.file}" in harmed
    finally:
        store.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", range(COUNT))
def test_after_a_fault_nothing_is_lost_doubled_or_made_again(
    number: int, tmp_path: Path, undisturbed: dict[str, RunRecord], length: dict[str, float]
) -> None:
    way, kind, share, seed, again = drawn(number)
    if way == "ray":
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'poisonlab[ray]'")
    place = share * length[way]
    with a_disk(tmp_path, kind == "fill") as results:
        code = work(results, Fault(kind, place if way in fault_helpers.ENGINES else round(place), seed), way)
        (results / FILLING).unlink(missing_ok=True)
        jobs = dict(line.split() for line in noted(results, "jobs"))
        harmed = set(noted(results, "harmed"))
        about = f"{way}, {kind} at {place:.1f}, then {again}, exit code {code}, harmed {harmed}"
        check_store(results, jobs)
        damaged = {re.sub(r"-.*", "", name.partition("cache/")[2]) for name in harmed}
        kept = whole_stages(results) - damaged
        before = {path.parent.name for path in (results / "runs").glob("*/run.json")}

        records = finish(results, again)

        check_store(results, jobs)
        check_artifacts(results, records, harmed)
        assert jobs.keys() <= records.keys(), about
        for run_id, record in records.items():
            if way == "cli" and run_id in before and record.state == "failed":
                continue  # it says so, and the same command again is another run
            wanted = undisturbed[record.spec.defense.name]
            assert (record.state, record.metrics) == ("done", wanted.metrics), about
            assert sorted(record.points) == sorted(wanted.points), about
            if run_id not in before:
                repeated = {stage for stage, seconds in record.timings.items() if seconds and stage in kept}
                assert not repeated, f"{about}: {repeated} made again"
        ours = [*(results / "runs").rglob("*"), *(results / "cache").rglob("*")]
        left = [path.name for path in ours if re.match(r"\.|unfinished", path.name)]
        assert not left, f"{about}: left behind {left}"
    shutil.rmtree(tmp_path, ignore_errors=True)
