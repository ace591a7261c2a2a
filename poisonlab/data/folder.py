"""A folder of one's own pictures: a folder for each class, or a table of names and labels."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, ClassVar

import torch

from poisonlab.data.base import DataError, DivisionConfig, both_sets, data_folder
from poisonlab.data.shared.image_folder import state_of_files
from poisonlab.data.shared.own_folder import Found, check_enough, look
from poisonlab.data.shared.pixels import GROUND, Fit, read_fitted
from poisonlab.data.shared.tensor_file import TensorFile, Tensors
from poisonlab.registry import Card, dataset
from poisonlab.spec.config import Preset, digest, param
from poisonlab.spec.suited import parts_of, presets_of
from poisonlab.types import ImageSet

KEPT = "folders"  # below the data folder: pictures that were decoded once
REMEDY = "replace or remove them"
SIDES = {"quick": 32, "full": 64, "paper": 64}


class FolderConfig(DivisionConfig):
    path: str = param(
        "", "Folder of the pictures: one folder a class, with or without train and test, or a .csv table"
    )
    table: str = param("", "Table of file names and labels in that folder, where it holds more than one")
    size: int = param(64, "Side of the images", quick=SIDES["quick"], ge=8, le=256, unit="pixels")
    fit: Fit = param("crop", "How a picture that is not square becomes so")
    color: bool = param(True, "Three channels; else one, gray")
    classes: int = param(0, "Classes; 0 for as many as there are", ge=0, le=10_000)


# of 2,000 pictures, where no folder is named yet
_EXAMPLE = presets_of(2_000, SIDES["full"])


@dataset("folder")
class Folder:
    """Pictures of any form and size, decoded once and kept as one tensor file."""

    Config = FolderConfig
    card = Card(
        title="A folder of your own pictures",
        paper="Layout as torchvision's ImageFolder",
        summary="Any JPEG, PNG, WebP, BMP or PPM files, sorted into a folder for each class or listed in a table. "
        "How many images each part gets, victim and recipe follow from how many there are.",
        deviations=(
            "A picture is turned as its EXIF data say, resized bilinearly with antialiasing so that it fills a square, "
            f"and cut at the middle; 16-bit gray is scaled to 8, transparency lies on {GROUND}.",
            "Where the folder has no test set, every fifth picture of each class is one, the same for every seed; "
            "where it has a validation and a test set, the former joins the training.",
            "Pictures that look alike, such as frames of one film, are not kept apart: put them into one part.",
        ),
    )
    by_path: ClassVar[bool] = True  # whoever may name it may read any folder of this machine
    presets: ClassVar[dict[str, dict[str, Any]]] = _EXAMPLE

    def __init__(self, config: FolderConfig) -> None:
        self.config = config

    @property
    def class_count(self) -> int | None:
        """Classes, where somebody has looked."""
        return self.config.classes or None

    @classmethod
    def suited(cls, values: dict[str, Any], given: Collection[str], preset: Preset) -> dict[str, Any]:
        """The preset for the folder that ``values`` names; looks into it.

        Args:
            values: parameters by name; what is not ``given`` is replaced by what fits the folder.
            given: parameters that somebody chose.

        Returns:
            victim and recipe, as in ``presets``.

        Raises:
            DataError: the folder cannot be used.
        """
        if not values["path"]:
            return _EXAMPLE[preset]
        found = look(Path(values["path"]).expanduser(), values["table"])
        train, test = len(found.train), len(found.test)
        check_enough(train, test, found.root)
        fitting = parts_of(train, test) | {"classes": len(found.classes)}
        values |= {name: value for name, value in fitting.items() if name not in given}
        return presets_of(train, values["size"])[preset]

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Training and test images, as many as there are, uint8 ``(n, 3, size, size)``; one channel without color.

        Raises:
            DataError: the folder or a picture cannot be used, or the classes are not those that the spec was made for.
        """
        if not self.config.path:
            raise DataError("name the folder of your pictures: --set dataset.path=FOLDER")
        found = look(Path(self.config.path).expanduser(), self.config.table)
        if self.config.classes not in (0, len(found.classes)):
            raise DataError(
                f"{found.root} holds {len(found.classes)} classes, not {self.config.classes} as when this experiment "
                "was set up; set it up again"
            )
        tensors = decoded(found, self.config.size, self.config.fit, self.config.color)
        return both_sets(tensors, found.classes, self.config.size)


def decoded(found: Found, side: int, fit: Fit, color: bool) -> Tensors:
    """The pictures of a folder as tensors, kept until one of the files changes.

    Raises:
        DataError: a picture cannot be read, or the tensors cannot be kept.
    """
    make, source, megabytes = decoding(found, side, fit, color)
    key = digest([str(found.root.resolve()), side, fit, color])
    return TensorFile("pictures", f"{key}.safetensors", megabytes).load(data_folder() / KEPT, make, source)


def decoding(found: Found, side: int, fit: Fit, color: bool) -> tuple[Callable[[Path], Tensors], str, int]:
    """What decodes the pictures of a folder, the state of its files, and what the tensors take in megabytes."""
    pictures = (*found.train, *found.test)
    paths = [path for path, _ in pictures]

    def make(_: Path) -> Tensors:
        x = read_fitted(paths, side, fit, color, REMEDY)
        y = torch.tensor([label for _, label in pictures])
        cut = len(found.train)
        return {
            "train_x": x[:cut].contiguous(),
            "train_y": y[:cut].contiguous(),
            "test_x": x[cut:].contiguous(),
            "test_y": y[cut:].contiguous(),
        }

    source = f"{state_of_files(found.root, paths)} {digest(list(found.classes))}"
    return make, source, len(paths) * 3 * side * side // 2**20 + 1
