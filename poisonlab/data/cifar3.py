"""Three classes of CIFAR-10: a small natural-image problem on which even costly attacks end in minutes."""

from typing import Any, ClassVar

import torch
from pydantic import field_validator

from poisonlab.data import cifar10
from poisonlab.data.cifar10 import CLASSES, Cifar10, Cifar10Config
from poisonlab.registry import Card, dataset
from poisonlab.spec.config import Preset, param
from poisonlab.spec.papers import CIFAR
from poisonlab.types import ImageSet

FILE = cifar10.FILE  # the same images on disk
KEPT = 3


class Cifar3Config(Cifar10Config):
    classes: str = param("airplane bird dog", "Three classes of CIFAR-10, in the order of their labels")
    train_images: int = param(12_000, "Attacked training set", quick=900, ge=20, le=15_000, unit="images")
    head_images: int = param(300, "Attacked fine-tuning set", ge=20, le=15_000, unit="images")
    pretrain_images: int = param(
        10_000, "Extractor's own images", quick=3_000, ge=20, le=15_000, unit="images"
    )
    reserve_images: int = param(1_500, "Pool of trusted images", quick=300, ge=0, le=15_000, unit="images")
    public_images: int = param(
        1_500, "Images for generative models", quick=6_000, ge=0, le=15_000, unit="images"
    )
    test_images: int = param(3_000, "Test images", ge=20, le=3_000, unit="images")

    @field_validator("classes")
    @classmethod
    def _three_of_them(cls, text: str) -> str:
        names = text.split()
        if len(set(names)) != KEPT or len(names) != KEPT or not set(names) <= set(CLASSES):
            raise ValueError(f"name three different classes out of: {' '.join(CLASSES)}")
        return text


# plain SGD without augmentation, as MetaPoison trains its victims
_RECIPE: dict[str, Any] = {
    "lr": 0.1,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "schedule": "constant",
    "crop_padding": 0,
    "flip": False,
}


@dataset("cifar3")
class Cifar3(Cifar10):
    """15,000 + 3,000 color photographs of three of CIFAR-10's classes."""

    Config = Cifar3Config
    card = Card(
        title="CIFAR-10, three classes",
        references=(CIFAR,),
        summary="Airplanes, birds and dogs of CIFAR-10. The preset quick keeps 300 training images of each at 16x16, "
        "so that training itself can be optimized through on a laptop.",
    )
    class_count: ClassVar[int] = KEPT
    image_counts: ClassVar[tuple[int, int]] = (15_000, 3_000)
    presets: ClassVar[dict[Preset, dict[str, Any]]] = {
        "quick": {
            "victim": "convnet",
            "training": _RECIPE | {"epochs": 20, "batch_size": 60},
            "head": {},
            "clean_images": 90,
        },
        "full": {
            "victim": "convnet",
            "training": _RECIPE | {"epochs": 100, "batch_size": 125, "schedule": "cosine"},
            "head": {},
            "clean_images": 300,
        },
        "paper": {
            "victim": "convnet",
            "training": _RECIPE | {"epochs": 100, "batch_size": 125, "schedule": "cosine"},
            "head": {},
            "clean_images": 300,
        },
    }

    config: Cifar3Config

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Training and test images of the three classes, uint8 ``(n, 3, size, size)``."""
        train, test = super().load()
        return self._kept(train), self._kept(test)

    def _kept(self, data: ImageSet) -> ImageSet:
        assert isinstance(self.config, Cifar3Config)
        names = tuple(self.config.classes.split())
        label = torch.full((len(CLASSES),), -1)
        label[[CLASSES.index(name) for name in names]] = torch.arange(KEPT)
        y = label[data.y]
        rows = y >= 0
        return ImageSet(data.x[rows], y[rows], names, data.split)
