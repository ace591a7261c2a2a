"""The vocabulary of stages: complete, and what out of memory advises in each."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from poisonlab.generative.recipes import DiffusionRecipe, EnergyRecipe, Recipe
from poisonlab.runner.failures import explain_failure
from poisonlab.spec import stages
from poisonlab.spec.config import ExperimentSpec, TrainingConfig, make_spec
from poisonlab.spec.stages import Stage

PACKAGE = Path(stages.__file__).resolve().parents[1]
OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory")


def advice(spec: ExperimentSpec, stage: str) -> str:
    return explain_failure(OUT_OF_MEMORY, spec, stage, torch.device("cuda:0"))


@pytest.mark.parametrize("stage", list(Stage))
def test_each_stage_says_what_it_does(stage: Stage) -> None:
    assert stage.info.label and stage.info.does and stage.info.scope
    assert stages.find(stage.value) is stage


def test_labels_tell_the_stages_apart() -> None:
    assert len({stage.info.label for stage in Stage}) == len(Stage)


def test_a_stage_of_another_package_is_named_as_it_is() -> None:
    assert stages.find("my_own_stage") is None
    assert stages.label("my_own_stage") == "My own stage"
    assert "lower dataset.train_images or" in advice(make_spec("digits", "badnets", "awm"), "my_own_stage")


def test_out_of_memory_in_a_surrogate_advises_the_surrogates_parameter() -> None:
    spec = make_spec(
        "digits", "bullseye_polytope", "none", overrides={"attack.surrogates": "resnet9 width=8, resnet8"}
    )
    text = advice(spec, "surrogate")

    assert "choose smaller attack.surrogates (now resnet9 width=8, resnet8)" in text
    assert "victim" not in text and "head" not in text


def test_out_of_memory_in_a_surrogate_of_the_victims_kind_names_how_many_there_are() -> None:
    spec = make_spec("digits", "gradient_matching", "none", overrides={"attack.models": 3})

    assert "lower attack.models (now 3) or training.batch_size" in advice(spec, "surrogate")


def test_a_victim_is_advised_by_the_recipe_of_its_protocol() -> None:
    scratch = make_spec("digits", "badnets", "none")
    transfer = make_spec("digits", "bullseye_polytope", "none")

    assert f"training.batch_size (now {scratch.training.batch_size})" in advice(scratch, "victim")
    assert f"head.batch_size (now {transfer.head.batch_size})" in advice(transfer, "victim")
    assert f"training.batch_size (now {transfer.training.batch_size})" in advice(transfer, "extractor")


def test_a_repair_is_advised_by_the_defense(spec: Callable[..., ExperimentSpec]) -> None:
    assert "defense.batch_size (now" in advice(spec("awm"), "repair")


def test_what_makes_a_stage_long_is_named() -> None:
    spec = make_spec("digits", "badnets", "awm")

    assert stages.time_parameters(Stage.VICTIM, spec) == {"training.epochs": spec.training.epochs}
    assert "defense.rounds" in stages.time_parameters(Stage.REPAIR, spec)


def test_every_stage_that_the_program_starts_by_name_is_a_member() -> None:
    started = re.compile(
        r"""(?:run_stage\(\s*[\w.]+,|\.train\(|train_from_scratch\(|\.purify\(|\.detect\()\s*"(\w+)\""""
    )
    names = {name for path in PACKAGE.rglob("*.py") for name in started.findall(path.read_text())}

    assert names <= set(Stage)


@pytest.mark.parametrize("kind", [EnergyRecipe, DiffusionRecipe])
def test_generative_models_are_stages(kind: type[Recipe]) -> None:
    assert stages.find(kind.kind) is not None


def test_a_value_that_only_a_run_finds_out_is_named_as_the_form_names_it() -> None:
    with pytest.raises(ValidationError) as raised:
        TrainingConfig(label_smoothing=1.5)

    text = explain_failure(
        raised.value, make_spec("digits", "badnets", "none"), "repair", torch.device("cpu")
    )

    assert text == "label_smoothing: Input should be less than 1 (got 1.5)"
