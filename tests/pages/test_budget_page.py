"""The Budget page: what it draws, what it queues, and the link that shows the same."""

import shutil
from pathlib import Path

import pytest
from page_helpers import TINY_BACKDOOR, Open, words
from streamlit.testing.v1 import AppTest

from poisonlab.figures.budget import budget_curves
from poisonlab.runner import runtime
from poisonlab.store.budget import means


def button(app: AppTest, label: str) -> bool:
    return any(b.label.startswith(label) for b in app.button)


def test_runs_of_a_setting_are_drawn_with_their_seeds(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "budget")

    assert len(app.get("plotly_chart")) == 1
    store = runtime.get().store
    rows = store.budgets.rows(store.budgets.settings()["setting"][0])
    figure = budget_curves(rows, means(rows))
    assert {trace.name for trace in figure.data if trace.name} >= {"awm"}
    assert all(axis.type == "log" for axis in figure.select_xaxes())


def test_the_launcher_queues_only_what_is_missing_and_names_the_command(
    open_page: Open, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(filled / "runs", tmp_path / "runs")
    app = open_page(tmp_path, "budget", budgets="20, 25", budget_seeds="2")
    monkeypatch.setattr(runtime.get().store.jobs, "claim", lambda *asked: None)
    box = app.multiselect[0]
    assert box.value == ["awm"]
    box.set_value(["ft"]).run()
    assert button(app, "Queue 4 missing runs")
    settings = " ".join(f"--set {k}={v}" for k, v in TINY_BACKDOOR.items() if "defense" not in k and "." in k)
    command = app.code[-1].value
    assert command.startswith(
        "python -m poisonlab sweep --dataset digits --attack badnets --defense ft --seed 0,1"
    )
    assert "--clean-images 20,25" in command and all(
        part in command for part in settings.split(" --set ")[1:]
    )

    next(b for b in app.button if b.label.startswith("Queue")).click().run()

    jobs = runtime.get().store.jobs.find()
    assert not app.exception and len(jobs) == 4
    app = open_page(tmp_path, "budget", budgets="20, 25", budget_seeds="2")
    monkeypatch.setattr(runtime.get().store.jobs, "claim", lambda *asked: None)
    app.multiselect[0].set_value(["ft"]).run()
    assert "measured or queued" in app.success[0].value and not button(app, "Queue")


def test_one_image_a_class_to_a_twentieth_of_the_training_set(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "budget")

    assert app.text_input(key="budgets").value == "10, 20, 50"


@pytest.mark.parametrize("text", ["", "ten", "10; 20", "-5"])
def test_numbers_that_are_none_are_explained(open_page: Open, tmp_path: Path, text: str) -> None:
    app = open_page(tmp_path, "budget")
    app.text_input(key="budgets").set_value(text).run()

    assert not app.exception
    assert "such as 10, 50, 500" in "\n".join(i.value for i in app.info)


def test_more_images_than_there_are_is_an_explained_error_or_a_refused_spec(
    open_page: Open, tmp_path: Path
) -> None:
    app = open_page(tmp_path, "budget", budgets="999999")

    assert "less than or equal to 100000" in app.error[0].value.replace("\\", "")


def test_a_setting_of_a_link_that_cannot_be_is_explained(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "budget", of_attack="<script>")

    assert "there is: badnets" in "\n".join(w.value for w in app.warning).replace("\\", "")


def test_an_attack_without_runs_names_what_was_measured(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "budget", of_attack="blend")

    assert "look at what there is" in words(app) and "against blend on digits" in words(app)
    assert "--attack blend" in app.code[-1].value
