"""What a dataset is too small for is refused before anything is computed."""

from pathlib import Path

import pytest
from core_helpers import TINY_DATA

from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.spec.config import make_spec


@pytest.mark.parametrize(
    ("attack", "defense", "more", "said"),
    [
        (
            "gradient_matching",
            "none",
            {"attack.poisons": 999},
            r"attack\.poisons=999 asks for more than the \d+",
        ),
        ("random_perturbation", "none", {"attack.poisons": 999}, r"attack\.poisons=999"),
        ("bullseye_polytope", "none", {"attack.poisons": 999}, r"attack\.poisons=999"),
        (
            "lf",
            "none",
            {"attack.images": 999},
            r"attack\.images=999 asks for more than the \d+ images of other",
        ),
        (
            "badnets",
            "puregen_ebm",
            {"dataset.public_images": 127},
            "128 public images, got 127: raise dataset",
        ),
        (
            "badnets",
            "puregen_ddpm",
            {"dataset.public_images": 127},
            "128 public images, got 127: raise dataset",
        ),
        (
            "badnets",
            "puregen_reps",
            {"dataset.public_images": 127},
            "128 public images, got 127: raise dataset",
        ),
    ],
)
def test_a_dataset_that_is_too_small(
    attack: str, defense: str, more: dict[str, object], said: str, tmp_path: Path
) -> None:
    settings = TINY_DATA | {"clean_images": 20} | more
    spec = make_spec("digits", attack, defense, overrides=settings)

    with pytest.raises(ValueError, match=said):
        run_experiment(spec, Context(cache=StageCache(tmp_path)))

    assert not list(tmp_path.rglob("*.safetensors"))
