"""kill -9 in the middle of a stage."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from poisonlab.runner.local import LocalRunner
from poisonlab.store import Store

ROOT = Path(__file__).parents[2]
CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from core_helpers import tiny_spec
from poisonlab.runner.local import LocalRunner
from poisonlab.store import Store
results = Path(sys.argv[1])
runner = LocalRunner(Store(results, results / "reference"), results, ["cpu"])
runner.start()
print(runner.submit(tiny_spec(training__epochs=40)), flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_after_a_kill_the_job_is_interrupted_and_resumes_after_its_last_whole_stage(results):
    command = [sys.executable, "-c", CHILD, str(results), str(ROOT / "tests")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        run_id = child.stdout.readline().strip()
        cache = results / "cache"
        deadline = time.monotonic() + 60
        while not list(cache.glob("locks/victim-*")) and time.monotonic() < deadline:
            time.sleep(0.005)  # the stages before are whole, this one has just begun
        child.kill()
    assert list(cache.glob("control-*")) and not list(cache.glob("victim-*"))
    assert not (results / "runs" / run_id / "run.json").exists()

    store = Store(results, results / "reference")
    runner = LocalRunner(store, results, ["cpu"])
    assert store.jobs.get(run_id).state == "running"
    runner.start()
    job = store.jobs.get(run_id)
    assert job.state == "interrupted" and "resume" in job.message

    runner.resume(run_id)
    deadline = time.monotonic() + 60
    while store.jobs.get(run_id).state in ("queued", "running") and time.monotonic() < deadline:
        time.sleep(0.05)
    runner.stop()
    record = store.runs.record(run_id)
    store.close()
    assert record.state == "done" and record.cached == ["poison", "control"]
    assert record.timings["poison"] == record.timings["control"] == 0 < record.timings["victim"]
