"""Specs that cannot be are refused in one line that says what is allowed."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from poisonlab import registry
from poisonlab.registry import Registry, UnknownName
from poisonlab.spec.config import (
    PRESETS,
    Config,
    ExperimentSpec,
    SpecError,
    TrainingConfig,
    digest,
    make_spec,
    param,
    published_value,
)


def refused(**overrides: Any) -> str:
    """The message for overrides written ``attack__poison_rate=2``."""
    with pytest.raises(SpecError) as caught:
        make_spec(
            "digits", "badnets", "awm", overrides={k.replace("__", "."): v for k, v in overrides.items()}
        )
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "names", [("nope", "badnets", "none"), ("digits", "nope", "none"), ("digits", "badnets", "nope")]
)
def test_an_unknown_method_lists_the_choices(names: tuple[str, str, str]) -> None:
    with pytest.raises(UnknownName) as caught:
        make_spec(*names)

    kind = ("dataset", "attack", "defense")[names.index("nope")]
    assert str(caught.value) == f"unknown {kind} 'nope'; choose one of: {', '.join(registry.KINDS[kind])}"


def test_an_unknown_victim_lists_the_choices() -> None:
    with pytest.raises(UnknownName, match="unknown victim 'vgg'; choose one of: .*resnet8"):
        make_spec("digits", "badnets", "none", victim="vgg")


def test_a_value_out_of_range_names_field_bound_and_value() -> None:
    assert refused(attack__poison_rate=2) == (
        "attack.poison_rate: Input should be less than or equal to 1 (got 2)"
    )


def test_several_wrong_values_are_named_together() -> None:
    said = refused(training__lr=-1, training__epochs=0)

    assert "training.lr" in said and "training.epochs" in said


def test_a_wrong_choice_lists_the_choices() -> None:
    assert "'all_to_one' or 'all_to_all'" in refused(attack__mapping="some")


def test_an_unknown_parameter_lists_the_parameters() -> None:
    said = refused(attack__poisonrate=0.1)

    assert said.startswith("unknown parameter 'attack.poisonrate'; choose one of: attack.target_class")


def test_an_unknown_part_lists_the_parts() -> None:
    assert "unknown part 'atack' in 'atack.poison_rate'; choose one of: dataset, victim" in refused(
        atack__poison_rate=0.1
    )


def test_a_parameter_without_its_part_is_told_the_form() -> None:
    assert refused(poison_rate=0.1).endswith("or part.param")


def test_a_method_without_parameters_says_so() -> None:
    with pytest.raises(SpecError, match="none: defense has no parameters"):
        make_spec("digits", "badnets", "none", overrides={"defense.rounds": 3})


def test_an_attack_under_the_wrong_protocol_names_the_right_one() -> None:
    assert "'badnets' runs under from_scratch, not 'linear_transfer'" in refused(protocol="linear_transfer")


@pytest.mark.parametrize(
    "name",
    [
        "training__epochs",
        "training__lr",
        "dataset__train_images",
        "attack__poison_rate",
        "clean_images",
        "seed",
    ],
)
def test_a_truth_value_is_no_number(name: str) -> None:
    said = refused(**{name: True})

    assert f"{name.replace('__', '.')}: must be a number, not true" in said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "fast"}, "preset: 'fast' is not one of quick, full, paper"),
        ({"preset": None}, "preset: 'None' is not one of"),
        ({"victim": 3}, "victim: takes a name, not int"),
        ({"overrides": ["seed"]}, "overrides: takes values by dotted names"),
        ({"overrides": {3: 1}}, "overrides: takes values by dotted names"),
    ],
)
def test_arguments_of_another_type_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make_spec("digits", "badnets", "none", **given)


@pytest.mark.parametrize("part", ["train", "head", "pretrain", "reserve", "public", "test"])
@pytest.mark.parametrize(
    "dataset", [name for name in registry.dataset if hasattr(registry.dataset[name], "image_counts")]
)
def test_more_images_than_any_dataset_has_are_refused(dataset: str, part: str) -> None:
    with pytest.raises(SpecError, match=rf"dataset\.{part}_images"):
        make_spec(dataset, "badnets", "none", overrides={f"dataset.{part}_images": 10**18})


@pytest.mark.parametrize(
    "dataset", [name for name in registry.dataset if hasattr(registry.dataset[name], "image_counts")]
)
def test_more_images_than_the_dataset_has_are_refused_before_it_is_loaded(
    dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, _ = registry.dataset[dataset].image_counts
    monkeypatch.delattr(registry.dataset[dataset], "load")
    with pytest.raises(SpecError, match="train_images"):
        make_spec(dataset, "badnets", "none", overrides={"dataset.train_images": pool + 1})


@pytest.mark.parametrize("kind", ["attack", "defense", "dataset", "victim"])
def test_every_number_has_an_upper_bound(kind: str) -> None:
    unbounded = [
        f"{name}.{field}"
        for name in registry.KINDS[kind]
        for field, info in registry.KINDS[kind][name].Config.model_fields.items()
        if info.annotation in (int, float)
        and not any(hasattr(bound, "le") or hasattr(bound, "lt") for bound in info.metadata)
    ]
    assert not unbounded


@pytest.mark.parametrize(
    ("attack", "dataset", "overrides"),
    [
        ("badnets", "digits", {"attack.target_class": 10}),
        ("none", "gtsrb", {"attack.target_class": 43}),
        ("gradient_matching", "cifar3", {"attack.source_class": 3}),
        ("badnets", "tiny_imagenet", {"attack.target_class": 5, "dataset.classes": 5}),
        ("label_noise", "digits", {"attack.pairs": "1-12"}),
        ("input_corruption", "cifar3", {"attack.affected_classes": 4}),
    ],
)
def test_a_class_that_the_dataset_lacks_is_refused(
    attack: str, dataset: str, overrides: dict[str, Any]
) -> None:
    with pytest.raises(SpecError, match=rf"attack\..* the \d+ classes.* of {dataset}"):
        make_spec(dataset, attack, "none", overrides=overrides)


def test_a_recorded_spec_of_a_class_that_the_dataset_lacks_is_refused_too() -> None:
    values = make_spec("digits", "badnets", "none").model_dump(mode="json")
    values["attack"]["params"]["target_class"] = 10
    with pytest.raises(ValidationError, match="not among the 10 classes"):
        ExperimentSpec.model_validate(values)


def test_more_trusted_images_than_there_are_in_reserve_are_refused() -> None:
    assert "more than the 100 images in reserve" in refused(clean_images=101)


def test_so_they_are_for_a_detector_that_could_do_without() -> None:
    with pytest.raises(SpecError, match="more than the 100 images in reserve"):
        make_spec("digits", "badnets", "spectre", overrides={"clean_images": 101})


def test_a_long_value_is_shortened_in_the_message() -> None:
    assert len(refused(attack__mapping="x" * 100_000)) < 300
    assert len(refused(**{"x" * 100_000: 1})) < 400


def test_an_infinite_value_is_refused() -> None:
    assert "training.lr" in refused(training__lr=float("inf"))


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        make_spec("digits", "badnets", "none").seed = 1  # type: ignore[misc]


def test_a_spec_takes_no_unknown_field() -> None:
    values = make_spec("digits", "badnets", "none").model_dump()
    with pytest.raises(ValidationError, match="extra"):
        ExperimentSpec.model_validate(values | {"surprise": 1})


def test_presets_differ_where_a_quick_value_is_declared() -> None:
    quick, paper = (
        make_spec("digits", "bullseye_polytope", "none", preset=p).attack.params for p in ("quick", "paper")
    )

    assert (quick.targets, paper.targets) == (20, 100)


def test_a_quick_value_may_depend_on_the_dataset() -> None:
    eps = [make_spec(d, "bullseye_polytope", "none").attack.params.eps for d in ("digits", "cifar10")]

    assert eps[0] != eps[1] == 8


def test_a_published_value_may_depend_on_the_dataset() -> None:
    class Method(Config):
        rho: float = param(2.0, "Radius", elsewhere={"gtsrb": 8.0}, quick={"*": 1.0, "cifar10": 3.0})

    assert [Method.for_preset("paper", d).rho for d in ("cifar10", "gtsrb")] == [2.0, 8.0]
    assert [Method.for_preset("quick", d).rho for d in ("cifar10", "gtsrb")] == [3.0, 1.0]


def test_a_backdoor_has_its_datasets_own_recipe_where_there_is_one() -> None:
    epochs = {
        (dataset, attack): make_spec(dataset, attack, "none").training.epochs
        for dataset in ("cifar10", "digits")
        for attack in ("badnets", "none", "label_noise")
    }
    paper = [
        make_spec("cifar10", attack, "none", preset="paper").training for attack in ("badnets", "label_noise")
    ]
    transfer = make_spec("cifar10", "bullseye_polytope", "none").training

    assert epochs["cifar10", "badnets"] == epochs["cifar10", "none"] > epochs["cifar10", "label_noise"]
    assert transfer.epochs == epochs["cifar10", "label_noise"]
    assert len({epochs["digits", attack] for attack in ("badnets", "none", "label_noise")}) == 1
    assert paper[0] == paper[1]


def test_an_override_replaces_one_value_only() -> None:
    plain, changed = (
        make_spec("digits", "badnets", "none", overrides=o) for o in ({}, {"training.lr": 0.01})
    )

    assert changed.training == plain.training.model_copy(update={"lr": 0.01})
    assert changed.model_copy(update={"training": plain.training}) == plain


def test_equal_values_hash_alike_in_any_order() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})


def test_the_preset_name_alone_makes_no_other_experiment() -> None:
    """Digits trains alike under both presets, so badnets without quick values is one experiment."""
    groups = {make_spec("digits", "badnets", "none", preset=p).group() for p in ("quick", "paper")}

    assert len(groups) == 1


def test_two_methods_cannot_take_one_name() -> None:
    kinds: Registry[Any] = Registry("attack", "poisonlab.attacks")
    kinds("twice")(type("First", (), {}))
    with pytest.raises(ValueError, match="attack 'twice' is registered twice"):
        kinds("twice")(type("Second", (), {}))


def test_training_defaults_are_checked_like_any_value() -> None:
    assert TrainingConfig().epochs == 100


NAMES = [
    "training.lr",
    "training.epochs",
    "training.schedule",
    "training.flip",
    "head.epochs",
    "attack.poison_rate",
    "attack.targets",
    "attack.eps",
    "defense.rounds",
    "dataset.train_images",
    "victim.width",
    "clean_images",
    "protocol",
    "precision",
    "seed",
    "preset",
    "attack",
    "dataset.name",
    "dataset.params",
    "nothing",
    "a.b.c",
    "",
    ".",
    "training.",
]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, 10**400, -(10**30)]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["cosine", "quick", "from_scratch", "linear_transfer", "float32"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
METHODS = {
    kind: st.sampled_from([*registry.KINDS[kind], "nope", ""]) for kind in ("dataset", "attack", "defense")
}


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.fixed_dictionaries(METHODS),
    st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=6)), VALUES, max_size=3),
)
def test_any_overrides_give_a_spec_or_one_line(names: dict[str, str], overrides: dict[str, Any]) -> None:
    try:
        spec = make_spec(**names, overrides=overrides)
    except (SpecError, UnknownName) as error:
        assert str(error) and len(str(error).splitlines()) == 1
    else:
        assert ExperimentSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_parameter_that_came_later_changes_no_older_experiment() -> None:
    """Left out of what is written where it is not made use of, so that groups and keys are those of older records."""
    spec = make_spec("digits", "badnets", "none")
    written = spec.model_dump(mode="json")["training"]
    used = make_spec("digits", "badnets", "none", overrides={"training.lookahead": 0.95})

    assert not set(TrainingConfig.neutral) & set(written) and "lookahead" in spec.training.model_dump()
    assert used.model_dump(mode="json")["training"] == written | {"lookahead": 0.95}
    assert used.group() != spec.group()
    assert ExperimentSpec.model_validate(used.model_dump(mode="json")) == used


def test_a_later_parameter_may_have_a_published_value_that_its_absence_does_not_stand_for() -> None:
    class Method(Config):
        recipe: str = param("published", "How", quick="own", neutral="own")

    presets = {preset: Method.for_preset(preset, "cifar10") for preset in PRESETS}

    assert {p: c.recipe for p, c in presets.items()} == {
        "quick": "own",
        "full": "published",
        "paper": "published",
    }
    assert published_value(Method.model_fields["recipe"]) == "published"
    assert presets["quick"].canonical() == "{}" and Method.model_validate({}) == presets["quick"]
    assert Method.model_validate_json(presets["paper"].model_dump_json()) == presets["paper"]


def test_the_preset_full_has_its_own_values_and_else_the_published_ones() -> None:
    full = make_spec("cifar10", "badnets", "ft", preset="full")
    paper = make_spec("cifar10", "badnets", "ft", preset="paper")

    assert full.dataset == paper.dataset and full.attack == paper.attack
    assert full.victim.name == "hyperlight" and full.victim.params.whitening
    assert full.training.schedule == "triangle" and full.training.lookahead == 0.95
