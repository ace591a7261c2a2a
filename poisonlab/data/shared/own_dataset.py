"""What datasets of pictures of one's own share, wherever they lie: looked at before a spec is made, decoded once."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, ClassVar

import torch

from poisonlab.data.base import DataError, DivisionConfig, both_sets, data_folder
from poisonlab.data.shared.own_folder import Sorted, check_enough
from poisonlab.data.shared.pixels import GROUND, Fit, read_fitted
from poisonlab.data.shared.tensor_file import TensorFile, Tensors
from poisonlab.spec.config import Preset, digest, param
from poisonlab.spec.suited import parts_of, presets_of
from poisonlab.types import ImageSet

KEPT = "folders"  # below the data folder: pictures that were decoded once
REMEDY = "replace or remove them"
SIDES = {"quick": 32, "full": 64, "paper": 64}
EXAMPLE = presets_of(2_000, SIDES["full"])  # of 2,000 pictures, where nobody has named any yet
AS_DECODED = (
    "A picture is turned as its EXIF data say, resized bilinearly with antialiasing so that it fills a square, "
    f"and cut at the middle; 16-bit gray is scaled to 8, transparency lies on {GROUND}.",
    "Where there is no test set, every fifth picture of each class is one, the same for every seed; "
    "where there is a validation and a test set, the former joins the training.",
    "Pictures that look alike, such as frames of one film, are not kept apart: put them into one part.",
)


class OwnConfig(DivisionConfig):
    """What is asked of pictures wherever they lie."""

    size: int = param(64, "Side of the images", quick=SIDES["quick"], ge=8, le=256, unit="pixels")
    fit: Fit = param("crop", "How a picture that is not square becomes so")
    color: bool = param(True, "Three channels; else one, gray")
    classes: int = param(0, "Classes; 0 for as many as there are", ge=0, le=10_000)


class OwnDataset:
    """Pictures of any form and size, decoded once and kept as one tensor file.

    A kind of place where they may lie adds how it is looked at, and what the tensors are kept by.
    """

    by_path: ClassVar[bool] = True  # whoever may name it may read any folder of this machine
    presets: ClassVar[dict[str, dict[str, Any]]] = EXAMPLE

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def class_count(self) -> int | None:
        """Classes, where somebody has looked."""
        return self.config.classes or None

    @classmethod
    def look_at(cls, values: dict[str, Any]) -> Sorted[Any] | None:
        """The pictures that parameters name, none of them read; ``None`` where they name no place.

        Args:
            values: parameters by name; what looking finds out of the place itself is written into them.

        Raises:
            DataError: the place cannot be used.
        """
        raise NotImplementedError

    def decoded(self, found: Sorted[Any]) -> Tensors:
        """The pictures as tensors."""
        raise NotImplementedError

    @classmethod
    def suited(cls, values: dict[str, Any], given: Collection[str], preset: Preset) -> dict[str, Any]:
        """The preset for the pictures that ``values`` name; looks at them.

        Args:
            values: parameters by name; what is not ``given`` is replaced by what fits the pictures.
            given: parameters that somebody chose.

        Returns:
            victim and recipe, as in ``presets``.

        Raises:
            DataError: the place cannot be used.
        """
        found = cls.look_at(values)
        if found is None:
            return EXAMPLE[preset]
        train = len(found.train)
        test = len(found.test)
        check_enough(train, test, found.root)
        fitting = parts_of(train, test) | {"classes": len(found.classes)}
        values |= {name: value for name, value in fitting.items() if name not in given}
        return presets_of(train, values["size"])[preset]

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Training and test images, as many as there are, uint8 ``(n, 3, size, size)``; one channel without color.

        Raises:
            DataError: the place or a picture cannot be used, or the classes are not those that the spec was made for.
        """
        found = self.look_at(self.config.model_dump())
        if found is None:
            raise DataError("name the folder of your pictures: --set dataset.path=FOLDER")
        if self.config.classes not in (0, len(found.classes)):
            raise DataError(
                f"{found.root} holds {len(found.classes)} classes, not {self.config.classes} as when this experiment "
                "was set up; set it up again"
            )
        return both_sets(self.decoded(found), found.classes, self.config.size)


def decoder(found: Sorted[Any], side: int, fit: Fit, color: bool) -> tuple[Callable[[Path], Tensors], int]:
    """What decodes pictures, and what the tensors take in megabytes."""
    pictures = (*found.train, *found.test)

    def make(_: Path) -> Tensors:
        x = read_fitted([picture for picture, _ in pictures], side, fit, color, REMEDY)
        y = torch.tensor([label for _, label in pictures])
        cut = len(found.train)
        return {
            "train_x": x[:cut].contiguous(),
            "train_y": y[:cut].contiguous(),
            "test_x": x[cut:].contiguous(),
            "test_y": y[cut:].contiguous(),
        }

    return make, len(pictures) * 3 * side * side // 2**20 + 1


def kept(place: list[Any], source: str, make: Callable[[Path], Tensors], megabytes: int) -> Tensors:
    """Tensors that are kept until what they were made from changes.

    Args:
        place: JSON-able, what distinguishes them from others.
        source: state of what they are made from.

    Raises:
        DataError: a picture cannot be read, or the tensors cannot be kept.
    """
    file = TensorFile("pictures", f"{digest(place)}.safetensors", megabytes)
    return file.load(data_folder() / KEPT, make, source)
