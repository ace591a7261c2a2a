"""The Trials page: targets with their answers, classes with their spread, and what it queues."""

import shutil
from pathlib import Path

import pytest
from page_helpers import TINY_BACKDOOR, Open, words
from streamlit.testing.v1 import AppTest

from poisonlab.runner import runtime
from poisonlab.ui.trials import resolution


def button(app: AppTest, label: str) -> bool:
    return any(b.label.startswith(label) for b in app.button)


def test_every_target_has_a_row_with_its_picture_and_three_answers(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "trials")

    assert len(app.get("plotly_chart")) == 1
    table = app.dataframe[0].value
    assert len(table) == 3 and all(image.startswith("data:image/png;base64,") for image in table["image"])
    digits = {str(d) for d in range(10)}
    for column in ("true", "wished", "control", "undefended", "defended"):
        assert set(table[column]) <= digits
    assert (table["true"] != table["wished"]).all()
    assert (table["fooled"] == (table["undefended"] == table["wished"])).all()
    assert "With **3 targets**" in words(app) and "McNemar" in words(app)


def test_what_twenty_targets_can_tell_is_computed() -> None:
    text = resolution(20)

    assert "standard error of 11 points" in text and "29.9 % to 70.1 %" in text and "up to 16.1 %" in text


def test_few_classes_are_named_as_few_and_the_others_queued(
    open_page: Open, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(filled / "runs", tmp_path / "runs")
    app = open_page(tmp_path, "trials", view="classes")
    monkeypatch.setattr(runtime.get().store.jobs, "claim", lambda *asked: None)
    app.run()

    table = app.dataframe[0].value
    assert table["line"].tolist() == ["control", "undefended", "awm"] and table["n"].tolist() == [2, 2, 2]
    assert "1 of 10 target classes" in words(app)
    assert set(app.multiselect[0].value) == {"awm", "none"}
    app.multiselect[0].set_value(["none"]).run()
    assert button(app, "Queue 9 missing runs")
    command = app.code[-1].value
    assert command.startswith("for target_class in 0 1 2 3 4 5 6 7 8 9; do")
    assert '--set "attack.target_class=$target_class"' in command
    assert f"dataset.train_images={TINY_BACKDOOR['dataset.train_images']}" in command

    next(b for b in app.button if b.label.startswith("Queue")).click().run()

    jobs = runtime.get().store.jobs.find()
    assert not app.exception and len(jobs) == 9


@pytest.mark.parametrize("view", ["targets", "classes"])
def test_an_empty_view_offers_the_run_that_fills_it(open_page: Open, tmp_path: Path, view: str) -> None:
    app = open_page(tmp_path, "trials", view=view)

    wanted = {"targets": "bullseye_polytope", "classes": "badnets"}[view]
    assert "fills the page" in app.info[0].value and button(app, f"Run digits × {wanted}")


def test_a_link_that_cannot_be_is_explained(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "trials", targets_of="nonsense")

    assert "nonsense" in app.warning[0].value and len(app.dataframe) == 1
