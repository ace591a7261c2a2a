"""The trigger page with detectors: classes and images that stand out, true and recovered triggers."""

import dataclasses
from pathlib import Path

import pytest
import torch
from core_helpers import tiny_spec
from page_helpers import Open, words

from poisonlab.figures.detection import class_anomaly
from poisonlab.records import artifacts
from poisonlab.records.artifacts import ClassAnomaly
from poisonlab.runner.recorder import run_and_record
from poisonlab.ui.detection import verdict

FEW = {"defense__rounds": 1, "defense__search_batch": 4, "clean_images": 10}


@pytest.mark.parametrize(
    ("defense", "more", "heading"),
    [
        ("neural_cleanse", {"defense__epochs": 1}, "Which class stands out"),
        ("rnp", {"defense__repeats": 1, "defense__unlearn_epochs": 1}, "Which training images stand out"),
    ],
)
def test_a_detection_is_shown(
    open_page: Open, tmp_path: Path, defense: str, more: dict[str, int], heading: str
) -> None:
    spec = tiny_spec(defense, **FEW, **more)
    record = run_and_record(spec, tmp_path / "runs", device="cpu", cache_root=tmp_path / "cache")

    app = open_page(tmp_path, "triggers", run=record.run_id)

    assert heading in {shown.value for shown in app.subheader}
    assert "**True and recovered**" in words(app) and "overlap (IoU)" in words(app)
    assert ("smallest trigger found for each class" in words(app)) == (defense == "neural_cleanse")


def anomaly(named: int, named_control: int, target: int = 1) -> ClassAnomaly:
    scores = torch.zeros(3)
    return ClassAnomaly(scores, scores, 2.0, named, named_control, target, "score", ["a", "b", "c"])


def test_an_undefined_threshold_is_not_drawn(tmp_path: Path) -> None:
    artifacts.save(
        dataclasses.replace(anomaly(-1, -1), control=torch.ones(3), threshold=float("inf")),
        tmp_path / "anomaly",
    )
    undefined = artifacts.load(tmp_path / "anomaly")

    assert undefined.threshold is None
    assert not class_anomaly(undefined).layout.shapes and class_anomaly(anomaly(1, -1)).layout.shapes


def test_verdicts_say_who_is_right() -> None:
    assert "**b**, the attacker's class. Of the control" in verdict(anomaly(1, -1))
    assert "**c**, which is not the attacker's" in verdict(anomaly(2, -1))
    assert "**a**. Of the control" in verdict(anomaly(0, -1, target=-1))  # all-to-all has no one class
    assert "is missed" in verdict(anomaly(-1, -1))
    assert "no single class" in verdict(anomaly(-1, -1, target=-1))
    assert "false alarm" in verdict(anomaly(1, 0)) and "**a**" in verdict(anomaly(1, 0))
