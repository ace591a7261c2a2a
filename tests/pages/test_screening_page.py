"""The page of screened inputs: what it says is what the store and the scores say."""

from pathlib import Path

import pytest
import torch
from core_helpers import tiny_spec
from page_helpers import Open, recorded, words

from poisonlab.records import artifacts
from poisonlab.spec.config import make_spec

FEW = {
    "training.epochs": 4,
    "dataset.train_images": 100,
    "dataset.test_images": 60,
    "victim.width": 8,
    "clean_images": 20,
}


def test_the_numbers_follow_from_the_scores(open_page: Open, tmp_path: Path) -> None:
    record = recorded(tiny_spec("ibd_psc", clean_images=20, victim__width=8, training__epochs=4), tmp_path)
    [path] = (tmp_path / "runs" / record.run_id).rglob("screening*")
    found = artifacts.load(path)
    pairs = found.triggered[:, None] - found.untouched
    auroc = ((pairs > 0).double() + 0.5 * (pairs == 0).double()).mean().item()
    caught = (found.triggered > found.threshold).double().mean().item()
    stopped = (found.untouched > found.threshold).double().mean().item()

    app = open_page(tmp_path, "screening", run=record.run_id)

    said = words(app)
    assert f"AUROC **{auroc:.3f}**" in said
    assert f"**{caught:.1%}** of the triggered".replace("%", " %") in said
    assert f"and {stopped:.1%} of the untouched ones (".replace("%", " %") in said
    [row] = app.dataframe[0].value.to_dict("records")
    assert row["screen_auroc"] == pytest.approx(auroc) and row["screen_caught"] == pytest.approx(caught)
    assert torch.equal(found.stopped, found.score > found.threshold)


def test_without_a_trusted_image_for_a_threshold_nothing_is_stopped(open_page: Open, tmp_path: Path) -> None:
    record = recorded(tiny_spec("scale_up", clean_images=1), tmp_path)

    said = words(open_page(tmp_path, "screening", run=record.run_id))

    assert "No trusted image is left to set the defender's threshold by, so nothing is stopped." in said
    assert "At the defender's threshold" not in said


def test_all_to_all_has_no_class_of_the_attacker(open_page: Open, tmp_path: Path) -> None:
    spec = make_spec("digits", "ftrojan", "scale_up", overrides=FEW | {"attack.mapping": "all_to_all"})

    said = words(open_page(tmp_path, "screening", run=recorded(spec, tmp_path).run_id))

    assert "of the untouched ones. " in said and "of the attacker's class" not in said


def test_an_artifact_that_is_damaged_leaves_the_rest_of_the_page(open_page: Open, tmp_path: Path) -> None:
    record = recorded(tiny_spec("scale_up", clean_images=10), tmp_path)
    [path] = (tmp_path / "runs" / record.run_id).rglob("screening*")
    path.write_bytes(path.read_bytes()[:-40])

    app = open_page(tmp_path, "screening", run=record.run_id)

    assert "Screens compared" in {shown.value for shown in app.subheader}
