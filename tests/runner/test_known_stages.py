"""The cache is said to hold a stage only where a finished run found or stored it under exactly the same key."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from core_helpers import tiny_spec

from poisonlab.events import Cancelled, StageFinished
from poisonlab.runner import known_stages
from poisonlab.runner.known_stages import cached_stages
from poisonlab.runner.recorder import run_and_record
from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.spec.shared import decided_by
from poisonlab.spec.stages import Scope, Stage

ATTACK_SIDE = {Stage.POISON, Stage.CONTROL, Stage.VICTIM}


@pytest.fixture
def spec() -> Callable[..., ExperimentSpec]:
    """A small experiment with a repair."""
    return partial(tiny_spec, "awm", defense__rounds=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[ExperimentSpec, Path]:
    """A run and the cache that it left."""
    folder = tmp_path_factory.mktemp("known")
    spec = tiny_spec("awm", defense__rounds=1)
    record = run_and_record(spec, folder / "runs", device="cpu", cache_root=folder / "cache")
    assert record.state == "done", record.message
    return spec, folder / "cache"


def test_an_exact_repeat_is_in_the_cache(finished):
    spec, cache = finished

    assert {*ATTACK_SIDE, Stage.REPAIR} <= cached_stages(spec, "cpu", cache)


def test_what_is_known_is_what_a_repeat_takes_from_the_cache(finished, tmp_path):
    spec, cache = finished
    known = cached_stages(spec, "cpu", cache)

    again = run_and_record(spec, tmp_path, device="cpu", cache_root=cache)

    assert {Stage(name) for name in again.cached} <= known
    assert cached_stages(spec, "cpu", cache) == known


def test_another_seed_is_not(finished, spec):
    assert not cached_stages(spec(seed=1), "cpu", finished[1])


def test_another_defense_finds_the_poison_and_the_victim(finished, spec):
    assert cached_stages(tiny_spec("ft"), "cpu", finished[1]) == ATTACK_SIDE


def test_another_recipe_or_device_finds_nothing(finished, spec):
    assert not cached_stages(spec(training__epochs=9), "cpu", finished[1])
    assert not cached_stages(spec(), "cuda", finished[1])


def test_other_files_of_data_find_nothing(finished, spec, tmp_path, monkeypatch):
    (tmp_path / "cifar10.bin").write_bytes(b"other pictures")
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path))

    assert not cached_stages(spec(), "cpu", finished[1])


def test_other_code_finds_nothing(finished, spec, monkeypatch):
    monkeypatch.setattr(known_stages, "_code", lambda methods: "edited")

    assert not cached_stages(spec(), "cpu", finished[1])


def test_a_stage_that_was_evicted_is_not_in_the_cache(finished, spec, tmp_path):
    cache = tmp_path / "cache"
    shutil.copytree(finished[1], cache)
    for folder in cache.glob("victim-*"):
        shutil.rmtree(folder)

    known = cached_stages(spec(), "cpu", cache)

    assert Stage.VICTIM not in known and Stage.CONTROL in known


def test_a_cancelled_run_leaves_nothing_known(spec, tmp_path):
    def cancel(event: object) -> None:
        if isinstance(event, StageFinished) and event.stage == "victim":
            raise Cancelled

    record = run_and_record(
        spec(), tmp_path / "runs", device="cpu", cache_root=tmp_path / "cache", send=cancel
    )

    assert record.state == "cancelled" and list((tmp_path / "cache").glob("victim-*"))
    assert not cached_stages(spec(), "cpu", tmp_path / "cache")


def test_public_images_with_the_trigger_depend_on_the_attack():
    def decided(attack: str, share: float) -> str:
        overrides = {"public_poison": share} if share else {}
        spec = make_spec("digits", attack, "puregen_ebm", overrides=overrides)
        return decided_by(spec, Scope.PUBLIC)

    assert decided("badnets", 0.0) == decided("blend", 0.0)
    assert decided("badnets", 0.5) != decided("blend", 0.5)


def test_what_a_killed_process_left_of_a_file_is_removed(finished, tmp_path):
    spec, cache = finished
    files = list((cache / "known").iterdir())
    for file in files:
        file.with_name(f".{file.name}.0123abcd.tmp").write_text("{")

    run_and_record(spec, tmp_path, device="cpu", cache_root=cache)

    assert sorted((cache / "known").iterdir()) == sorted(files)
