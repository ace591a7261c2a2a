"""What the trigger does to each channel, beside what a defense thinks of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from core_helpers import clean_model, digits, listening, same_state, state_of, tiny_spec
from torch import nn

from poisonlab.cache.stage_cache import StageCache
from poisonlab.events import ArtifactReady
from poisonlab.measure.galleries import activation_drive
from poisonlab.models.base import as_floats
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.records.artifacts import ActivationDrive, NeuronScores
from poisonlab.training.loop import Diverged

IMAGES = digits().test.x[:30]


def test_the_drive_is_the_mean_activation_with_the_trigger_minus_that_without() -> None:
    model, bright = clean_model(), IMAGES.clamp_min(200)
    before = state_of(model)
    (first,) = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)][:1]
    convolution = dict(model.named_modules())[first]

    (drive,) = activation_drive(model, [first], IMAGES, bright)

    with torch.inference_mode():
        means = [convolution(model.normalize(as_floats(x))).mean((0, 2, 3)) for x in (IMAGES, bright)]
    assert torch.allclose(drive, means[1] - means[0], atol=1e-4)
    assert same_state(state_of(model), before) and not convolution._forward_hooks


def artifacts_of(spec: Any, **more: Any) -> dict[type, Any]:
    ctx, heard = listening(**more)
    run_experiment(spec, ctx)
    return {type(e.value): e.value for e in heard if isinstance(e, ArtifactReady)}


@pytest.mark.parametrize(
    ("defense", "unlearns"),
    [("clp", False), ("tsbd", True), pytest.param("rnp", False, marks=pytest.mark.slow)],
)
def test_every_scored_channel_has_a_drive(defense: str, unlearns: bool, tmp_path: Path) -> None:
    few = {
        "rnp": {"defense__unlearn_epochs": 1, "defense__recover_epochs": 1},
        "tsbd": {"defense__unlearn_epochs": 2, "defense__epochs": 1},
        "clp": {},
    }[defense]
    spec = tiny_spec(defense, clean_images=20, **few)
    shown = artifacts_of(spec, cache=StageCache(tmp_path))
    drive, scores = shown[ActivationDrive], shown[NeuronScores]

    assert len(drive.drive) == len(drive.score) == len(drive.layer) == int(scores.histogram.sum())
    assert torch.equal(drive.layer.bincount(), scores.histogram.sum(1))
    assert bool(((drive.score >= 0) & (drive.score <= 1)).all()) and bool(drive.drive.isfinite().all())
    assert len(drive.poison_change) == (len(drive.score) if unlearns else 0)
    if unlearns:
        assert float(drive.poison_change.max()) == 1 and not torch.equal(drive.poison_change, drive.score)
        again = artifacts_of(spec, cache=StageCache(tmp_path))[ActivationDrive]
        assert torch.equal(again.poison_change, drive.poison_change)


def test_a_picture_that_cannot_be_made_does_not_fail_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*args: Any) -> None:
        raise Diverged("too far")

    monkeypatch.setattr("poisonlab.defenses.tsbd.TSBD.change_by_unlearning", diverge)
    spec = tiny_spec("tsbd", clean_images=20, defense__unlearn_epochs=1, defense__epochs=1)

    assert len(artifacts_of(spec)[ActivationDrive].poison_change) == 0
