"""Estimates: only finished runs, stage by stage, scaled by the work."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from core_helpers import tiny_spec
from store_helpers import add, record_of, ship

from poisonlab.records.recorded_spec import RecordedSpec
from poisonlab.runner import cost
from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.spec.stages import Stage
from poisonlab.store import Store
from poisonlab.store.estimate import StageEstimate
from poisonlab.store.flat_spec import FlatSpec
from poisonlab.store.work import work

TOOK = {"poison": 1.0, "control": 20.0, "victim": 20.0, "repair": 4.0, "drive": 0.5, "evaluate": 2.0}


@pytest.fixture
def spec() -> Callable[..., ExperimentSpec]:
    """A small experiment with a repair."""
    return partial(tiny_spec, "awm")


def measured(spec, took=TOOK, **fields):
    """A record of a run whose stages took so long."""
    more = {name: fields.pop(name) for name in ("cached", "logs", "device") if name in fields}
    return record_of(spec, **fields).model_copy(update={"timings": dict(took), **more})


def expected(store: Store, spec) -> dict[str, float | None]:
    return {each.stage: each.seconds for each in store.estimates.of(spec, "cpu").stages}


def test_without_any_run_nothing_is_known(store, spec):
    found = store.estimates.of(spec(), "cpu")

    assert found.seconds is None and found.cached == [] and found.peak_memory_mb is None
    assert {Stage.POISON, Stage.CONTROL, Stage.VICTIM, Stage.REPAIR, Stage.EVALUATE} <= set(found.unknown)


def test_a_run_like_a_finished_one_takes_as_long(store, spec):
    add(store, measured(spec()))

    assert store.estimates.of(spec(seed=5), "cpu").seconds == pytest.approx(sum(TOOK.values()))


@pytest.mark.parametrize("value", [-1, 0, 1e308, -1e308, 2**62])
@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("training", "epochs"),
        ("training", "batch_size"),
        ("dataset", "train_images"),
        ("dataset", "test_images"),
        ("dataset", "size"),
        ("victim", "width"),
        ("attack", "targets"),
        ("defense", "rounds"),
        ("defense", "copies"),
    ],
)
def test_a_record_with_values_beyond_all_bounds_stops_no_estimate(store, spec, part, name, value):
    add(store, measured(spec()))
    values = spec(seed=1).model_dump(mode="json")
    values[part].get("params", values[part])[name] = value
    add(store, measured(RecordedSpec.of(values)))

    found = expected(store, spec(training__epochs=7))

    assert all(seconds is not None and 0 <= seconds < 1e6 for seconds in found.values())


def test_a_hundred_times_the_epochs_take_a_hundred_times_the_victims_time(store, spec):
    add(store, measured(spec(training__epochs=10)))

    found = expected(store, spec(training__epochs=1000))

    assert found["victim"] == found["control"] == pytest.approx(2000.0)
    assert found["repair"] == pytest.approx(4.0) and found["evaluate"] == pytest.approx(2.0)


def test_more_images_take_longer_where_they_are_trained_or_tested_on(store, spec):
    add(store, measured(spec(dataset__train_images=100, dataset__test_images=50)))

    found = expected(store, spec(dataset__train_images=300, dataset__test_images=100))

    assert found["victim"] == pytest.approx(60.0) and found["evaluate"] == pytest.approx(4.0)
    assert found["repair"] == pytest.approx(4.0)


def test_rounds_of_a_defense_and_epochs_in_each_multiply(store, spec):
    add(store, measured(spec(defense__rounds=2, defense__inner_epochs=1)))

    found = expected(store, spec(defense__rounds=6, defense__inner_epochs=2))

    assert found["repair"] == pytest.approx(4.0 * 3 * 2) and found["victim"] == pytest.approx(20.0)


def test_epochs_of_a_teacher_and_of_its_student_add_up():
    def of(**epochs: int) -> float:
        overrides = {f"defense.{name}": count for name, count in epochs.items()}
        spec = make_spec("digits", "badnets", "nad", overrides=overrides)
        return work(Stage.REPAIR, FlatSpec.of(spec.model_dump(mode="json")))

    usual = of(epochs=10, teacher_epochs=10)
    assert of(epochs=30, teacher_epochs=10) / usual == pytest.approx(2.0)


def test_another_kind_of_generative_model_says_nothing(store):
    quick = make_spec("digits", "badnets", "puregen_ebm")
    took = {"poison": 1.0, "control": 20.0, "victim": 20.0, "ebm": 90.0, "purify": 30.0, "evaluate": 2.0}
    add(store, measured(quick, took | {"purify_poisons": 3.0, "defended_victim": 20.0}))

    larger = make_spec("digits", "badnets", "puregen_ebm", overrides={"defense.architecture": "sngan"})

    assert store.estimates.of(quick, "cpu").unknown == []
    assert store.estimates.of(larger, "cpu").unknown == [Stage.EBM, Stage.PURIFY, Stage.PURIFY_POISONS]


def test_a_larger_network_takes_longer(store):
    small = make_spec("digits", "badnets", "awm", overrides={"victim.width": 8})
    add(store, measured(small))

    found = expected(store, make_spec("digits", "badnets", "awm", overrides={"victim.width": 64}))

    assert 10 < found["victim"] / TOOK["victim"] < 64


def test_each_target_brings_a_victim_of_its_own(store):
    def spec(targets: int):
        return make_spec("digits", "metapoison", "none", overrides={"attack.targets": targets})

    add(store, measured(spec(2), poison_success=0.5, clean_accuracy=0.9))

    found = store.estimates.of(spec(6), "cpu").stages
    seconds = {each.stage: each.seconds for each in found}
    passes = {each.stage: each.passes for each in found}
    assert seconds["victim"] == pytest.approx(60.0) and seconds["control"] == pytest.approx(20.0)
    assert passes["victim"] == 6 and passes["control"] == 1


@pytest.mark.parametrize("state", ["cancelled", "failed"])
def test_a_run_that_did_not_finish_never_counts(store, spec, state):
    add(store, measured(spec(), state=state))
    assert store.estimates.of(spec(), "cpu").seconds is None

    add(store, measured(spec()))
    before = store.estimates.of(spec(), "cpu")
    add(store, measured(spec(seed=1), dict.fromkeys(TOOK, 0.01), state=state, day=3))

    assert store.estimates.of(spec(), "cpu") == before


def test_stages_from_the_cache_and_resumed_ones_are_no_measurements(store, spec):
    add(store, measured(spec()))
    before = expected(store, spec(seed=9))
    add(store, measured(spec(seed=1), TOOK | {"victim": 0.0}, cached=["victim"], day=1))
    resumed = [("control", "info", "goes on after 19 s of an interrupted attempt")]
    add(store, measured(spec(seed=2), TOOK | {"control": 0.1}, logs=resumed, day=2))

    assert expected(store, spec(seed=9)) == before


def test_another_type_of_device_says_nothing(store, spec):
    add(store, measured(spec(), device="cuda (NVIDIA H200)"))

    assert store.estimates.of(spec(), "cpu").seconds is None
    assert store.estimates.of(spec(), "cuda").seconds == pytest.approx(sum(TOOK.values()))


def test_a_training_that_was_never_measured_is_like_another_of_the_same_recipe(store, spec):
    add(store, measured(spec(training__epochs=5), {"victim": 10.0}))

    assert expected(store, spec(training__epochs=10))["control"] == pytest.approx(20.0)


def test_more_trusted_images_are_counted_with_the_copies_made_of_few(store, spec):
    add(store, measured(spec(clean_images=20)))

    ratio = expected(store, spec(clean_images=40))["repair"] / TOOK["repair"]

    assert 1.5 < ratio < 2.01


# -- other machines ---------------------------------------------------------------------------------------


@pytest.fixture
def shipped_store(results: Path, tmp_path: Path, spec):
    """A store with a shipped run of another machine."""
    ship([measured(spec(seed=7))], tmp_path / "reference")
    opened = Store(results, reference=tmp_path / "reference")
    yield opened
    opened.close()


def test_shipped_runs_are_said_to_be_from_elsewhere(shipped_store, spec):
    found = shipped_store.estimates.of(spec(), "cpu")

    assert found.elsewhere and found.seconds == pytest.approx(sum(TOOK.values()))


def test_a_run_of_this_machine_comes_before_shipped_ones(shipped_store, spec):
    slower = {stage: 3 * seconds for stage, seconds in TOOK.items()}
    add(shipped_store, measured(spec(seed=1), slower))

    found = shipped_store.estimates.of(spec(), "cpu")

    assert not found.elsewhere and found.seconds == pytest.approx(3 * sum(TOOK.values()))


def test_shipped_seconds_are_those_of_this_machine_once_its_pace_is_known(shipped_store, spec):
    slower = {stage: 3 * TOOK[stage] for stage in ("poison", "control", "victim")}
    add(shipped_store, measured(spec(seed=1), slower))

    assert expected(shipped_store, spec())["repair"] == pytest.approx(3 * TOOK["repair"])


# -- several runs -----------------------------------------------------------------------------------------


def test_a_stage_that_runs_share_is_counted_once(store, spec):
    add(store, measured(spec()))
    specs = [spec(), spec(defense__rounds=1), spec(seed=1)]

    found = cost.of(store, specs, "cpu")
    stages = [each.stage for each in found.computed]

    assert stages.count(Stage.VICTIM) == stages.count(Stage.CONTROL) == 2  # one for each seed
    assert stages.count(Stage.REPAIR) == stages.count(Stage.EVALUATE) == 3
    assert found.seconds < sum(store.estimates.of(each, "cpu").seconds for each in specs)


def test_without_a_cache_nothing_is_shared(store, spec):
    add(store, measured(spec()))
    specs = [spec(), spec(defense__rounds=1)]

    found = cost.of(store, specs, "cpu", cache=False)

    assert found.seconds == pytest.approx(sum(store.estimates.of(each, "cpu").seconds for each in specs))


def test_a_cost_in_words_names_the_longest_stages_first():
    stages = [(Stage.POISON, 0.4), (Stage.CONTROL, 61.0), (Stage.VICTIM, 58.0), (Stage.CONTROL, 60.0)]
    known = cost.Cost(tuple(StageEstimate(stage, seconds) for stage, seconds in stages), (Stage.EBM,), None)
    partly = cost.Cost((*known.computed, StageEstimate(Stage.REPAIR, None)), (), None)

    assert cost.time(known) == "2 min 59 s"
    assert cost.longest(known) == "Control 2 min 1 s, Undefended victim 58 s"
    assert cost.origin(known)[0] == "The time is from runs on this machine."
    assert cost.time(partly) == "2 min 59 s + unknown"
    assert cost.origin(partly)[1] == "Nothing alike was ever measured of: Repair."


def test_paper_without_a_gpu_is_asked_about_where_it_is_long_or_unknown(store):
    paper = make_spec("cifar10", "badnets", "none", preset="paper")
    digits = make_spec("digits", "badnets", "none", preset="paper")
    quick = make_spec("cifar10", "badnets", "none")

    def asks(spec, device_type="cpu"):
        return cost.asks_twice(spec, cost.of(store, [spec], device_type), device_type)

    assert asks(paper) and not asks(digits) and not asks(quick) and not asks(paper, "cuda")
    took = {"poison": 1.0, "control": 50.0, "victim": 50.0, "evaluate": 2.0}
    add(store, measured(paper, took))
    add(store, measured(digits, {name: 100 * seconds for name, seconds in took.items()}))
    assert not asks(paper) and asks(digits)
