"""What tests share: a results folder of their own and experiments that take a fraction of a second."""

import os
import shutil

# Before torch is imported; small tensors gain nothing from more threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from core_helpers import tiny_spec

from poisonlab.cache.stage_cache import StageCache
from poisonlab.measure import catalogue
from poisonlab.pipeline.experiment import Result
from poisonlab.spec import stages
from poisonlab.spec.config import ExperimentSpec
from poisonlab.store import Store
from poisonlab.store.store import DATABASE

MOST_WORKERS = 4  # each imports torch and holds a copy of the small networks that tests share


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The whole suite runs on the cores of this machine; what is asked for by name runs in one process."""
    if config.args_source != pytest.Config.ArgsSource.TESTPATHS:
        return 0
    return min(os.cpu_count() or 1, MOST_WORKERS)


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> StageCache:
    """One cache of stages for the whole session: what several tests train is trained once, by one of the workers."""
    base = tmp_path_factory.getbasetemp()
    workers_share = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return StageCache(workers_share / "stages")


@pytest.fixture
def spec() -> Callable[..., ExperimentSpec]:
    return tiny_spec


@pytest.fixture(autouse=True)
def names_of_the_vocabularies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever run a test makes: its metrics stand in the catalogue, its stages in the vocabulary of stages."""

    def checked(result: Result, *args: Any, **fields: Any) -> None:
        created(result, *args, **fields)
        unknown = [name for name in result.metrics if catalogue.find(name) is None]
        assert not unknown, f"not in measure/catalogue.py: {unknown}"
        unknown = [name for name in (*result.timings, *result.cached) if stages.find(name) is None]
        assert not unknown, f"not in spec/stages.py: {unknown}"

    created = Result.__init__
    monkeypatch.setattr(Result, "__init__", checked)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty results folder, also the one that the environment names."""
    folder = tmp_path / "results"
    monkeypatch.setenv("POISONLAB_RESULTS", str(folder))
    return folder


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store that was just made; a copy of it opens faster than one is made."""
    folder = tmp_path_factory.mktemp("new")
    Store(folder, reference=folder / "no reference").close()
    return folder / DATABASE


@pytest.fixture
def store(results: Path, tmp_path: Path, new_database: Path) -> Iterator[Store]:
    """A store of its own, without the shipped runs."""
    results.mkdir()
    shutil.copy(new_database, results)
    opened = Store(results, reference=tmp_path / "reference")
    yield opened
    opened.close()
