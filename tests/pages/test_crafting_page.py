"""The page of crafting: paths, curves, images with their colors, and words that follow the numbers."""

import dataclasses
from pathlib import Path

import pytest
import torch
from core_helpers import TINY_DATA
from page_helpers import Open, recorded, words

from poisonlab.figures.crafting import changes, curves, paths
from poisonlab.records.artifacts import Crafting
from poisonlab.spec.config import make_spec
from poisonlab.ui.crafting import held_back, outcome

TINY = TINY_DATA | {
    "training.epochs": 1,
    "attack.targets": 1,
    "attack.poisons": 3,
    "attack.models": 1,
    "attack.steps": 2,
    "attack.epochs": 2,
    "attack.batch": 40,
    "attack.rehearse": 2,
    "victim.width": 8,
}


@pytest.fixture(scope="module")
def crafted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A results folder with a run of MetaPoison, and its id."""
    results = tmp_path_factory.mktemp("crafted")
    spec = make_spec("digits", "metapoison", "none", overrides=TINY)
    record = recorded(spec, results)
    return results, record.run_id


def test_crafting_shows_paths_curves_images_and_command(open_page: Open, crafted: tuple[Path, str]) -> None:
    results, run_id = crafted

    app = open_page(results, "crafting", run=run_id)

    assert [h.value for h in app.subheader][:2] == ["Paths through weight space", "Step by step"]
    assert len(app.get("plotly_chart")) == 4
    assert "has a probability of" in words(app) and "by nearly the whole bound of 64/255" in words(app)
    assert "Shift of colors" not in words(app)  # digits are gray
    assert app.code[-1].value.startswith("python -m poisonlab run --dataset digits --attack metapoison")


def trace() -> Crafting:
    images, ends = torch.zeros(2, 3, 4, 4).to(torch.uint8), torch.tensor([[2.0, 1.0], [2.0, -1.0]])
    return Crafting(
        steps=torch.arange(1, 4),
        unrolled=torch.ones(3),
        plain=torch.ones(3),
        tried=torch.tensor([0, 3]),
        tried_loss=torch.tensor([1.0, -1.0]),
        tried_probability=torch.tensor([0.2, 0.8]),
        places=torch.randn(2, 2, 2),
        variance=torch.tensor([0.6, 0.3]),
        path_loss=ends,
        path_probability=torch.tensor([[0.1, 0.2], [0.1, 0.8]]),
        base=images,
        recolored=images,
        poisoned=images,
        changes=torch.tensor([1, 3]),
        grids=torch.zeros(0),
        eps=8.0,
        color=0.0,
    )


def test_the_words_follow_the_numbers() -> None:
    won = trace()
    lost = dataclasses.replace(won, path_loss=-won.path_loss)

    assert (
        "**20.0 %** on the target, with poison **80.0 %**: the target is given the adversarial class."
        in outcome(won)
    )
    assert "is not given the adversarial class" in outcome(lost)
    assert held_back(won).startswith("**75.0 %** of all pixels")


def test_figures_draw_every_epoch_step_and_bin() -> None:
    drawn = trace()

    assert [len(line.x) for line in paths(drawn).data] == [2, 1, 2, 1, 1]
    assert [len(line.x) for line in curves(drawn).data] == [3, 3, 2]
    assert list(changes(drawn).data[0].y) == [0.25, 0.75]
