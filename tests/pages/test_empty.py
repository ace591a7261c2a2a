"""Every page with no results at all: it explains itself and offers what would fill it."""

from pathlib import Path

import pytest
from page_helpers import Open, words

from poisonlab.runner import runtime

LOOK = (
    "poisons",
    "crafting",
    "triggers",
    "neurons",
    "lens",
    "unlearning",
    "repair",
    "screening",
    "purification",
    "langevin",
    "energy",
)


@pytest.mark.parametrize(
    "name",
    [
        "home",
        "experiment",
        "jobs",
        "leaderboard",
        "budget",
        "trials",
        "claims",
        "lessons",
        "multilevel",
        *LOOK,
    ],
)
def test_empty_page_has_a_title_and_two_sentences(open_page: Open, tmp_path: Path, name: str) -> None:
    app = open_page(tmp_path, name)

    assert len(app.title) == 1
    assert app.markdown[0].value.count(".") >= 2


@pytest.mark.parametrize("name", [*LOOK, "jobs", "leaderboard", "budget", "trials"])
def test_empty_page_offers_a_demo_that_fills_it(open_page: Open, tmp_path: Path, name: str) -> None:
    app = open_page(tmp_path, name)

    assert "fills the page" in app.info[0].value
    assert any(button.label.startswith("Run digits") for button in app.button)


def test_demo_button_queues_the_demo_and_leads_to_its_job(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page(tmp_path)
    monkeypatch.setattr(
        runtime.get().store.jobs, "claim", lambda *asked: None
    )  # nobody works: the queue is the subject

    app.button(key="demo").click().run()

    assert not app.exception
    assert app.title[0].value == "Jobs"
    jobs = runtime.get().store.jobs.find()
    assert list(jobs[["dataset", "attack", "defense"]].iloc[0]) == ["digits", "badnets", "awm"]
    assert "waiting, next: digits" in words(app)


@pytest.mark.parametrize("asked", ["nonsense", "../../etc/passwd", "00000000-0000-0000-0000-000000000000"])
def test_unknown_run_gets_a_friendly_message(open_page: Open, tmp_path: Path, asked: str) -> None:
    app = open_page(tmp_path, "poisons", run=asked)

    assert "not among the results here" in app.warning[0].value


def test_locked_results_say_who_holds_them(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from poisonlab.store import StoreLocked

    app = open_page(tmp_path)

    def locked() -> None:
        raise StoreLocked(tmp_path / "poisonlab.duckdb", 4242)

    monkeypatch.setattr(runtime, "get", locked)
    app.run()

    assert not app.exception
    assert "PID 4242" in app.error[0].value.replace("\\", "")
