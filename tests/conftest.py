"""What tests share: a results folder of their own and experiments that take a fraction of a second."""

import os

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch is imported; small tensors gain nothing from more

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from core_helpers import tiny_spec

from poisonlab.spec.config import ExperimentSpec
from poisonlab.store import Store


@pytest.fixture
def spec() -> Callable[..., ExperimentSpec]:
    return tiny_spec


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty results folder, also the one that the environment names."""
    folder = tmp_path / "results"
    monkeypatch.setenv("POISONLAB_RESULTS", str(folder))
    return folder


@pytest.fixture
def store(results: Path, tmp_path: Path) -> Iterator[Store]:
    """A store of its own, without the shipped runs."""
    opened = Store(results, reference=tmp_path / "reference")
    yield opened
    opened.close()
