"""What the pages say runs will cost, and the second click before a long one."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from page_helpers import Open, recorded, tiny_backdoor, words
from store_helpers import add, record_of, ship
from streamlit.testing.v1 import AppTest

from poisonlab.runner import runtime
from poisonlab.runner.local import LocalRunner
from poisonlab.runner.time_left import TimeLeft
from poisonlab.spec.config import make_spec
from poisonlab.ui import jobs

OpenWith = Callable[..., AppTest]
PAPER = {"new_dataset": "cifar10", "new_defense": "none", "new_preset": "paper"}


@pytest.fixture
def open_form(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> OpenWith:
    """``open_form(results, **query)``: the Experiment page of a machine without a GPU, whose worker takes no job."""
    monkeypatch.setattr(LocalRunner, "device_type", "cpu")
    monkeypatch.setattr("poisonlab.store.jobs.Jobs.claim", lambda jobs, *asked: None)
    return lambda results, **query: open_page(results, "experiment", **query)


def ship_paper(folder: Path, hours: float) -> None:
    """Shipped results with a run of ``paper`` that took so long."""
    spec = make_spec("cifar10", "badnets", "none", preset="paper", seed=3)
    took = {"poison": 1.0, "control": 1800 * hours, "victim": 1800 * hours, "evaluate": 1.0}
    ship([record_of(spec).model_copy(update={"timings": took})], folder)


def press(app: AppTest, label: str) -> None:
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception


def queued() -> int:
    return len(runtime.get().store.jobs.find())


def time_of(app: AppTest) -> str:
    """What the bar at the bottom says: ``one run, time 31 h 0 min, memory 900 MB``."""
    (said,) = (text.value for text in app.markdown if ", time " in text.value)
    return str(re.search(r", time ([^,*]+)", said)[1])  # type: ignore[index]


# -- what is said -----------------------------------------------------------------------------------------


def test_an_exact_repeat_is_said_to_be_cached_and_another_seed_is_not(
    open_form: OpenWith, filled: Path
) -> None:
    app = open_form(filled)
    like = str(runtime.get().store.runs.find(defense="awm")["run_id"].iloc[0])

    app = open_form(filled, like=like)
    assert "Already in the cache: Poisons, Control, Undefended victim, Repair" in words(app)
    assert "from runs on this machine" in words(app)
    app.number_input(key="seed").set_value(77).run()

    assert "Already in the cache" not in words(app)
    assert time_of(app) != "unknown"


def test_a_cancelled_run_changes_nothing(open_form: OpenWith, filled: Path) -> None:
    before = time_of(open_form(filled))
    spec = make_spec("digits", "badnets", "awm")
    with_others = record_of(spec, state="cancelled").model_copy(update={"timings": {"control": 0.01}})
    add(runtime.get().store, with_others)

    app = open_form(filled)

    assert time_of(app) == before and "Already in the cache" not in words(app)


def test_an_estimate_from_shipped_runs_says_so(open_form: OpenWith, tmp_path: Path) -> None:
    ship_paper(tmp_path / "no reference", hours=31)

    app = open_form(tmp_path / "results", **PAPER)

    assert "from shipped runs, measured on another machine" in words(app)
    assert time_of(app).startswith("31 h")


def test_what_was_never_measured_is_named(open_form: OpenWith, tmp_path: Path) -> None:
    app = open_form(tmp_path)

    assert time_of(app) == "unknown"
    assert "Nothing alike was ever measured of: Poisons, Control" in words(app)


# -- the second click -------------------------------------------------------------------------------------


def test_paper_without_a_gpu_names_the_hours_and_asks_again(open_form: OpenWith, tmp_path: Path) -> None:
    ship_paper(tmp_path / "no reference", hours=31)
    app = open_form(tmp_path / "results", **PAPER)

    press(app, "Launch")
    assert queued() == 0 and "about 31 hours on this CPU" in app.warning[0].value
    press(app, "About 31 hours on this CPU: launch anyway")

    assert queued() == 1


def test_after_another_choice_the_question_is_gone(open_form: OpenWith, tmp_path: Path) -> None:
    ship_paper(tmp_path / "no reference", hours=100)
    app = open_form(tmp_path / "results", **PAPER)

    press(app, "Launch")
    assert any("About 4 days on this CPU" in button.label for button in app.button)
    app.selectbox(key="new_preset").set_value("quick").run()
    assert not app.warning
    press(app, "Launch")

    assert queued() == 1


def test_paper_of_which_nothing_is_known_asks_too(open_form: OpenWith, tmp_path: Path) -> None:
    app = open_form(tmp_path, **PAPER)

    press(app, "Launch")

    assert queued() == 0 and "an unknown time (nothing alike was ever measured)" in app.warning[0].value


def test_digits_are_small_under_paper_too(open_form: OpenWith, tmp_path: Path) -> None:
    app = open_form(tmp_path, new_preset="paper")

    press(app, "Launch")

    assert queued() == 1


def test_a_matrix_asks_again_and_names_the_hours_of_all(open_form: OpenWith, tmp_path: Path) -> None:
    ship_paper(tmp_path / "no reference", hours=31)
    chosen = {"many_dataset": "cifar10", "many_defense": "none", "many_preset": "paper", "many_seeds": "1"}
    app = open_form(tmp_path / "results", mode="matrix", **chosen)
    app.number_input(key="many_seeds").set_value(1).run()

    press(app, "Queue 1 runs")
    assert queued() == 0
    press(app, "About 31 hours on this CPU: launch anyway")

    assert queued() == 1


# -- while it runs ----------------------------------------------------------------------------------------


def test_a_running_job_says_what_is_left_over_all_stages() -> None:
    row = {"seed": 0, "stage": "control", "step": 4, "total": 10, "rate": 2.0, "eta_seconds": 3.0}

    assert "about 2 min 5 s left" in jobs.progress_text(row, TimeLeft(0.25, 125.0, 1.0))
    assert "about 3 s left in this stage" in jobs.progress_text(row)


def test_a_job_that_runs_knows_what_is_left(open_page: Open, tmp_path: Path) -> None:
    recorded(tiny_backdoor(), tmp_path)
    open_page(tmp_path)
    heard: list[TimeLeft] = []
    runner = runtime.get().runner
    run_id = runner.submit(tiny_backdoor(3, **{"training.epochs": 40}))
    job = runtime.get().store.jobs.get
    while job(run_id).state in ("queued", "running"):  # type: ignore[union-attr]
        left = runner.time_left(run_id)
        if left:
            heard.append(left)

    assert job(run_id).state == "done"  # type: ignore[union-attr]
    assert heard[0].seconds > heard[-1].seconds and heard[0].share < heard[-1].share
    assert runner.time_left(run_id) is None
