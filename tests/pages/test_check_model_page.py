"""The page that checks a network: from a file of weights to a verdict and a repaired network."""

import functools
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from core_helpers import least
from page_helpers import Open, press, until, words
from streamlit.testing.v1 import AppTest

from poisonlab.check import model
from poisonlab.pipeline.experiment import load
from poisonlab.spec.config import make_spec
from poisonlab.training.victims import new_network
from poisonlab.ui import check_model as ui


@pytest.fixture(autouse=True)
def nobody_asked_yet() -> Iterator[None]:
    ui._tasks.clear()
    yield
    for asked in ui._tasks.values():
        asked.task.cancel()
        assert asked.task.wait(60)
    ui._tasks.clear()


@pytest.fixture
def one_clean_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough to see everything but a verdict."""
    monkeypatch.setattr(ui.model, "check_model", functools.partial(model.check_model, clean_networks=1))
    monkeypatch.setattr(ui.model, "values_of", least)


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def weights() -> bytes:
    """An untrained network of the usual kind."""
    spec = make_spec("digits", "none", "none")
    splits = load(spec, torch.device("cpu"))
    return saved({"state_dict": new_network(spec, splits.train, model.Context()).state_dict()})


def opened(open_page: Open, folder: Path, content: bytes, name: str = "net.pt") -> AppTest:
    app = open_page(folder / "results", "check_model", dataset="digits")
    app.file_uploader[0].upload(name, content, "application/octet-stream").run()
    return app


def test_before_anything_is_asked_the_page_says_what_it_can_miss(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path / "results", "check_model", dataset="digits")

    assert "Whoever knows the detectors" in words(app)
    assert next(button for button in app.button if button.label == "Check").disabled


@pytest.mark.usefixtures("one_clean_network")
def test_weights_get_a_verdict_and_a_repair_to_take_away(open_page: Open, tmp_path: Path) -> None:
    app = press(opened(open_page, tmp_path, weights()), "Check")
    (asked,) = ui._tasks.values()
    until(app, lambda: asked.task.state != "running", 120)

    assert asked.task.state == "done", asked.task.message
    said = words(app)
    assert "with 1 clean networks" in said
    assert "The smallest trigger that sends every image to a class" in said
    assert [metric.label for metric in app.metric][:2] == [
        "Accuracy of this network",
        "Accuracy of the clean ones",
    ]
    app.selectbox[-1].select("clp").run()
    press(app, "Repair")
    until(app, lambda: asked.repair is not None and asked.repair.state != "running", 120)
    assert asked.repair is not None and asked.repair.state == "done", asked.repair
    assert "check the repaired one again" in words(app)


class Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch opened",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"junk", "is no whole file"),
        (saved({"fc.weight": torch.ones(3, 3), "fc.bias": torch.ones(3)}), "do not fit this network"),
        (saved({"state_dict": Runs()}), "holds more than weights"),
    ],
)
def test_files_that_cannot_be_are_refused_on_the_page(
    content: bytes, said: str, open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = press(opened(open_page, tmp_path, content, "<b>net.pt"), "Check")
    for asked in ui._tasks.values():
        until(app, lambda task=asked.task: task.state != "running", 120)

    assert said in words(app)
    assert not (tmp_path / "opened").exists()
