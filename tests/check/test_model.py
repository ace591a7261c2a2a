"""A network that somebody brings: accuracy to four digits, normalization found, a verdict beside clean ones."""

from pathlib import Path
from typing import Any

import pytest
import torch
from core_helpers import TINY, least

from poisonlab import zoo
from poisonlab.cache.stage_cache import StageCache
from poisonlab.check import model
from poisonlab.context import Context
from poisonlab.models.base import accuracy
from poisonlab.models.shared.weights_file import WeightsError, read_weights
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.pipeline.reopen import Opened, reopen
from poisonlab.pipeline.takeout import read_network
from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.types import Splits

FEW = {"training.epochs": 6, "dataset.train_images": 300, "dataset.test_images": 100}


def spec(defense: str = "none", **more: Any) -> ExperimentSpec:
    return make_spec("digits", "none", defense, overrides=TINY | FEW | {"clean_images": 60} | more)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def ctx(cache: Path) -> Context:
    return Context(cache=StageCache(cache))


@pytest.fixture(scope="module")
def attacked(cache: Path, ctx: Context) -> Opened:
    own = make_spec("digits", "badnets", "none", seed=4, overrides=TINY | FEW)
    run_experiment(own, ctx)
    return reopen(own, cache)


@pytest.fixture(scope="module")
def splits(ctx: Context) -> Splits:
    return model.opened(spec(), ctx)


def test_a_saved_network_keeps_its_accuracy_and_its_normalization(
    attacked: Opened, splits: Splits, ctx: Context, tmp_path: Path
) -> None:
    network = attacked.attacked.undefended.member(0)
    (tmp_path / "w.safetensors").write_bytes(model.as_file(network, spec(), splits.test))

    brought = model.bring(spec(), read_weights(tmp_path / "w.safetensors"), splits, ctx)

    assert (brought.normalization, brought.by) == (model.OF_FILE, "name")
    wanted = accuracy(network, splits.test.x, splits.test.y)
    assert model.right(brought.network, splits.test) == pytest.approx(wanted, abs=1e-4)


def test_the_normalization_is_found_by_accuracy_and_named(
    attacked: Opened, splits: Splits, ctx: Context
) -> None:
    network = attacked.attacked.undefended.member(0)
    bare = {name: value for name, value in network.state_dict().items() if not name.startswith("normalize")}

    brought = model.bring(spec(), bare, splits, ctx)

    assert brought.accuracies[brought.normalization] == max(brought.accuracies.values())
    assert set(brought.accuracies) == {model.OF_IMAGES, *model.PUBLISHED}
    asked = model.bring(spec(), bare, splits, ctx, "half")
    assert asked.normalization == "half"
    assert torch.equal(asked.network.normalize.mean.flatten(), torch.tensor([0.5]))


def test_weights_of_other_classes_and_unknown_normalizations_are_refused(
    attacked: Opened, splits: Splits, ctx: Context
) -> None:
    state = attacked.attacked.undefended.member(0).state_dict()
    fewer = state | {"head.weight": state["head.weight"][:7], "head.bias": state["head.bias"][:7]}

    with pytest.raises(WeightsError, match="not for the 10 classes"):
        model.bring(spec(), fewer, splits, ctx)
    bare = {name: value for name, value in state.items() if not name.startswith("normalize")}
    with pytest.raises(WeightsError, match="not one of best, images"):
        model.bring(spec(), bare, splits, ctx, "zscore")


def test_the_detectors_judge_the_network_beside_clean_ones(
    attacked: Opened, splits: Splits, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "values_of", least)
    network = attacked.attacked.undefended.member(0)
    brought = model.bring(spec(), network.state_dict(), splits, ctx)

    checked = model.check_model(spec(), brought, splits, ctx, clean_networks=2)
    again = model.check_model(spec(), brought, splits, ctx, clean_networks=2)

    assert [finding.detector for finding in checked.findings] == model.detectors()
    assert {"neural_cleanse", "rnp"} <= set(model.detectors())
    assert len(checked.clean_accuracies) == 2
    assert all(len(finding.clean) == 2 for finding in checked.findings)
    assert not checked.calibration.can_accuse and checked.verdict.startswith(
        "No verdict: with 2 clean networks"
    )
    assert [f.value for f in again.findings] == [f.value for f in checked.findings]


def test_a_repaired_network_can_be_brought_again(
    attacked: Opened, splits: Splits, ctx: Context, tmp_path: Path
) -> None:
    brought = model.bring(spec("clp"), attacked.attacked.undefended.member(0).state_dict(), splits, ctx)
    network = model.repaired(spec("clp"), brought, splits, ctx)
    (tmp_path / "w.safetensors").write_bytes(model.as_file(network, spec(), splits.test))

    again = model.bring(spec(), read_weights(tmp_path / "w.safetensors"), splits, ctx)

    assert model.right(again.network, splits.test) == model.right(network, splits.test)
    read = read_network(tmp_path / "w.safetensors")
    assert torch.equal(read(splits.test.x[:9] / 255), network(splits.test.x[:9] / 255))
    assert any(
        not torch.equal(value, brought.network.state_dict()[name])
        for name, value in network.state_dict().items()
    )


def test_a_defense_that_repairs_nothing_is_refused(attacked: Opened, splits: Splits, ctx: Context) -> None:
    brought = model.bring(spec(), attacked.attacked.undefended.member(0).state_dict(), splits, ctx)

    with pytest.raises(ValueError, match="does not repair"):
        model.repaired(spec("spectral_signatures"), brought, splits, ctx)


@pytest.mark.slow
@pytest.mark.long
def test_a_backdoor_stands_out_among_clean_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for triggers as the preset has it, on a network that comes with the program; two clean ones show the
    order. With nineteen, and with the other detector: ``benchmarks/check_model.py``."""
    monkeypatch.setattr(model, "detectors", lambda: ["neural_cleanse"])
    ctx = Context(cache=StageCache(tmp_path))
    usual = make_spec("digits", "none", "none")
    whole = model.opened(usual, ctx)
    brought = model.bring(usual, zoo.load("digits/resnet8/badnets-0").state_dict(), whole, ctx)

    found = model.check_model(usual, brought, whole, ctx, clean_networks=2)

    assert found.calibration.exceeds == 2
    assert found.findings[0].suspect == zoo.spec("digits/resnet8/badnets-0").attack.params.target_class  # type: ignore[attr-defined]
