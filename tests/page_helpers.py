"""Experiments that end in a second or two, and what a page says."""

import time
from collections.abc import Callable
from pathlib import Path

from core_helpers import TINY_DATA, TINY_TARGETED
from streamlit.testing.v1 import AppTest

from poisonlab.records.record import RunRecord
from poisonlab.runner.recorder import run_and_record
from poisonlab.spec.config import ExperimentSpec, make_spec

TINY_BACKDOOR = TINY_DATA | {
    "training.epochs": 4,  # fewer, and a model gives one answer to everything: such runs do not count
    "clean_images": 20,
    "defense.rounds": 2,
    "defense.inner_epochs": 1,
}
Open = Callable[..., AppTest]


def tiny_backdoor(seed: int = 0, **more: object) -> ExperimentSpec:
    return make_spec("digits", "badnets", "awm", seed=seed, overrides=TINY_BACKDOOR | more)


def tiny_targeted(seed: int = 0) -> ExperimentSpec:
    return make_spec("digits", "bullseye_polytope", "puregen_ebm", seed=seed, overrides=TINY_TARGETED)


def recorded(spec: ExperimentSpec, results: Path) -> RunRecord:
    """A finished run of ``spec`` in a results folder."""
    record = run_and_record(spec, results / "runs", device="cpu", cache_root=results / "cache")
    assert record.state == "done", record.message
    return record


def words(app: AppTest) -> str:
    """Everything a page says."""
    parts = (
        app.title,
        app.subheader,
        app.markdown,
        app.caption,
        app.info,
        app.warning,
        app.error,
        app.text,
        app.code,
    )
    return "\n".join(str(element.value) for part in parts for element in part)


def press(app: AppTest, label: str) -> AppTest:
    """Click the first button of this label."""
    return next(button for button in app.button if button.label == label).click().run()


def until(app: AppTest, ready: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for work in the background, then draw the page anew."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    app.run()
    assert not app.exception
