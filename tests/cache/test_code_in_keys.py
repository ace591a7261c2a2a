"""Which stages are computed again after which edit: all experiments below are run once, then files are edited and the
keys of all their stages formed anew."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from code_edits import edited
from core_helpers import TINY

from poisonlab.cache import code_version
from poisonlab.cache.stage_cache import StageCache
from poisonlab.cache.stage_key import stage_id
from poisonlab.context import Context
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.spec.config import make_spec
from poisonlab.types import Bundle

FEW = TINY | {"clean_images": 20, "victim.width": 8}
TRANSFER = {
    "victim.width": 8,
    "training.epochs": 1,
    "head.epochs": 2,
    "dataset.pretrain_images": 100,
    "dataset.head_images": 60,
    "dataset.test_images": 60,
    "clean_images": 20,
}
LEARNED = {"weights": "train", "ddpm_updates": 2, "ddpm_batch_size": 8, "ddpm_steps": 2, "ddpm_levels": 4}
SPECS = {
    "mask": make_spec("digits", "badnets", "awm", overrides=FEW | {"defense.rounds": 1}),
    "prune": make_spec("digits", "badnets", "anp", overrides=FEW | {"defense.iterations": 2}),
    "search": make_spec(
        "digits",
        "badnets",
        "neural_cleanse",
        victim="convnet",
        overrides=TINY | {"clean_images": 20, "defense.rounds": 1, "defense.steps": 1},
    ),
    "hooks": make_spec(
        "digits",
        "iab",
        "abl",
        overrides=FEW
        | {
            "training.epochs": 2,
            "attack.width": 4,
            "attack.mask_epochs": 1,
            "defense.isolation_epochs": 1,
            "defense.unlearning_epochs": 1,
        },
    ),
    "labels": make_spec("digits", "label_noise", "relabel", overrides=FEW | {"defense.adapt_epochs": 1}),
    "transfer": make_spec(
        "digits",
        "bullseye_polytope",
        "jpeg",
        overrides=TRANSFER
        | {
            "attack.targets": 2,
            "attack.poisons": 2,
            "attack.steps": 2,
            "attack.surrogates": "resnet9 width=8",
        },
    ),
    "diffusion": make_spec(
        "digits", "badnets", "puregen_ddpm", overrides=FEW | {f"defense.{k}": v for k, v in LEARNED.items()}
    ),
}


class Recording(StageCache):
    """Remembers what every stage was asked for with."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[tuple[str, Any, Context]] = []

    def get_or_compute(
        self, name: str, key: Any, ctx: Context, compute: Callable[[Context], Bundle]
    ) -> tuple[Bundle, bool]:
        self.asked.append((name, key, ctx))
        return super().get_or_compute(name, key, ctx, compute)


Asked = tuple[str, tuple[str, Any, Context]]  # the key of a stage, and what it was formed from


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Asked]:
    """``experiment.stage`` -> how it was asked for; of several stages of one name the last."""
    cache, found = Recording(tmp_path_factory.mktemp("cache")), {}
    for experiment, spec in SPECS.items():
        cache.asked.clear()
        run_experiment(spec, Context(cache=cache))
        found |= {f"{experiment}.{about[0]}": (stage_id(*about), about) for about in cache.asked}
    return found


def file_of(module: str) -> Path:
    return code_version.package_modules()[f"poisonlab.{module}"]


def changed(asked: dict[str, Asked], module: str) -> set[str]:
    """The stages whose key changes with the code of a module."""
    with edited(file_of(module), f"{file_of(module).read_text()}\nEDITED = 1\n"):
        return {stage for stage, (before, about) in asked.items() if stage_id(*about) != before}


def of(asked: dict[str, Any], experiments: str, *but: str) -> set[str]:
    """All stages of experiments, but those with certain names."""
    chosen = [stage.split(".") for stage in asked]
    return {f"{run}.{name}" for run, name in chosen if run in experiments.split() and name not in but}


ATTACKS = {
    "attacks.badnets": {
        *("mask.poison", "prune.poison", "search.poison", "diffusion.poison"),
        *("prune.settings",),
    },
    "attacks.iab": {"hooks.poison", "hooks.victim"},
    "attacks.shared.batch_poisoning": {"hooks.poison", "hooks.victim"},
    "attacks.label_noise": {"labels.poison"},
    "attacks.bullseye_polytope": {"transfer.poison"},
    "attacks.wanet": set(),
}
DEFENSES = {
    "defenses.awm": {
        "mask.repair",
        "prune.repair",
        "prune.drive",
    },  # pruning looks for stand-ins with AWM's ascent
    "defenses.anp": {"prune.repair", "prune.drive"},
    "defenses.neural_cleanse": {"search.detect", "search.detect_control", "search.repair"},
    "defenses.ft": {"search.detect", "search.detect_control", "search.repair", "labels.repair"},
    "defenses.abl": {"hooks.defended_victim"},
    "defenses.relabel": {"labels.repair"},
    "defenses.jpeg": {"transfer.purify", "transfer.purify_poisons"},
    "defenses.puregen_ddpm": {"diffusion.purify", "diffusion.purify_poisons"},
    "defenses.shared.puregen": {"diffusion.purify", "diffusion.purify_poisons"},
    "defenses.rnp": set(),
}


@pytest.mark.parametrize(("module", "stages"), [*ATTACKS.items(), *DEFENSES.items()])
def test_an_edit_of_a_method_changes_the_stages_that_use_it(
    asked: Any, module: str, stages: set[str]
) -> None:
    assert stages <= asked.keys()
    assert changed(asked, module) == stages


PURIFICATION = ("purify", "purify_poisons", "ddpm")  # runs no victim


def test_an_edit_of_a_victim_changes_the_stages_that_train_or_run_it(asked: Any) -> None:
    """``resnet`` holds the networks of all experiments but one; a surrogate is another kind of network."""
    with_resnets = of(asked, "mask prune hooks labels transfer diffusion", *PURIFICATION, "surrogate")

    assert changed(asked, "models.resnet") == with_resnets
    assert changed(asked, "models.convnet") == of(asked, "search")
    assert changed(asked, "models.resnet9") == {"transfer.surrogate", "transfer.poison"}


def test_an_edit_of_a_dataset_changes_no_stage_its_images_do(asked: Any) -> None:
    assert changed(asked, "data.digits") == set()


@pytest.mark.parametrize(
    "module", ["context", "types", "training.victims", "generative.ddpm", "pipeline.defend"]
)
def test_an_edit_of_the_core_changes_every_stage(asked: Any, module: str) -> None:
    assert changed(asked, module) == set(asked)


def test_an_edit_of_display_changes_no_stage(asked: Any) -> None:
    assert changed(asked, "ui.page") == set()


def test_every_moment_is_among_the_stages_that_are_edited(asked: Any) -> None:
    names = {stage.split(".")[1] for stage in asked}

    assert names >= {
        *("extractor", "attackers_model", "surrogate", "poison", "control", "victim", "defended_victim"),
        *("ddpm", "purify", "purify_poisons", "detect", "detect_control", "trigger_search", "influence"),
        *("repair", "drive", "settings", "retrained"),
    }
