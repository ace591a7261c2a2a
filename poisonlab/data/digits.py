"""Handwritten digits that come with scikit-learn: the embedded default, no download."""

import functools
from typing import Any, ClassVar

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

from poisonlab.context import derive
from poisonlab.data.base import DivisionConfig, balanced_order
from poisonlab.registry import Card, dataset
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Preset, param
from poisonlab.types import ImageSet


class DigitsConfig(DivisionConfig):
    size: int = param(16, "Side of the images, enlarged bilinearly from 8", ge=8, le=32, unit="pixels")
    train_images: int = param(1000, "Attacked training set, trained from scratch", ge=20, unit="images")
    head_images: int = param(400, "Attacked fine-tuning set of transfer learning", ge=20, unit="images")
    pretrain_images: int = param(900, "Extractor's own images in transfer learning", ge=20, unit="images")
    reserve_images: int = param(100, "Pool of the defender's trusted images", ge=0, unit="images")
    public_images: int = param(
        300, "Clean images for generative models, none of them in the attacked set", ge=0, unit="images"
    )
    test_images: int = param(397, "Test images", ge=20, le=397, unit="images")


_FIXED = {"batch_size": 50, "lr": 0.1, "schedule": "one_cycle", "crop_padding": 1, "flip": False}
_RECIPE: dict[str, Any] = {
    "victim": "resnet8",
    "training": _FIXED | {"epochs": 20},
    # an extractor that is not overconfident, as pre-trained ones are not: its features can be steered
    "extractor": _FIXED | {"epochs": 10, "label_smoothing": 0.2},
    "head": {},
    "clean_images": 50,
}


@functools.cache
def _scanned() -> tuple[Tensor, Tensor]:
    """Images, 0 to 16, float32 ``(1797, 8, 8)``, and labels; read once a process, as a sweep asks again and again."""
    raw = load_digits()
    return torch.from_numpy(raw.images).float(), torch.from_numpy(raw.target).long()


@dataset("digits")
class Digits:
    """1,797 gray 8x8 digits (UCI, via scikit-learn), enlarged; 1,400 for training, 397 for tests."""

    Config = DigitsConfig
    card = Card(
        title="Handwritten digits",
        references=(
            Reference(
                authors="E. Alpaydin, C. Kaynak",
                title="Optical Recognition of Handwritten Digits",
                year=1998,
                detail="UCI Machine Learning Repository; as in scikit-learn",
            ),
        ),
        summary="1,797 gray images of ten digits, enlarged to 16x16. Small enough that every experiment ends in "
        "a minute or two, large enough that attacks and defenses behave as they should.",
    )
    class_count: ClassVar[int] = 10
    image_counts: ClassVar[tuple[int, int]] = (1400, 397)
    presets: ClassVar[dict[Preset, dict[str, Any]]] = {
        "quick": _RECIPE,
        "full": _RECIPE,
        "paper": _RECIPE,
    }

    def __init__(self, config: DigitsConfig) -> None:
        self.config = config

    def load(self) -> tuple[ImageSet, ImageSet]:
        """The training pool (1,400) and the test set (397), uint8 ``(n, 1, size, size)``."""
        images, labels = _scanned()
        small = images[:, None] * (255 / 16)  # (1797, 1, 8, 8), 0 to 255
        large = F.interpolate(small, size=self.config.size, mode="bilinear", align_corners=False)
        x = large.round().clamp(0, 255).to(torch.uint8)
        y = labels.clone()
        classes = tuple(str(d) for d in range(10))
        # scikit-learn's order goes writer by writer: shuffle once, so that both parts know all hands
        order = balanced_order(y, derive(0, "digits"))
        pool = order[:1400]
        test = order[1400:]
        return ImageSet(x[pool], y[pool], classes), ImageSet(x[test], y[test], classes, "test")
