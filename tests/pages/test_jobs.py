"""Jobs on the page: progress, cancel, resume, and caches that anybody can empty."""

import threading
import time
from pathlib import Path

import pandas as pd
import pytest
import streamlit as st
from page_helpers import Open, tiny_backdoor, words
from streamlit.testing.v1 import AppTest

from poisonlab.runner import runtime
from poisonlab.ui.job_detail import so_far


def wait_until(condition: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def state(run_id: str) -> str:
    job = runtime.get().store.jobs.get(run_id)
    assert job is not None
    return str(job.state)


def workers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("poisonlab ")]


def test_emptied_caches_in_mid_job_leave_one_worker_and_one_finished_run(
    open_page: Open, tmp_path: Path
) -> None:
    app = open_page(tmp_path)
    run_id = runtime.get().runner.submit(tiny_backdoor(**{"training.epochs": 20}))
    app.switch_page("../../pages/jobs.py").run()
    wait_until(lambda: state(run_id) == "running")

    for _ in range(3):
        st.cache_data.clear()
        st.cache_resource.clear()
        app.run()
        assert not app.exception
    wait_until(lambda: state(run_id) not in ("queued", "running"))
    app.run()

    assert state(run_id) == "done"
    assert len(workers()) == 1
    assert list(runtime.get().store.runs.find()["run_id"]) == [run_id]


def test_running_job_shows_progress_and_can_be_cancelled_and_resumed(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path)
    run_id = runtime.get().runner.submit(tiny_backdoor(**{"training.epochs": 500}))
    wait_until(lambda: state(run_id) == "running" and runtime.get().store.jobs.get(run_id).total)
    app.switch_page("../../pages/jobs.py").run()
    assert "stage Control" in words(app) or any("stage Control" in p.proto.text for p in app.get("progress"))

    app.button(key=f"Cancel-{run_id}").click().run()
    wait_until(lambda: state(run_id) == "cancelled")
    app.run()

    assert not app.exception
    assert "Somebody cancelled this job" in words(app)
    app.button(key=f"Resume-{run_id}").click().run()
    assert not app.exception
    assert state(run_id) in ("queued", "running")
    runtime.get().runner.cancel(run_id)
    wait_until(lambda: state(run_id) == "cancelled")


def test_failed_job_shows_its_message_as_plain_text(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path)
    run_id = runtime.get().runner.submit(tiny_backdoor(**{"attack.poison_rate": 1.0}))
    wait_until(lambda: state(run_id) == "failed")

    app.switch_page("../../pages/jobs.py").run()

    assert "poison_rate=1.0 asks for 120 of" in app.text[0].value


def test_finished_job_is_announced_once(open_page: Open, tmp_path: Path) -> None:
    app: AppTest = open_page(tmp_path, "jobs")
    run_id = runtime.get().runner.submit(tiny_backdoor())
    wait_until(lambda: state(run_id) == "done")

    app.run()
    assert len(app.toast) == 1
    app.run()

    assert len(app.toast) == 0


def test_a_run_that_never_was_a_job_has_curves_and_log(open_page: Open, filled: Path) -> None:
    open_page(filled)
    asked = str(runtime.get().store.runs.find(defense="awm")["run_id"].iloc[0])

    app = open_page(filled, "jobs", job=asked)

    assert "Not run by this queue" in words(app)
    assert "Loss under the pattern" in words(app)


def test_unknown_job_gets_a_friendly_message(open_page: Open, filled: Path) -> None:
    open_page(filled)
    runtime.get().store.jobs.enqueue([tiny_backdoor(5)])

    app = open_page(filled, "jobs", job="../../secret")

    assert "no job with the id in this link" in app.warning[0].value


def test_a_running_job_counts_the_targets_hit_so_far() -> None:
    rows = [("victim", 1, 1.0), ("victim", 2, 1.0), ("victim", 3, 2.0), ("defended_victim", 1, 0.0)]
    points = pd.DataFrame([(stage, "targets_hit", step, value) for stage, step, value in rows])
    points.columns = ["stage", "name", "step", "value"]

    said = " ".join(so_far(points))

    assert "Undefended victim: **2 of 3 targets**" in said and "Defended victim: **0 of 1 targets**" in said
    assert so_far(points[points["name"] == "loss"]) == []


def test_all_waiting_jobs_are_cancelled_at_once(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page(tmp_path)
    jobs = runtime.get().store.jobs
    monkeypatch.setattr(jobs, "claim", lambda device: None)
    jobs.enqueue([tiny_backdoor(seed) for seed in range(3)])
    app.switch_page("../../pages/jobs.py").run()

    next(b for b in app.button if b.key == "cancel_all").click().run()

    assert not app.exception and set(jobs.find()["state"]) == {"cancelled"}
