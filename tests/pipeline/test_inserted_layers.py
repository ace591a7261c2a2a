"""A network into which a repair put a layer, on all ways that networks take: cache, file, submission."""

from pathlib import Path

import pytest
import torch
from core_helpers import digits
from torch import nn

from poisonlab.cache.stage_cache import StageCache
from poisonlab.check import model
from poisonlab.context import Context
from poisonlab.defenses.shared.feature_maps import stages
from poisonlab.lens.attention import spatial_layers
from poisonlab.models.base import Classifier, as_floats, initialize, logits
from poisonlab.models.shared.inserted import PLACE, STAMP, Polarizer, insert, insert_named
from poisonlab.models.shared.kept_weights import keep
from poisonlab.models.shared.weights_file import WeightsError, read_weights
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.pipeline.reopen import Opened, reopen
from poisonlab.pipeline.takeout import about_network, network_file, read_network
from poisonlab.pipeline.weights import load_network, load_victims
from poisonlab.spec.config import DefensePart, ExperimentSpec, SpecError


def run_and_reopen(made: ExperimentSpec, cache: StageCache) -> tuple[Opened, float]:
    """A repaired run, out of the cache, and its accuracy as it was measured."""
    measured = run_experiment(made, Context(seed=made.seed, cache=cache)).metrics
    return reopen(made, cache.root, "cpu"), measured["clean_accuracy"]


@pytest.fixture
def opened(spec, shared_cache: StageCache) -> tuple[Opened, float]:
    return run_and_reopen(spec("npd", clean_images=10), shared_cache)


@pytest.fixture(params=["npd", "nab"])
def any_opened(request: pytest.FixtureRequest, spec, shared_cache: StageCache) -> tuple[Opened, float]:
    few = {"defense.epochs": 2, "defense.label_epochs": 1, "defense.isolation_epochs": 1}
    overrides = few if request.param == "nab" else {}
    return run_and_reopen(spec(request.param, clean_images=10, **overrides), shared_cache)


def test_out_of_the_cache_it_answers_as_it_did_when_it_was_measured(any_opened: tuple[Opened, float]) -> None:
    found, accuracy = any_opened
    test = found.attacked.splits.test

    answers = found.defended.victims.predict(test.x)[0]

    assert (answers == test.y).double().mean().item() == pytest.approx(accuracy)
    assert any(map(added, found.defended.victims.member(0).state_dict()))
    assert not any(map(added, found.attacked.undefended.member(0).state_dict()))


def added(name: str) -> bool:
    return f".{PLACE}." in name or name.startswith(f"{STAMP}.")


def test_out_of_a_file_it_answers_as_before(any_opened: tuple[Opened, float], tmp_path: Path) -> None:
    opened = any_opened
    network = opened[0].defended.victims.member(0)
    file = tmp_path / "net.safetensors"
    file.write_bytes(network_file(network, about_network(opened[0], "defended", network, "run")))

    assert torch.equal(logits(read_network(file), digits().test.x), logits(network, digits().test.x))


def test_out_of_a_submission_it_answers_as_before(any_opened: tuple[Opened, float]) -> None:
    found = any_opened[0]
    victims = found.defended.victims
    train = found.attacked.splits.train

    read = load_victims(found.spec.victim, train.shape, len(train.classes), victims.tensors())

    assert torch.equal(read.predict(train.x), victims.predict(train.x))


def test_the_lens_looks_at_the_same_places_before_and_after_the_repair(opened: tuple[Opened, float]) -> None:
    """Before a convolution with a stride, the layer is the last that has the finer resolution."""
    networks = (opened[0].attacked.undefended.member(0), opened[0].defended.victims.member(0))
    x = as_floats(digits().test.x[:1])

    before, after = (list(spatial_layers(network, x)) for network in networks)

    assert before == after


def test_stages_of_another_librarys_network_do_not_end_with_the_layer() -> None:
    """All modules of such a body are looked at."""
    parts = (nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 3, 2), nn.ReLU(), nn.Flatten())
    model = Classifier(nn.Sequential(nn.Sequential(*parts)), 18, 3, torch.zeros(1), torch.ones(1))
    x = torch.zeros(1, 1, 8, 8)
    before = stages(model, x, 2)

    insert(model, "body.0.2")

    assert stages(model, x, 2) == before == ["0.1", "0.3"]


def test_brought_for_a_check_it_answers_as_before(opened: tuple[Opened, float], tmp_path: Path) -> None:
    found = opened[0]
    network = found.defended.victims.member(0)
    splits = found.attacked.splits
    file = tmp_path / "net.safetensors"
    file.write_bytes(model.as_file(network, found.spec, splits.test))

    brought = model.bring(found.spec, read_weights(file), splits, Context())

    assert torch.equal(logits(brought.network, splits.test.x), logits(network, splits.test.x))
    with pytest.raises(ValueError, match="repaired by npd before"):
        model.repaired(found.spec, brought, splits, Context())
    again = model.repaired(repairing("ft", found.spec), brought, splits, Context())
    again_read = load_network(
        found.spec.victim, splits.train.shape, len(splits.train.classes), again.state_dict()
    )
    assert torch.equal(logits(again_read, splits.test.x), logits(again, splits.test.x))


