"""A folder of one's own pictures: a folder for each class, or a table of names and labels."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from poisonlab.data.shared.image_folder import state_of_files, state_of_folders
from poisonlab.data.shared.own_dataset import AS_DECODED, OwnConfig, OwnDataset, decoder, kept
from poisonlab.data.shared.own_folder import Found, look
from poisonlab.data.shared.pixels import Fit
from poisonlab.data.shared.tensor_file import Tensors
from poisonlab.registry import Card, dataset
from poisonlab.spec.config import digest, param


class FolderConfig(OwnConfig):
    path: str = param(
        "", "Folder of the pictures: one folder a class, with or without train and test, or a .csv table"
    )
    table: str = param("", "Table of file names and labels in that folder, where it holds more than one")


@dataset("folder")
class Folder(OwnDataset):
    """Pictures of any form and size in a folder, decoded once and kept as one tensor file."""

    Config = FolderConfig
    card = Card(
        title="A folder of your own pictures",
        paper="Layout as torchvision's ImageFolder",
        summary="Any JPEG, PNG, WebP, BMP or PPM files, sorted into a folder for each class or listed in a table. "
        "How many images each part gets, victim and recipe follow from how many there are.",
        deviations=AS_DECODED,
    )

    @classmethod
    def look_at(cls, values: dict[str, Any]) -> Found | None:
        if not values["path"]:
            return None
        path = Path(values["path"]).expanduser().absolute()
        return _looked(path, values["table"], state_of_folders(path))

    def decoded(self, found: Found) -> Tensors:  # type: ignore[override]
        return decoded(found, self.config.size, self.config.fit, self.config.color)


@lru_cache(maxsize=8)
def _looked(path: Path, table: str, state: str) -> Found:
    """What a folder holds: every experiment of a sweep asks, and the answer is the same until ``state`` changes."""
    del state
    return look(path, table)


def decoded(found: Found, side: int, fit: Fit, color: bool) -> Tensors:
    """The pictures of a folder as tensors, kept until one of the files changes.

    Raises:
        DataError: a picture cannot be read, or the tensors cannot be kept.
    """
    make, source, megabytes = decoding(found, side, fit, color)
    return kept([str(found.root.resolve()), side, fit, color], source, make, megabytes)


def decoding(found: Found, side: int, fit: Fit, color: bool) -> tuple[Callable[[Path], Tensors], str, int]:
    """What decodes the pictures of a folder, the state of its files, and what the tensors take in megabytes."""
    make, megabytes = decoder(found, side, fit, color)
    paths = [path for path, _ in (*found.train, *found.test)]
    source = f"{state_of_files(found.root, paths)} {digest(list(found.classes))}"
    return make, source, megabytes
