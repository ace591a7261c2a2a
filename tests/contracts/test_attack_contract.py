"""What must hold for every registered attack. A new file in ``attacks/`` is covered by being there.

One test a property, one case an attack. A poison that is only looked at is made once for all tests.
"""

import functools
from typing import get_args

import pytest
import torch
from core_helpers import attackers_view, digits, network, same_state, small, state_of

from poisonlab import registry
from poisonlab.context import Context
from poisonlab.pipeline.poison import check
from poisonlab.spec.config import TrainingConfig
from poisonlab.training.loop import train_network
from poisonlab.types import Backdoor, Corruption, Poison, Targeted

ATTACKS = list(registry.attack)
every_attack = pytest.mark.parametrize("name", ATTACKS)
every_poison = pytest.mark.parametrize("name", [name for name in ATTACKS if registry.attack[name].poisons])


def make_poison(name: str, seed: int = 1) -> Poison:
    kind = registry.attack[name]
    return small(kind).poison(attackers_view(kind.reads_public), Context(seed=seed))


@functools.cache
def poison_of(name: str) -> Poison:
    """The attack's poison under seed 1, the same object for all tests: they must not change it."""
    return make_poison(name)


@every_attack
def test_poisoning_changes_nothing_it_was_given_and_repeats_under_its_seed(name: str) -> None:
    first = poison_of(name).tensors()
    view = attackers_view(registry.attack[name].reads_public)
    given = (view.train.x, view.train.y, view.candidates.x, view.candidates.y)
    before = [tensor.clone() for tensor in given]
    weights = state_of(view.clean_model())

    again = small(registry.attack[name]).poison(view, Context(seed=1)).tensors()

    assert all(torch.equal(now, then) for now, then in zip(given, before, strict=True))
    assert same_state(state_of(view.clean_model()), weights)
    assert same_state(first, again)


@every_poison
def test_another_seed_gives_another_poison(name: str) -> None:
    first, other = poison_of(name), make_poison(name, seed=2)

    # rows that a network chooses are the same where the network is, as it is here
    assert not (torch.equal(first.index, other.index) and torch.equal(first.images, other.images))


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
    same_images = torch.equal(poison.images, train.x[poison.index])
    same_labels = torch.equal(poison.labels, train.y[poison.index])

    assert not (same_images and same_labels)


@every_attack
def test_an_attack_that_calls_itself_clean_label_keeps_labels(name: str) -> None:
    kind, poison = registry.attack[name], poison_of(name)
    says_so = "clean label" in kind.card.threat_model.lower().replace("-", " ")

    assert kind.clean_label or not says_so
    if kind.clean_label:
        assert torch.equal(poison.labels, digits().train.y[poison.index])


def test_clean_label_attacks_are_known_as_such() -> None:
    assert registry.attack["bullseye_polytope"].clean_label and not registry.attack["badnets"].clean_label


@every_poison
def test_poison_keeps_what_its_attack_promises(name: str) -> None:
    check(poison_of(name), small(registry.attack[name]), digits().train)


def other_choices() -> list[tuple[str, str, object]]:
    """Attack, parameter and value, wherever a parameter is one of a few words; which rows are taken aside."""
    found: list[tuple[str, str, object]] = []
    for name in ATTACKS:
        usual = small(registry.attack[name]).config
        for parameter, field in registry.attack[name].Config.model_fields.items():
            if parameter not in ("rate_of", "mapping"):
                words = get_args(field.annotation)
                found += [(name, parameter, word) for word in words if word != getattr(usual, parameter)]
    return found


@pytest.mark.parametrize(("name", "parameter", "value"), other_choices())
def test_poison_keeps_what_its_attack_promises_under_every_choice(
    name: str, parameter: str, value: object
) -> None:
    method = small(registry.attack[name], **{parameter: value})

    check(method.poison(attackers_view(), Context(seed=1)), method, digits().train)


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

    assert torch.equal(poisoned.x[others], train.x[others])
    assert torch.equal(poisoned.y[others], train.y[others])
    assert torch.equal(poisoned.x[poison.index[-1]], poison.images[-1])


@every_attack
def test_threat_can_be_measured(name: str) -> None:
    test, poison = digits().test, poison_of(name)
    threat = small(registry.attack[name]).threat(poison, len(test.classes))

    if isinstance(threat, Backdoor):
        before = test.x.clone()
        triggered = threat.trigger(test.x)
        assert torch.equal(test.x, before)
        assert triggered.shape == test.x.shape and triggered.dtype == torch.uint8
        wanted = threat.relabel(test.y)
        assert wanted.shape == test.y.shape and int(wanted.max()) < len(test.classes)
        if threat.target_class is not None:
            assert bool((wanted == threat.target_class).all())
    elif not isinstance(threat, Corruption):
        assert isinstance(threat, Targeted) and len(threat.images) == poison.trials
        assert bool((threat.true_labels != threat.adversarial_labels).all())


@every_attack
def test_what_an_attack_learns_in_training_finalizes_its_poison(name: str) -> None:
    attack, train = small(registry.attack[name]), digits().train
    poison = poison_of(name)

    def finalized() -> Poison | None:
        """The poison after a short training with the attack's hook; None for an attack that leaves training alone."""
        ctx = Context(seed=1)
        hook = attack.training_hook(poison, ctx)
        if hook is None:
            return None
        model = network(train)
        train_network(model, train, TrainingConfig(epochs=1, batch_size=50), ctx, hook)
        assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
        return attack.finalize(poison, hook.learned(), train)

    first, again = finalized(), finalized()

    if first is None or again is None:
        assert first is again
        return
    assert torch.equal(first.index, poison.index) and torch.equal(first.labels, poison.labels)
    assert first.images.shape == poison.images.shape and first.images.dtype == torch.uint8
    threat = attack.threat(first, len(train.classes))
    assert isinstance(threat, Backdoor)
    assert torch.equal(threat.trigger(train.x[first.index[0]]), first.images[0])
    assert same_state(first.tensors(), again.tensors())
