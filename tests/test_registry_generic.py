"""What must hold for every registered attack, defense, victim and dataset. A new file is covered by being there."""

import inspect
import json
import typing

import annotated_types as at
import pytest
import torch
from core_helpers import (
    attackers_view,
    clean_model,
    digits,
    loaded,
    network,
    noise_images,
    same_state,
    small,
    state_of,
)

from poisonlab import registry
from poisonlab.attacks.shared.backdoor import BackdoorAttack
from poisonlab.context import Context
from poisonlab.data.base import divide
from poisonlab.defenses.base import Defense
from poisonlab.models.base import Classifier, channel_statistics
from poisonlab.pipeline.poison import check
from poisonlab.spec import describe
from poisonlab.spec.config import (
    PRESETS,
    Config,
    ExperimentSpec,
    FineTuneConfig,
    HeadConfig,
    Protocol,
    TrainingConfig,
    make_spec,
)
from poisonlab.training.loop import train_network
from poisonlab.types import (
    Backdoor,
    Corruption,
    Detection,
    ImageSet,
    Poison,
    SettingSweep,
    Splits,
    Targeted,
    Threat,
)

ATTACKS, DEFENSES = list(registry.attack), list(registry.defense)
DATASETS, VICTIMS = list(registry.dataset), list(registry.victim)
METHODS = [(kind, name) for kind in registry.KINDS for name in registry.KINDS[kind]]
CONFIGS: list[type[Config]] = [registry.KINDS[k][n].Config for k, n in METHODS]
CONFIGS += [TrainingConfig, HeadConfig, FineTuneConfig]
PROTOCOLS = typing.get_args(Protocol)
MOMENTS = ("prepare", "purify", "training_hook", "repair", "repair_with_suspects", "detect")

every_attack = pytest.mark.parametrize("name", ATTACKS)
every_poison = pytest.mark.parametrize("name", [name for name in ATTACKS if registry.attack[name].poisons])
every_defense = pytest.mark.parametrize("name", DEFENSES)
every_victim = pytest.mark.parametrize("name", VICTIMS)
every_dataset = pytest.mark.parametrize("name", DATASETS)
every_method = pytest.mark.parametrize(("kind", "name"), METHODS)
every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.__name__)


# -- attacks ------------------------------------------------------------------------------------------


def poison_of(name: str, seed: int = 1) -> Poison:
    kind = registry.attack[name]
    return small(kind).poison(attackers_view(kind.reads_public), Context(seed=seed))


@every_attack
def test_poisoning_changes_nothing_it_was_given(name: str) -> None:
    view = attackers_view(registry.attack[name].reads_public)
    given = (view.train.x, view.train.y, view.candidates.x, view.candidates.y)
    before = [tensor.clone() for tensor in given]
    weights = state_of(view.clean_model())

    small(registry.attack[name]).poison(view, Context(seed=1))

    assert all(torch.equal(now, then) for now, then in zip(given, before, strict=True))
    assert same_state(state_of(view.clean_model()), weights)


@every_attack
def test_the_same_seed_gives_the_same_poison(name: str) -> None:
    first, again = poison_of(name).tensors(), poison_of(name).tensors()

    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)


@every_poison
def test_another_seed_gives_another_poison(name: str) -> None:
    assert not torch.equal(poison_of(name, 1).index, poison_of(name, 2).index)


@every_poison
def test_poison_fits_the_training_set(name: str) -> None:
    train, poison = digits().train, poison_of(name)

    assert poison.images.dtype == torch.uint8
    assert poison.images.shape == (poison.trials, poison.budget, *train.shape)
    assert poison.labels.shape == poison.index.shape == (poison.trials, poison.budget)
    assert int(poison.index.min()) >= 0 and int(poison.index.max()) < len(train)
    assert int(poison.labels.min()) >= 0 and int(poison.labels.max()) < len(train.classes)


@every_attack
def test_no_row_is_poisoned_twice_in_a_trial(name: str) -> None:
    for rows in poison_of(name).index:
        assert len(rows.unique()) == len(rows)


@every_poison
def test_poison_changes_images_or_labels(name: str) -> None:
    train, poison = digits().train, poison_of(name)

    assert not (
        torch.equal(poison.images, train.x[poison.index])
        and torch.equal(poison.labels, train.y[poison.index])
    )


def test_attacks_that_call_themselves_clean_label_keep_labels() -> None:
    promised = [
        n for n in ATTACKS if "clean label" in registry.attack[n].card.threat_model.lower().replace("-", " ")
    ]

    assert "bullseye_polytope" in promised
    for name in promised:
        poison = poison_of(name)
        assert registry.attack[name].clean_label and torch.equal(
            poison.labels, digits().train.y[poison.index]
        ), name


