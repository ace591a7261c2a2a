"""The page that checks a data set: work in the background, what was found, a cancel."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from check_helpers import no_training as no_training  # noqa: PLC0414 - a fixture
from page_helpers import Open, press, until, words

from poisonlab.events import Progress
from poisonlab.ui import check_data as ui


@pytest.fixture(autouse=True)
def nobody_asked_yet() -> Iterator[None]:
    ui._tasks.clear()
    yield
    for asked in ui._tasks.values():
        asked.task.cancel()
        assert asked.task.wait(20)
    ui._tasks.clear()


def test_before_anything_is_asked_the_page_says_what_it_can_miss(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path / "results", "check_data", dataset="digits")

    said = words(app)
    assert "Check a data set" in said and "An attacker who knows the detectors" in said
    assert app.selectbox(key="dataset_box").value == "digits"


def test_a_check_ends_with_verdict_images_and_files(
    open_page: Open, tmp_path: Path, no_training: list[tuple[int, int]]
) -> None:
    app = press(open_page(tmp_path / "results", "check_data", dataset="digits"), "Check")
    (asked,) = ui._tasks.values()
    until(app, lambda: asked.task.state != "running")

    assert asked.task.state == "done", asked.task.message
    said = words(app)
    assert "clean set" in said and "Suspected target" in said
    assert "of 1,000 images are in the top of 2 detectors or more" in said
    shown = [image for element in app.image for image in element.proto.imgs]
    assert len(shown) == ui.SHOWN and all(image.alt.startswith("digits/") for image in shown)
    assert len(ui.packed(asked.task.result)) > 1000


def test_work_in_progress_is_shown_and_can_be_cancelled(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    def endless(*args: Any, **named: Any) -> None:
        while True:
            args[2].emit(Progress("check", 3, 20))
            begun.set()
            time.sleep(0.01)

    monkeypatch.setattr(ui, "check_data", endless)
    app = press(open_page(tmp_path / "results", "check_data", dataset="digits"), "Check")
    assert begun.wait(20)
    app.run()
    assert next(button for button in app.button if button.label == "Check").disabled
    press(app, "Cancel")
    (asked,) = ui._tasks.values()
    until(app, lambda: asked.task.state != "running")

    assert asked.task.state == "cancelled"
    assert "Cancelled." in words(app)


def test_a_failure_is_told_on_the_page(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **named: Any) -> None:
        raise ValueError("the classes <b> differ")

    monkeypatch.setattr(ui, "check_data", fail)
    app = press(open_page(tmp_path / "results", "check_data", dataset="digits"), "Check")
    (asked,) = ui._tasks.values()
    until(app, lambda: asked.task.state != "running")

    assert "the classes" in words(app)
