"""Specs of other versions and other installations: readable, comparable, and runnable only where all of it is known."""

import pytest

from poisonlab.records.recorded_spec import MAX_ENTRIES, NotRunnable, RecordedSpec
from poisonlab.spec.config import make_spec
from poisonlab.spec.overrides import changed, written

PICTURES = {"name": "my_pictures", "params": {}}
BADNETS_2024 = {"name": "badnets_2024", "params": {"x": 1}}


def values(**parts):
    """A spec as JSON values, with whole parts replaced."""
    return make_spec("digits", "badnets", "awm").model_dump(mode="json") | parts


def test_a_known_spec_comes_back_as_it_was():
    spec = make_spec("digits", "badnets", "awm", seed=3, overrides={"attack.poison_rate": 0.05})
    recorded = RecordedSpec.of(spec)
    assert recorded.experiment() == spec
    assert recorded.group() == spec.group()
    assert recorded.model_dump() == spec.model_dump(mode="json")
    assert recorded.training.canonical() == spec.training.canonical()
    assert changed(recorded) == changed(spec) == {"attack.poison_rate": 0.05}
    assert (recorded.obstacle(), recorded.unsaid()) == ("", [])


def test_values_are_read_by_attribute_and_absent_ones_are_none():
    recorded = RecordedSpec(values())
    assert recorded.attack.name == "badnets" and recorded.attack.params.patch_size == 3
    assert recorded.training.epochs == values()["training"]["epochs"]
    assert recorded.attack.params.wavelength is None
    assert recorded.cooling is None


@pytest.mark.parametrize(
    ("change", "obstacle"),
    [
        ({"dataset": PICTURES}, "made with dataset 'my_pictures', which is not installed here"),
        ({"attack": BADNETS_2024}, "made with attack 'badnets_2024', which is not installed here"),
        (
            {"defense": {"name": "awm", "params": {"turns": 3}}},
            "parameter 'turns' of defense 'awm' is unknown here",
        ),
        ({"training": {"epochs": 5000}}, "training.epochs is 5000, at most 1000 today"),
        ({"clean_images": -1}, "clean_images is -1, at least 0 today"),
        ({"cooling": 1}, "field 'cooling' of the spec is unknown here"),
        ({"preset": "full_2030"}, "preset: Input should be"),
    ],
)
def test_what_cannot_be_run_here_says_why_and_stays_readable(change, obstacle):
    recorded = RecordedSpec(values(**change))
    assert recorded.obstacle().startswith(obstacle)
    with pytest.raises(NotRunnable, match=obstacle.split(",")[0]):
        recorded.experiment()
    assert recorded.model_dump() == values(**change)
    assert len(recorded.group()) == 16
    assert isinstance(written(recorded), str)


def test_what_an_old_record_lacks_is_named_and_not_filled_in():
    old = values()
    del old["defense"]["params"]["rounds"], old["precision"]
    recorded = RecordedSpec(old)
    assert recorded.defense.params.rounds is None and recorded.precision is None
    assert recorded.unsaid() == ["defense.rounds", "precision"]
    assert recorded.group() != RecordedSpec(values()).group()
    assert "rounds" not in recorded.model_dump()["defense"]["params"]


def test_settings_of_methods_that_are_not_installed_are_left_out():
    recorded = RecordedSpec(values(attack={"name": "from_elsewhere", "params": {"x": 1}}))
    assert changed(recorded) == {}


def test_an_unknown_parameter_is_listed_among_the_settings():
    old = values()
    old["defense"]["params"]["turns"] = 3
    assert changed(RecordedSpec(old)) == {"defense.turns": 3}


@pytest.mark.parametrize("change", [{"clean_images": {"a": 1}}, {"training": 5}])
def test_a_value_of_another_shape_is_listed_among_the_settings(change):
    recorded = RecordedSpec(values(**change))
    (name, value), *_ = change.items()

    assert changed(recorded)[name] == value and written(recorded)


def test_equal_specs_are_equal_whatever_the_order():
    first = values()
    second = dict(reversed(first.items()))
    assert RecordedSpec(first) == RecordedSpec(second)
    assert hash(RecordedSpec(first)) == hash(RecordedSpec(second))


def deep(levels):
    return {"a": deep(levels - 1)} if levels else 1


@pytest.mark.parametrize(
    "change",
    [
        {"attack": None},
        {"attack": {"name": "../../etc"}},
        {"attack": {"name": "x" * 65}},
        {"attack": {"name": "badnets", "params": 3}},
        {"attack": {"name": "badnets", "params": {"<b>": 1}}},
        {"attack": {"name": "badnets", "params": deep(9)}},
        {"attack": {"name": "badnets", "params": {"list": [0] * MAX_ENTRIES}}},
        {"attack": {"name": "badnets", "params": {"rate": float("nan")}}},
        {"attack": {"name": "badnets", "params": {"count": 10**30}}},
        {"attack": {"name": "badnets", "params": {"text": "x" * 20_001}}},
        {"attack": {"name": "badnets", "params": {"text": "half of an emoji: \ud83d"}}},
        {"seed": -1},
        {"seed": 2**31},
        {"seed": True},
        {"preset": 3},
    ],
)
def test_what_could_do_harm_is_refused(change):
    with pytest.raises(ValueError, match="spec|parameter|number|name"):
        RecordedSpec(values(**change))