@every_poison
def test_poison_keeps_what_its_attack_promises(name: str) -> None:
    check(poison_of(name), small(registry.attack[name]), digits().train)


@every_attack
def test_poison_survives_the_stage_cache(name: str) -> None:
    poison = poison_of(name)
    again = Poison.from_tensors(poison.tensors())

    assert again.state.keys() == poison.state.keys()
    assert torch.equal(again.images, poison.images)


@every_attack
def test_applying_a_poison_changes_its_rows_only(name: str) -> None:
    train, poison = digits().train, poison_of(name)
    poisoned = poison.apply(train, poison.trials - 1)
    others = torch.ones(len(train), dtype=torch.bool)
    others[poison.index[-1]] = False

    assert torch.equal(poisoned.x[others], train.x[others]) and torch.equal(
        poisoned.y[others], train.y[others]
    )
    assert torch.equal(poisoned.x[poison.index[-1]], poison.images[-1])


@every_attack
def test_threat_can_be_measured(name: str) -> None:
    test, poison = digits().test, poison_of(name)
    threat = small(registry.attack[name]).threat(poison, len(test.classes))

    if isinstance(threat, Backdoor):
        before = test.x.clone()
        triggered = threat.trigger(test.x)
        assert (
            torch.equal(test.x, before) and triggered.shape == test.x.shape and triggered.dtype == torch.uint8
        )
        wanted = threat.relabel(test.y)
        assert wanted.shape == test.y.shape and int(wanted.max()) < len(test.classes)
        if threat.target_class is not None:
            assert bool((wanted == threat.target_class).all())
    elif not isinstance(threat, Corruption):
        assert isinstance(threat, Targeted) and len(threat.images) == poison.trials
        assert bool((threat.true_labels != threat.adversarial_labels).all())


@every_attack
def test_what_an_attack_learns_in_training_settles_its_poison(name: str) -> None:
    attack, train = small(registry.attack[name]), digits().train
    poison = poison_of(name)

    def settled() -> Poison | None:
        """The poison after a short training with the attack's hook; None for an attack that leaves training alone."""
        ctx = Context(seed=1)
        hook = attack.training_hook(poison, ctx)
        if hook is None:
            return None
        model = network(train)
        train_network(model, train, TrainingConfig(epochs=1, batch_size=50), ctx, hook)
        assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
        return attack.finalize(poison, hook.learned(), train)

    first, again = settled(), settled()

    if first is None or again is None:
        assert first is again
        return
    assert torch.equal(first.index, poison.index) and torch.equal(first.labels, poison.labels)
    assert first.images.shape == poison.images.shape and first.images.dtype == torch.uint8
    threat = attack.threat(first, len(train.classes))
    assert isinstance(threat, Backdoor) and torch.equal(
        threat.trigger(train.x[first.index[0]]), first.images[0]
    )
    assert first.tensors().keys() == again.tensors().keys()
    assert all(torch.equal(value, again.tensors()[key]) for key, value in first.tensors().items())


# -- defenses -----------------------------------------------------------------------------------------


def prepared(name: str, seed: int = 1) -> Defense:
    defense = small(registry.defense[name])
    defense.prepare(digits().public, Context(seed=seed))
    return defense


@every_defense
def test_purification_keeps_shape_and_type_and_its_input(name: str) -> None:
    data = digits().train[:24]
    before = data.x.clone(), data.y.clone()

    purified = prepared(name).purify(data, Context(seed=1))

    assert torch.equal(data.x, before[0]) and torch.equal(data.y, before[1])
    assert (
        purified.x.dtype == torch.uint8 and purified.shape == data.shape and purified.classes == data.classes
    )
    assert len(purified.y) == len(purified.x) <= len(data)
    if registry.defense[name].per_image:
        assert len(purified) == len(data)


@every_defense
def test_the_same_seed_gives_the_same_purification(name: str) -> None:
    data = digits().train[:8]
    first, again = (prepared(name).purify(data, Context(seed=1)) for _ in range(2))

    assert torch.equal(first.x, again.x) and torch.equal(first.y, again.y)


def repaired_by(name: str, model: Classifier, clean: ImageSet) -> Classifier:
    """What the defense hands on: its model, or its own choice among the settings of its knob."""
    if registry.defense[name].overrides("repair_with_suspects"):
        return prepared(name).repair_with_suspects(model, clean, digits().train[:30], Context(seed=1))
    result = prepared(name).repair(model, clean, Context(seed=1))
    return result.apply(model, result.chosen) if isinstance(result, SettingSweep) else result


