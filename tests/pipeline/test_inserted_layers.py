"""A network into which a repair put a layer, on all ways that networks take: cache, file, submission."""

from pathlib import Path

import pytest
import torch
from core_helpers import digits

from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.models.base import logits
from poisonlab.models.shared.inserted import PLACE
from poisonlab.models.shared.weights_file import WeightsError
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.pipeline.reopen import Opened, reopen
from poisonlab.pipeline.takeout import about_network, network_file, read_network
from poisonlab.pipeline.weights import load_network, load_victims
from poisonlab.spec.config import ExperimentSpec


@pytest.fixture
def opened(spec, shared_cache: StageCache) -> tuple[Opened, float]:
    """A repaired run, out of the cache, and its accuracy as it was measured."""
    made: ExperimentSpec = spec("npd", clean_images=10)
    measured = run_experiment(made, Context(seed=made.seed, cache=shared_cache)).metrics
    return reopen(made, shared_cache.root, "cpu"), measured["clean_accuracy"]


def test_out_of_the_cache_it_answers_as_it_did_when_it_was_measured(opened: tuple[Opened, float]) -> None:
    found, accuracy = opened
    test = found.attacked.splits.test

    answers = found.defended.victims.predict(test.x)[0]

    assert (answers == test.y).double().mean().item() == pytest.approx(accuracy)
    assert any(f".{PLACE}." in name for name in found.defended.victims.member(0).state_dict())
    assert not any(f".{PLACE}." in name for name in found.attacked.undefended.member(0).state_dict())


def test_out_of_a_file_it_answers_as_before(opened: tuple[Opened, float], tmp_path: Path) -> None:
    network = opened[0].defended.victims.member(0)
    file = tmp_path / "net.safetensors"
    file.write_bytes(network_file(network, about_network(opened[0], "defended", network, "run")))

    assert torch.equal(logits(read_network(file), digits().test.x), logits(network, digits().test.x))


def test_out_of_a_submission_it_answers_as_before(opened: tuple[Opened, float]) -> None:
    found = opened[0]
    victims = found.defended.victims
    train = found.attacked.splits.train

    read = load_victims(found.spec.victim, train.shape, len(train.classes), victims.tensors())

    assert torch.equal(read.predict(train.x), victims.predict(train.x))


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
