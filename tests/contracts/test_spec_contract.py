"""What must hold for the parameters and the card of every method, and for every spec that can be made of them."""

import annotated_types as at
import pytest

from poisonlab import registry
from poisonlab.spec import describe
from poisonlab.spec.config import (
    PRESETS,
    Config,
    ExperimentSpec,
    FineTuneConfig,
    HeadConfig,
    TrainingConfig,
    make_spec,
)

METHODS = [(kind, name) for kind in registry.KINDS for name in registry.KINDS[kind]]
CONFIGS: dict[str, type[Config]] = {
    f"{kind}-{name}": registry.KINDS[kind][name].Config for kind, name in METHODS
}
CONFIGS |= {config.__name__: config for config in (TrainingConfig, HeadConfig, FineTuneConfig)}
ATTACKS, DEFENSES = list(registry.attack), list(registry.defense)

every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
every_method = pytest.mark.parametrize(("kind", "name"), METHODS, ids=lambda value: str(value))
every_attack = pytest.mark.parametrize("attack", ATTACKS)
every_dataset = pytest.mark.parametrize("dataset", list(registry.dataset))


@every_config
def test_every_parameter_is_described_and_bounded_and_its_published_value_is_valid(
    config: type[Config],
) -> None:
    fields = config.model_fields
    numbers = {name: field.metadata for name, field in fields.items() if field.annotation in (int, float)}
    undescribed = [name for name, field in fields.items() if not field.description]
    unbounded = [
        name for name, limits in numbers.items() if not any(isinstance(m, at.Ge | at.Gt) for m in limits)
    ]

    assert not undescribed, "parameters without a description"
    assert not unbounded, "numbers without a lower bound"
    assert config().canonical() == config(**config().model_dump()).canonical(), (
        "equal configs hash differently"
    )


@every_method
def test_every_method_has_a_card(kind: str, name: str) -> None:
    card = registry.KINDS[kind][name].card

    assert card.title and card.summary
    assert describe.describe(name, registry.KINDS[kind][name])["parameters"] is not None


def changed_by_json(dataset: str, attack: str, defense: str, preset: str) -> bool:
    """Whether a spec comes back from JSON as another."""
    spec = make_spec(dataset, attack, defense, preset=preset)
    return ExperimentSpec.model_validate_json(spec.model_dump_json()) != spec


@every_attack
def test_an_attack_makes_a_spec_with_every_defense(attack: str) -> None:
    for defense in DEFENSES:
        assert make_spec("digits", attack, defense).defense.name == defense


@every_dataset
@pytest.mark.parametrize("preset", PRESETS)
def test_every_method_makes_a_spec_on_a_dataset_that_survives_json(dataset: str, preset: str) -> None:
    pairs = [*((attack, "none") for attack in ATTACKS), *(("badnets", defense) for defense in DEFENSES)]

    assert not [pair for pair in pairs if changed_by_json(dataset, *pair, preset)]


@every_attack
def test_repeats_of_an_experiment_differ_in_the_seed_alone(attack: str) -> None:
    group = make_spec("digits", attack, "none").group()

    assert make_spec("digits", attack, "none", seed=5).group() == group
    assert make_spec("digits", attack, "none", overrides={"clean_images": 51}).group() != group
    assert make_spec("digits", attack, "none", victim="resnet9").group() != group
