"""A run opened again: the same networks and images out of the cache, and a refusal where they are not kept."""

from pathlib import Path
from typing import Any

import pytest
import torch
from core_helpers import TINY, TINY_TARGETED, rest_slow, tiny_spec

from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.measure import metrics
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.pipeline.reopen import NotKept, reopen
from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.types import Backdoor

TARGETED = TINY_TARGETED | {"defense.architecture": "light", "defense.filters": 4}
TINY_CONTROL = TINY | {"clean_images": 10}
HOOKED = {
    "training.epochs": 1,
    "dataset.train_images": 100,
    "dataset.test_images": 60,
    "attack.mask_epochs": 1,
}
SPECS: dict[str, ExperimentSpec] = {
    "pruned": tiny_spec("clp", clean_images=10, seed=3),
    "filtered": tiny_spec("spectral_signatures", seed=2),
    "control alone": make_spec("digits", "none", "ft", overrides=TINY_CONTROL),
    "hooked": make_spec("digits", "iab", "none", overrides=HOOKED | {"attack.width": 4}),
    "transfer": make_spec("digits", "bullseye_polytope", "puregen_ebm", overrides=TARGETED),
}


def ran(spec: ExperimentSpec, cache: Path) -> dict[str, Any]:
    return run_experiment(spec, Context(cache=StageCache(cache))).metrics


@pytest.mark.parametrize("name", rest_slow(list(SPECS)))
def test_the_networks_are_those_that_were_measured(name: str, tmp_path: Path) -> None:
    spec = SPECS[name]
    measured = ran(spec, tmp_path)

    opened = reopen(spec, tmp_path)

    test = opened.attacked.splits.test
    for model, victims in opened.victims.items():
        suffix = "" if model == "defended" else f"_{model}"
        rate = metrics.share(victims.predict(test.x) == test.y)
        assert rate == pytest.approx(measured[f"clean_accuracy{suffix}"], abs=1e-6)
    threat = opened.attacked.threat
    if isinstance(threat, Backdoor):
        triggered = metrics.Triggered.of(test, threat)
        rates = metrics.backdoor_metrics(opened.victims["defended"].predict, triggered)
        assert rates["asr"] == pytest.approx(measured["asr"], abs=1e-6)


def test_nothing_is_computed_and_nothing_is_written(tmp_path: Path) -> None:
    spec = SPECS["pruned"]
    ran(spec, tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())

    reopen(spec, tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_another_seed_is_not_kept(tmp_path: Path) -> None:
    ran(SPECS["pruned"], tmp_path)

    with pytest.raises(NotKept, match="run it again"):
        reopen(tiny_spec("clp", clean_images=10, seed=4), tmp_path)


def test_an_empty_cache_is_left_empty(tmp_path: Path) -> None:
    with pytest.raises(NotKept, match="not in the cache"):
        reopen(SPECS["pruned"], tmp_path / "none")

    assert not (tmp_path / "none").exists()


def test_a_damaged_stage_is_not_opened(tmp_path: Path) -> None:
    ran(SPECS["pruned"], tmp_path)
    for folder in tmp_path.glob("victim-*"):
        for file in folder.glob("*.safetensors"):
            file.write_bytes(file.read_bytes()[:-8])

    with pytest.raises(NotKept, match="victim"):
        reopen(SPECS["pruned"], tmp_path)


def test_weights_may_be_looked_at_with_gradients(tmp_path: Path) -> None:
    ran(SPECS["pruned"], tmp_path)
    opened = reopen(SPECS["pruned"], tmp_path)

    x = opened.attacked.splits.test.x[:2].float().div(255).requires_grad_(True)
    opened.victims["defended"].member(0)(x).sum().backward()

    assert x.grad is not None and bool(torch.isfinite(x.grad).all())
