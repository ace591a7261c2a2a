"""What training starts from: drawn weights, those that a victim brings, those that a spec names by their hash."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from core_helpers import TINY, noise_images
from torch import Tensor, nn

from poisonlab import registry
from poisonlab.cache.stage_cache import StageCache
from poisonlab.cli.main import main
from poisonlab.context import Context
from poisonlab.data.base import data_folder
from poisonlab.models.base import Classifier
from poisonlab.models.shared.kept_weights import FOLDER, keep, kept
from poisonlab.models.shared.weights_file import WeightsError
from poisonlab.pipeline.experiment import load, refuse_what_does_not_fit, run_experiment
from poisonlab.pipeline.reopen import reopen
from poisonlab.spec.config import Config, ExperimentSpec, SpecError, VictimPart, make_spec
from poisonlab.training.own_weights import brought
from poisonlab.training.victims import new_network

SHAPE = (3, 8, 8)


class Pretrained:
    """A network whose first layer is loaded."""

    Config = Config

    def __init__(self, config: Config) -> None:
        self.config = config

    def network(self, shape: tuple[int, int, int], classes: int, mean: Tensor, std: Tensor) -> Classifier:
        body = nn.Sequential(nn.Conv2d(shape[0], 4, 3, padding=1), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        body[0].load_state_dict({"weight": torch.ones(4, shape[0], 3, 3), "bias": torch.full((4,), 0.5)})
        return Classifier(body, 16, classes, mean, std)


@pytest.fixture
def pretrained(monkeypatch: pytest.MonkeyPatch) -> Iterator[VictimPart]:
    registry.victim["resnet8"]  # all modules are imported
    monkeypatch.setitem(registry.victim._items, "pretrained", Pretrained)
    yield VictimPart.model_validate({"name": "pretrained"})
    brought.cache_clear()


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path / "data"))
    return tmp_path


def test_a_victim_that_brings_weights_keeps_them_and_draws_the_rest(pretrained: VictimPart) -> None:
    first, second = (
        new_network(
            make_spec("cifar10", "badnets", "none", victim="pretrained", seed=seed),
            noise_images(6, SHAPE),
            Context(seed=seed),
        )
        for seed in (1, 2)
    )

    assert torch.equal(first.body[0].weight, torch.ones(4, 3, 3, 3))  # type: ignore[index]
    assert torch.equal(first.body[0].bias, torch.full((4,), 0.5))  # type: ignore[index]
    assert not torch.equal(first.head.weight, second.head.weight)


@pytest.mark.parametrize("name", sorted(registry.victim))
def test_every_victim_draws_its_weights(name: str) -> None:
    part = VictimPart.model_validate({"name": name})

    assert brought(part, (3, 16, 16), 10) == {}


def test_the_random_state_outside_is_not_touched(pretrained: VictimPart) -> None:
    before = torch.get_rng_state()
    brought(pretrained, SHAPE, 3)
    assert torch.equal(torch.get_rng_state(), before)


# -- weights that a spec names ------------------------------------------------------------------------


def trained(folder: Path, seed: int = 5, **more: Any) -> tuple[ExperimentSpec, Classifier]:
    """A spec, and its control."""
    spec = make_spec("digits", "badnets", "none", seed=seed, overrides=TINY | {"training.epochs": 8} | more)
    run_experiment(spec, Context(cache=StageCache(folder)))
    return spec, reopen(spec, folder).attacked.control.member(0)


def starting_from(weights: str, **more: Any) -> ExperimentSpec:
    return make_spec("digits", "badnets", "none", overrides=TINY | {"weights": weights} | more)


def test_training_starts_from_the_weights_of_a_file(own_data: Path) -> None:
    _, network = trained(own_data / "cache")
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, own_data / "w.pt")

    name = keep(own_data / "w.pt")
    start = new_network(starting_from(name), load(starting_from(name), torch.device("cpu")).train, Context())

    assert all(torch.equal(value, network.state_dict()[key]) for key, value in start.state_dict().items())


def test_other_weights_are_another_experiment_with_stages_of_its_own(own_data: Path) -> None:
    cache = own_data / "cache"
    _, network = trained(cache)
    torch.save(network.state_dict(), own_data / "w.pt")
    spec = starting_from(keep(own_data / "w.pt"), **{"training.lr": 1e-3})
    drawn = make_spec("digits", "badnets", "none", overrides=TINY | {"training.lr": 1e-3})

    measured = run_experiment(spec, Context(cache=StageCache(cache))).metrics
    without = run_experiment(drawn, Context(cache=StageCache(cache))).metrics

    assert spec.group() != drawn.group()
    pretrained_rate, drawn_rate = (found["clean_accuracy_control"] for found in (measured, without))
    assert pretrained_rate is not None and drawn_rate is not None
    assert pretrained_rate > drawn_rate + 0.2
    assert ExperimentSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_a_spec_without_weights_is_that_of_older_records() -> None:
    spec = make_spec("digits", "badnets", "none")

    assert "weights" not in spec.model_dump(mode="json")


@pytest.mark.parametrize("value", ["/etc/passwd", "../../w", "A" * 24, "0" * 23, "0" * 25, "x\n"])
def test_a_spec_names_weights_by_their_hash_alone(value: str) -> None:
    with pytest.raises(SpecError, match="weights"):
        make_spec("digits", "badnets", "none", overrides={"weights": value})


def test_weights_that_are_not_here_are_refused_before_anything_is_computed(own_data: Path) -> None:
    spec = starting_from("0" * 24)

    with pytest.raises(WeightsError, match="not on this machine"):
        refuse_what_does_not_fit(spec, load(spec, torch.device("cpu")))


def test_weights_of_another_network_are_refused_before_anything_is_computed(own_data: Path) -> None:
    torch.save(nn.Sequential(nn.Conv2d(1, 3, 3), nn.Linear(3, 10)).state_dict(), own_data / "w.pt")
    spec = starting_from(keep(own_data / "w.pt"))

    with pytest.raises(WeightsError, match="do not fit this network"):
        run_experiment(spec, Context())


def test_the_same_numbers_have_the_same_hash_in_any_file(own_data: Path) -> None:
    state = {"a.weight": torch.ones(3, 2), "a.bias": torch.zeros(3)}
    torch.save(state, own_data / "one.pt")
    torch.save({"model": {f"module.{k}": v for k, v in reversed(state.items())}}, own_data / "two.pth")
    torch.save({k: v + 1e-3 for k, v in state.items()}, own_data / "three.pt")

    assert keep(own_data / "one.pt") == keep(own_data / "two.pth") != keep(own_data / "three.pt")


def test_kept_weights_that_were_changed_are_refused(own_data: Path) -> None:
    torch.save({"a.weight": torch.ones(3, 2), "a.bias": torch.zeros(3)}, own_data / "one.pt")
    name = keep(own_data / "one.pt")
    file = data_folder() / FOLDER / f"{name}.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)

    with pytest.raises(WeightsError, match="was changed"):
        kept(name)


def test_the_command_line_takes_a_file(own_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, network = trained(own_data / "cache")
    torch.save(network.state_dict(), own_data / "w.pt")
    small = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    command = ["run", "--dataset", "digits", "--attack", "badnets", "--defense", "none", *small]
    here = ["--results", str(own_data / "results")]

    assert main([*command, *here, "--weights", str(own_data / "w.pt")]) == 0
    assert main([*command, *here, "--weights", str(own_data / "none.pt")]) == 2
    assert "cannot be read" in capsys.readouterr().err