@every_defense
def test_repair_leaves_the_given_model_and_images_untouched(name: str) -> None:
    model, clean = clean_model(), digits().reserve[:20]
    given = (clean.x, digits().train.x, digits().train.y)
    before, images = state_of(model), [tensor.clone() for tensor in given]

    repaired = repaired_by(name, model, clean)

    assert same_state(state_of(model), before)
    assert all(torch.equal(now, then) for now, then in zip(given, images, strict=True))
    assert not model.training and not repaired.training
    if registry.defense[name].repairs():
        assert repaired is not model
    assert repaired(clean.x.float() / 255).shape == (20, 10)


@every_defense
def test_the_same_seed_gives_the_same_repair(name: str) -> None:
    model, clean = clean_model(), digits().reserve[:10]
    first, again = (repaired_by(name, model, clean) for _ in range(2))

    assert same_state(state_of(first), state_of(again))


@every_defense
def test_a_detection_fits_what_it_was_given_and_survives_the_cache(name: str) -> None:
    model, clean, suspects = clean_model(), digits().reserve[:20], digits().train[:30]
    before = state_of(model), clean.x.clone(), suspects.x.clone(), suspects.y.clone()

    found, twice = (prepared(name).detect(model, clean, suspects, Context(seed=1)) for _ in range(2))

    assert same_state(state_of(model), before[0]) and not model.training
    given = (clean.x, suspects.x, suspects.y)
    assert all(torch.equal(now, then) for now, then in zip(given, before[1:], strict=True))
    assert (found is not None) == registry.defense[name].overrides("detect")
    if found is None or twice is None:
        return
    assert found.class_scores.shape == (10,) and found.backdoored == (found.target is not None)
    for each_image in (found.sample_scores, found.flagged):
        assert each_image is None or each_image.shape == (30,)
    again = Detection.from_tensors(found.tensors(), json.loads(json.dumps(found.data())))
    for same in (again, twice):
        assert same.data() == found.data() and same_state(same.tensors(), found.tensors())


@every_defense
@pytest.mark.parametrize("moment", MOMENTS)
def test_overrides_tells_which_moments_a_class_changes(name: str, moment: str) -> None:
    kind = registry.defense[name]
    own = any(moment in vars(base) for base in kind.__mro__ if base not in (Defense, object))

    assert kind.overrides(moment) == own


@every_defense
def test_a_repair_uses_the_training_set_or_does_not(name: str) -> None:
    kind = registry.defense[name]

    assert not (kind.overrides("repair") and kind.overrides("repair_with_suspects"))


@every_defense
def test_a_defense_never_sees_threat_poison_or_test_set(name: str) -> None:
    forbidden = ("threat", "poison", "index", "test")
    for method in [getattr(registry.defense[name], m) for m in (*MOMENTS, "energy", "trace")]:
        for parameter in inspect.signature(method).parameters:
            assert not any(word in parameter for word in forbidden), f"{method.__qualname__}({parameter})"
        hints = {k: v for k, v in typing.get_type_hints(method).items() if k != "return"}
        assert not {Threat, Poison, Splits, Backdoor, Targeted, Corruption} & set(hints.values())


@every_defense
def test_what_a_defense_shows_fits_its_images(name: str) -> None:
    defense, x = prepared(name), digits().train.x[:5]
    energy, chain = defense.energy(x), defense.trace(x, Context())

    assert energy is None or energy.shape == (5,)
    assert chain is None or (
        chain.states.shape[1:] == x.shape and chain.energies.shape == chain.states.shape[:2]
    )


# -- victims ------------------------------------------------------------------------------------------


@every_victim
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 16), (3, 32, 32)], ids=str)
def test_victim_takes_images_of_a_shape(name: str, shape: tuple[int, int, int]) -> None:
    method = registry.victim[name]
    mean, std = channel_statistics(noise_images(8, shape).x)
    model = method(method.Config.for_preset("quick", "digits")).network(shape, 7, mean, std).eval()
    x = torch.rand(2, *shape)

    with torch.inference_mode():
        features, logits = model.features(x), model(x)
        from_features = model.head(features) * model.logit_scale

    assert logits.shape == (2, 7) and features.shape == (2, model.head.in_features)
    assert torch.equal(logits, from_features)


@pytest.mark.parametrize(("name", "parameters"), [("resnet18", 11_173_962), ("resnet8", 78_042)])
def test_victim_has_the_published_size(name: str, parameters: int) -> None:
    method = registry.victim[name]
    model = method(method.Config()).network((3, 32, 32), 10, torch.zeros(3), torch.ones(3))

    assert sum(p.numel() for p in model.parameters()) == parameters


def test_resnet8_has_336_batch_norm_channels() -> None:
    method = registry.victim["resnet8"]
    model = method(method.Config()).network((3, 32, 32), 10, torch.zeros(3), torch.ones(3))

    assert sum(m.num_features for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)) == 336


# -- datasets -----------------------------------------------------------------------------------------