def test_a_repair_that_cannot_be_is_refused_before_clean_networks_are_trained(
    opened: tuple[Opened, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = opened[0]
    file = tmp_path / "net.safetensors"
    file.write_bytes(model.as_file(found.defended.victims.member(0), found.spec, found.attacked.splits.test))
    monkeypatch.setattr(model, "check_model", None)

    with pytest.raises(SpecError, match="--repair npd: .* repaired by npd before"):
        model.check_file(found.spec, file, Context(), model.BEST, clean_networks=1)


def repairing(defense: str, like: ExperimentSpec) -> ExperimentSpec:
    part = DefensePart.model_validate({"name": defense, "params": {"epochs": 1, "batch_size": 8}})
    return like.model_copy(update={"defense": part})


@pytest.fixture
def from_repaired(
    any_opened: tuple[Opened, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Overrides of a spec whose training starts from the repaired network."""
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path / "data"))
    file = tmp_path / "net.safetensors"
    found = any_opened[0]
    file.write_bytes(model.as_file(found.defended.victims.member(0), found.spec, found.attacked.splits.test))
    return {"weights": keep(file)}


@pytest.mark.parametrize("defense", ["ft", "anp", "d_br"])
def test_training_that_starts_from_it_keeps_the_layer_through_victim_repair_and_cache(
    spec, from_repaired: dict[str, str], tmp_path: Path, defense: str
) -> None:
    made: ExperimentSpec = spec(defense, **from_repaired)
    cache = StageCache(tmp_path / "cache")
    heard: list[object] = []

    measured = run_experiment(made, Context(seed=made.seed, cache=cache, send=heard.append)).metrics
    found = reopen(made, cache.root, "cpu")

    assert any("hold a layer that a repair put in" in str(event) for event in heard)
    for victims in found.victims.values():
        assert any(map(added, victims.member(0).state_dict()))
    test = found.attacked.splits.test
    accuracy = (found.defended.victims.predict(test.x)[0] == test.y).double().mean().item()
    assert accuracy == pytest.approx(measured["clean_accuracy"])


def test_a_second_layer_at_its_place_is_refused_before_anything_is_computed(
    spec, from_repaired: dict[str, str], any_opened: tuple[Opened, float]
) -> None:
    heard: list[object] = []
    same = any_opened[0].spec.defense.name

    with pytest.raises(ValueError, match=f"repaired by {same} before"):
        run_experiment(spec(same, **from_repaired), Context(send=heard.append))

    assert not heard


def test_a_network_of_its_architecture_that_is_drawn_anew_begins_with_the_identity(
    opened: tuple[Opened, float],
) -> None:
    """As D-BR and others draw one: the layer is no part of the victim's design that chance should fill."""
    anew = initialize(opened[0].defended.victims.member(0), torch.Generator().manual_seed(0))
    layer = next(m for m in anew.modules() if isinstance(m, Polarizer))
    x = torch.rand(2, layer.mix.in_channels, 3, 3)

    assert torch.allclose(layer.eval()(x), x, rtol=1e-4)


def test_to_look_at_the_layers_of_a_file_allocates_nothing() -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(1 << 20, 1, 3))

    insert_named(network, ["0.inserted.mix.weight"])

    assert all(value.is_meta for value in network.state_dict().values())


@pytest.mark.parametrize("before", ["head", "body.nowhere", "", "body", "__class__", "body.0.inserted"])
def test_a_layer_in_front_of_what_is_no_convolution_is_refused(
    opened: tuple[Opened, float], before: str
) -> None:
    found = opened[0]
    train = found.attacked.splits.train
    state = found.attacked.undefended.member(0).state_dict()
    state[f"{before}.{PLACE}.mix.weight"] = torch.zeros(1, 1, 1, 1)

    with pytest.raises(WeightsError, match="no layer can be put before|unknown to the network"):
        load_network(found.spec.victim, train.shape, len(train.classes), state)


def test_a_layer_of_another_size_or_a_part_of_one_is_refused(opened: tuple[Opened, float]) -> None:
    found = opened[0]
    train = found.attacked.splits.train
    whole = found.defended.victims.member(0).state_dict()
    added = [name for name in whole if f".{PLACE}." in name]

    def refused(state: dict[str, torch.Tensor]) -> str:
        with pytest.raises(WeightsError) as caught:
            load_network(found.spec.victim, train.shape, len(train.classes), state)
        return str(caught.value)

    weight = next(name for name in added if name.endswith("mix.weight"))
    assert "is missing" in refused({name: t for name, t in whole.items() if name != weight})
    assert repr(weight) in refused(whole | {weight: torch.zeros(1, 1, 1, 1)})
