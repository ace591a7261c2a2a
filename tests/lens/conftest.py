"""Finished runs to look into, each computed once."""

from pathlib import Path

import pytest
from core_helpers import TINY, TINY_TARGETED, tiny_spec

from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.pipeline.reopen import Opened, reopen
from poisonlab.spec.config import ExperimentSpec, make_spec

WITHOUT_MODEL = {name: value for name, value in TINY_TARGETED.items() if "defense." not in name}


def finished(spec: ExperimentSpec, folder: Path) -> Opened:
    """A run, computed and opened again."""
    run_experiment(spec, Context(cache=StageCache(folder)))
    return reopen(spec, folder, "cpu")


@pytest.fixture(scope="session")
def repaired(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """BadNets on digits and a repair."""
    return finished(
        tiny_spec("clp", clean_images=10, training__epochs=4), tmp_path_factory.mktemp("repaired")
    )


@pytest.fixture(scope="session")
def purified(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """BadNets on digits and a purification."""
    return finished(tiny_spec("jpeg"), tmp_path_factory.mktemp("purified"))


@pytest.fixture(scope="session")
def targeted(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Three trials of a targeted attack, no defense."""
    spec = make_spec("digits", "bullseye_polytope", "none", overrides=WITHOUT_MODEL | {"clean_images": 0})
    return finished(spec, tmp_path_factory.mktemp("targeted"))


@pytest.fixture(scope="session")
def unattacked(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Nobody attacks, and nothing defends: the control is all there is."""
    return finished(
        make_spec("digits", "none", "none", overrides=TINY), tmp_path_factory.mktemp("unattacked")
    )