def rows_of(x: torch.Tensor) -> set[bytes]:
    return {image.tobytes() for image in x.numpy()}


@every_dataset
def test_loaded_images_are_labeled_bytes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, test, _ = loaded(name, monkeypatch)

    assert pool.shape == test.shape and pool.classes == test.classes
    assert set(pool.y.tolist()) == set(test.y.tolist()) == set(range(len(pool.classes)))


@every_dataset
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("preset", PRESETS)
def test_the_attacked_set_shares_no_image_with_any_other_part(
    name: str, preset: str, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, test, config = loaded(name, monkeypatch, preset)
    if config.test_images > len(test):
        pytest.skip(f"only {len(test)} of the {config.test_images} test images of {name} are on this machine")
    splits = divide(pool, test, config, protocol)
    parts = {
        part: rows_of(getattr(splits, part).x) for part in ("train", "test", "reserve", "public", "pretrain")
    }

    assert len(splits.train) and len(splits.public)
    for part in ("test", "reserve", "public", "pretrain"):
        assert not parts["train"] & parts[part], part
    assert not parts["test"] & (parts["reserve"] | parts["public"] | parts["pretrain"])
    assert not parts["reserve"] & parts["pretrain"]


@every_dataset
def test_the_division_is_always_the_same_and_balanced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, test, config = loaded(name, monkeypatch)
    first, again = (divide(pool, test, config, "from_scratch") for _ in range(2))

    assert torch.equal(first.train.x, again.train.x) and torch.equal(first.test.y, again.test.y)
    if len(torch.bincount(pool.y).unique()) > 1:
        return  # shares of an uneven set: test_data
    for part in (first.train, first.train[: 10 * len(pool.classes) + 3], first.reserve):
        counts = torch.bincount(part.y, minlength=len(pool.classes))
        assert int(counts.max() - counts.min()) <= 1


@every_dataset
def test_every_quick_attack_finds_the_images_it_changes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, test, config = loaded(name, monkeypatch)
    for attack in ATTACKS:
        spec = make_spec(name, attack, "none")
        train, method = divide(pool, test, config, spec.protocol).train, spec.attack.build()
        if isinstance(method, BackdoorAttack):
            assert len(method._rows(train, Context())), attack
        elif wanted := getattr(spec.attack.params, "poisons", 0):
            assert wanted <= int(torch.bincount(train.y).min()), attack


# -- parameters ---------------------------------------------------------------------------------------


@every_config
def test_every_parameter_says_what_it_means(config: type[Config]) -> None:
    assert not [name for name, field in config.model_fields.items() if not field.description]


@every_config
def test_every_number_has_a_bound(config: type[Config]) -> None:
    numbers = {n: f for n, f in config.model_fields.items() if f.annotation in (int, float)}

    assert not [n for n, f in numbers.items() if not any(isinstance(m, at.Ge | at.Gt) for m in f.metadata)]


@every_config
def test_published_values_are_valid_and_equal_configs_hash_alike(config: type[Config]) -> None:
    assert config().canonical() == config(**config().model_dump()).canonical()


@every_method
def test_every_method_has_a_card(kind: str, name: str) -> None:
    card = registry.KINDS[kind][name].card

    assert card.title and card.summary
    assert describe.describe(name, registry.KINDS[kind][name])["parameters"] is not None


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("defense", DEFENSES)
def test_every_pair_makes_a_spec(attack: str, defense: str) -> None:
    assert make_spec("digits", attack, defense).defense.name == defense


@every_dataset
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    ("attack", "defense"), [*((a, "none") for a in ATTACKS), *(("badnets", d) for d in DEFENSES)]
)
def test_every_preset_makes_a_spec_that_survives_json(
    name: str, preset: str, attack: str, defense: str
) -> None:
    spec = make_spec(name, attack, defense, preset=preset)

    assert ExperimentSpec.model_validate_json(spec.model_dump_json()) == spec


@every_defense
def test_a_repair_that_learns_from_clean_images_is_refused_without_any(name: str) -> None:
    kind = registry.defense[name]

    def specified() -> ExperimentSpec:
        return make_spec("digits", "badnets", name, overrides={"clean_images": 0})

    if (kind.repairs() or kind.overrides("detect")) and kind.needs_clean_images:
        with pytest.raises(ValueError, match="learns from clean images; set clean_images to 1 or more"):
            specified()
    else:
        assert specified().clean_images == 0


@every_attack
def test_repeats_of_an_experiment_differ_in_the_seed_alone(name: str) -> None:
    group = make_spec("digits", name, "none").group()

    assert make_spec("digits", name, "none", seed=5).group() == group
    assert make_spec("digits", name, "none", overrides={"clean_images": 51}).group() != group
    assert make_spec("digits", name, "none", victim="resnet9").group() != group
