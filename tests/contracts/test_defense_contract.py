"""What must hold for every registered defense. A new file in ``defenses/`` is covered by being there.

One test a property, one case a defense.
"""

import functools
import inspect
import json
import typing
from dataclasses import dataclass

import pytest
import torch
from core_helpers import clean_model, digits, same_state, small, state_of

from poisonlab import registry
from poisonlab.cache.packing import pack, unpack
from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.models.base import Classifier
from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.types import (
    Backdoor,
    Bundle,
    Corruption,
    Detection,
    ImageSet,
    Poison,
    Splits,
    Targeted,
    Threat,
)

DEFENSES = list(registry.defense)
MOMENTS = ("prepare", "purify", "training_hook", "repair", "repair_with_suspects", "detect", "screen")
every_defense = pytest.mark.parametrize("name", DEFENSES)


def prepare(name: str) -> Defense:
    defense: Defense = small(registry.defense[name])
    defense.prepare(digits().public, Context(seed=1))
    return defense


@functools.cache
def prepared(name: str) -> Defense:
    """The defense after its preparation, the same object for all tests."""
    return prepare(name)


@every_defense
def test_purification_keeps_shape_and_type_and_its_input_and_repeats(name: str) -> None:
    data = digits().train[:24]
    before = data.x.clone(), data.y.clone()

    purified, again = (defense.purify(data, Context(seed=1)) for defense in (prepared(name), prepare(name)))

    assert torch.equal(data.x, before[0]) and torch.equal(data.y, before[1])
    assert purified.x.dtype == torch.uint8
    assert purified.shape == data.shape and purified.classes == data.classes
    assert len(purified.y) == len(purified.x) <= len(data)
    if registry.defense[name].per_image:
        assert len(purified) == len(data)
    assert torch.equal(purified.x, again.x) and torch.equal(purified.y, again.y)


def repaired_by(name: str, model: Classifier, clean: ImageSet) -> Classifier:
    """What the defense hands on: its model, or its own choice among the settings of its sweep."""
    if registry.defense[name].overrides("repair_with_suspects"):
        done = prepared(name).repair_with_suspects(model, clean, digits().train[:30], Context(seed=1))
    else:
        done = prepared(name).repair(model, clean, Context(seed=1))
    return done.model(model)


@dataclass(frozen=True)
class RepairOnce:
    """A repaired model, and whether the repair left alone what it was given."""

    model: Classifier
    kept_the_given_model: bool
    kept_the_given_images: bool


@functools.cache
def repair_of(name: str) -> RepairOnce:
    """The repair of the clean model with 20 trusted images, the same object for all tests."""
    model, clean = clean_model(), digits().reserve[:20]
    given = (clean.x, digits().train.x, digits().train.y)
    before = state_of(model)
    images = [tensor.clone() for tensor in given]

    repaired = repaired_by(name, model, clean)

    same_images = all(torch.equal(now, then) for now, then in zip(given, images, strict=True))
    same_model = same_state(state_of(model), before) and not model.training
    return RepairOnce(repaired, same_model, same_images)


@every_defense
def test_repair_leaves_the_given_model_and_images_untouched(name: str) -> None:
    repair = repair_of(name)

    assert repair.kept_the_given_model
    assert repair.kept_the_given_images


@every_defense
def test_repair_gives_a_copy_that_is_ready_to_predict(name: str) -> None:
    repaired = repair_of(name).model

    assert not repaired.training
    if registry.defense[name].repairs():
        assert repaired is not clean_model()
    assert repaired(digits().reserve[:20].x.float() / 255).shape == (20, 10)


@every_defense
def test_the_same_seed_gives_the_same_repair(name: str) -> None:
    again = repaired_by(name, clean_model(), digits().reserve[:20])

    assert same_state(state_of(repair_of(name).model), state_of(again))


@every_defense
def test_a_detection_fits_what_it_was_given_repeats_and_survives_the_cache(name: str) -> None:
    model, clean, suspects = clean_model(), digits().train[100:160], digits().train[:60]
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
        assert each_image is None or each_image.shape == (60,)
    assert found.sample_scores is None or found.sample_scores.unique().numel() > 1  # something is judged
    packed = pack(found)
    again = unpack(Detection, Bundle(packed.tensors, json.loads(json.dumps(packed.data))))
    for same in (pack(again), pack(twice)):
        assert same.data == packed.data and same_state(same.tensors, packed.tensors)


@pytest.mark.parametrize("name", [n for n in DEFENSES if registry.defense[n].overrides("screen")])
def test_a_screening_judges_each_input_by_itself_and_repeats(name: str) -> None:
    model, clean, inputs = clean_model(), digits().train[:100], digits().test.x[:12]
    before = state_of(model), clean.x.clone(), inputs.clone()

    scores, again, alone = (
        prepared(name).screen(model, clean, x, Context(seed=1)) for x in (inputs, inputs, inputs[3:7])
    )

    assert same_state(state_of(model), before[0]) and not model.training
    assert torch.equal(clean.x, before[1]) and torch.equal(inputs, before[2])
    assert scores is not None and again is not None and alone is not None
    assert scores.unique().numel() > 1  # something is judged
    assert scores.shape == (12,) and scores.is_floating_point() and bool(scores.isfinite().all())
    assert torch.equal(scores, again)
    assert torch.allclose(scores[3:7], alone, atol=1e-5)


@every_defense
def test_overrides_tells_which_moments_a_class_changes(name: str) -> None:
    kind = registry.defense[name]
    classes = [base for base in kind.__mro__ if base not in (Defense, object)]

    told = {moment for moment in MOMENTS if kind.overrides(moment)}

    assert told == {moment for moment in MOMENTS if any(moment in vars(base) for base in classes)}


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
    if chain is not None:
        assert chain.states.shape[1:] == x.shape
        assert chain.energies.shape == chain.states.shape[:2]


@every_defense
def test_a_repair_that_learns_from_clean_images_is_refused_without_any(name: str) -> None:
    kind = registry.defense[name]

    def specified() -> ExperimentSpec:
        return make_spec("digits", "badnets", name, overrides={"clean_images": 0})

    uses_model = kind.repairs() or kind.overrides("detect") or kind.overrides("screen")
    if uses_model and kind.needs_clean_images:
        with pytest.raises(ValueError, match="learns from clean images; set clean_images to 1 or more"):
            specified()
    else:
        assert specified().clean_images == 0
