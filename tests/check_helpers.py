"""Folders of small pictures, and a check that takes no training."""

from pathlib import Path

import pytest
import torch
from core_helpers import noise_images
from PIL import Image

from poisonlab.check import data as checking
from poisonlab.check.evidence import Evidence, Examined
from poisonlab.check.recipe import Recipe
from poisonlab.check.suspects import Suspects
from poisonlab.context import Context
from poisonlab.types import ImageSet

CLASSES = ("cat", "=dog", "猫, big")
EACH = 30


def folder_of(root: Path, classes: tuple[str, ...] = CLASSES, each: int = EACH) -> Path:
    """A folder for each class, each picture of another brightness."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(each):
            Image.new("RGB", (12, 12), (80 * label, 4 * number, 9)).save(root / name / f"{number}.png")
    return root


def tiny_recipe() -> Recipe:
    """Networks that learn for one epoch."""
    training = {"epochs": 1, "batch_size": 20, "lr": 0.05, "schedule": "one_cycle", "flip": False}
    return Recipe("quick", "folder", "resnet8", training, "float32")


def noise_suspects(n: int = 60) -> Suspects:
    data = noise_images(n, (3, 8, 8), 3)
    return Suspects(data, tuple(f"noise/{row}" for row in range(n)))


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """In the place of networks: images are the more suspicious the brighter they are. Gives images and seed of each set
    that was asked about."""
    asked: list[tuple[int, int]] = []

    def examine(
        data: ImageSet, trusted: ImageSet | None, recipe: Recipe, seed: int, ctx: Context
    ) -> Examined:
        asked.append((len(data), seed))
        ctx.log("a detector says something")
        bright = data.x.float().flatten(1).mean(1)
        number = float(bright.max()) + 0.01 * (seed % 7)
        names = ("spectral_signatures", "activation_clustering", "confident_learning")
        target = int(data.y[bright.argmax()])
        made = [Evidence(name, bright + torch.arange(len(bright)) * 1e-4, target, number) for name in names]
        return Examined(tuple(made), {"strip": "needs trusted clean images, and none were given"})

    monkeypatch.setattr(checking, "examine", examine)
    return asked
