"""Jobs on the page: progress, cancel, resume, and caches that anybody can empty."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import streamlit as st
from page_helpers import Open, tiny_backdoor, words
from streamlit.testing.v1 import AppTest

from poisonlab.runner import runtime
from poisonlab.runner.local import LocalRunner
from poisonlab.runner.parts import Person
from poisonlab.runner.time_left import TimeLeft
from poisonlab.ui import job_group, people
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
    assert sorted(workers()) == ["poisonlab books", "poisonlab cpu"]
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


@pytest.fixture
def idle_jobs(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page Jobs of a dashboard whose worker takes no job."""
    app = open_page(tmp_path, "jobs")
    monkeypatch.setattr(runtime.get().store.jobs, "claim", lambda *asked: None)
    return app


def bars(app: AppTest) -> list[str]:
    return [bar.proto.text for bar in app.get("progress")]


def test_all_waiting_jobs_are_cancelled_at_once(idle_jobs: AppTest) -> None:
    jobs = runtime.get().store.jobs
    for seed in range(3):
        jobs.enqueue([tiny_backdoor(seed)])

    idle_jobs.run().button(key="cancel_all").click().run()

    assert not idle_jobs.exception and set(jobs.find()["state"]) == {"cancelled"}


def test_whoever_may_not_cancel_all_of_them_is_told(
    idle_jobs: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = runtime.get().store.jobs
    jobs.enqueue([tiny_backdoor(0)], person="ada@example.org")
    jobs.enqueue([tiny_backdoor(1)], person="bob@example.org")
    monkeypatch.setattr(people, "person", lambda: Person("bob@example.org", False))

    idle_jobs.run().button(key="cancel_all").click().run()

    assert not idle_jobs.exception
    assert "1 of 2 go on: this job is ada@example.org's" in idle_jobs.toast[0].value.replace("\\", "")
    assert dict(jobs.find()[["person", "state"]].values)["ada@example.org"] == "queued"
    assert dict(jobs.find()[["person", "state"]].values)["bob@example.org"] == "cancelled"


def test_jobs_queued_together_are_one_line_and_one_bar_and_are_cancelled_as_one(
    idle_jobs: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = runtime.get().store.jobs
    jobs.enqueue([tiny_backdoor(9)])
    first, second, *_ = jobs.enqueue([tiny_backdoor(seed) for seed in range(4)])
    jobs.set_state(first, "done")
    jobs.set_state(second, "running")
    left = TimeLeft(share=0.4, seconds=60.0, factor=1.0)
    monkeypatch.setattr(LocalRunner, "time_left", lambda runner, run_id: left)
    monkeypatch.setattr("poisonlab.ui.job_group._of_waiting", lambda *_: job_group.Ahead(120.0, True))

    app = idle_jobs.run()

    together, inside = bars(app)
    assert together.endswith("** · 4 runs, 1 done, 1 running, 2 waiting, about 3 min 0 s left")
    assert together.startswith("**digits · badnets · awm · 4 seeds") and "seed 1, stage" in inside
    assert app.get("progress")[0].proto.value == 35  # one whole run and 0.4 of another, of four
    assert list(app.expander[0].dataframe[0].value["state"]) == ["running", "queued", "queued", "done"]
    app.button(key=f"cancel-{first}").click().run()
    assert not app.exception
    assert jobs.find(["queued", "done"])["seed"].tolist() == [9, 0]
    assert jobs.find(["cancelled"])["seed"].tolist() == [3, 2]


def test_what_waits_costs_no_stage_that_a_running_job_computes(
    in_results: Callable[[Path], runtime.Runtime], filled: Path
) -> None:
    """Two defenses of one attack and seed share the poison, the control and the victim."""
    jobs = in_results(filled).store.jobs
    alone, other = jobs.enqueue([tiny_backdoor(7), tiny_backdoor(7, **{"defense.rounds": 3})])

    beside = job_group._of_waiting((alone,), (other,), "cpu")
    by_itself = job_group._of_waiting((), (other,), "cpu")

    assert beside.whole and 0 < beside.seconds < by_itself.seconds


def test_what_takes_an_unknown_time_is_not_promised() -> None:
    group = pd.DataFrame({"state": ["queued", "failed"]})

    assert job_group.line(group, job_group.Ahead(90.0, False)).endswith(
        "1 waiting, 1 failed, at least 1 min 30 s once they begin"
    )
    assert job_group.line(group, job_group.Ahead(0.0, False)) == "2 runs, 1 waiting, 1 failed"
