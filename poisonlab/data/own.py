"""Pictures of one's own as datasets with names: decoded once, then as any other dataset.

Each is a tensor file ``own_NAME.safetensors`` in the folder ``own`` of the data folder. A new one is a dataset at once,
also of a program that runs.
"""

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import create_model
from safetensors import SafetensorError, safe_open

from poisonlab.data.base import DataError, DivisionConfig, both_sets, data_folder
from poisonlab.data.folder import decoding
from poisonlab.data.shared.own_folder import Found, check_enough
from poisonlab.data.shared.pixels import Fit
from poisonlab.data.shared.tensor_file import TensorFile, Tensors
from poisonlab.registry import Card, dataset
from poisonlab.spec.config import param
from poisonlab.spec.suited import parts_of, presets_of
from poisonlab.types import ImageSet

FOLDER = "own"  # below the data folder
PREFIX = "own_"
NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,39}")
QUICK = 32  # pixels at most under the preset quick
MOST_CLASSES_NAMED = 8


class OwnPictures:
    """A set of pictures of one's own; each is a class of its own, as datasets are."""

    file: ClassVar[Path]
    card: ClassVar[Card]
    image_counts: ClassVar[tuple[int, int]]

    def __init__(self, config: Any) -> None:
        self.config = config

    def load(self) -> tuple[ImageSet, ImageSet]:
        """Training and test images, as many as there are, uint8 ``(n, channels, size, size)``."""
        tensors = _file_of(self.file).load(self.file.parent, _gone)
        return both_sets(tensors, _names(tensors["names"])[0], self.config.size)

    def picture_names(self) -> tuple[str, ...]:
        """The files that the training images were, in their order; none of a set that was added without them."""
        with safe_open(self.file, framework="numpy") as file:
            return _names(file.get_tensor("names"))[1][: self.image_counts[0]]


def own_folder() -> Path:
    """Where the sets lie."""
    return data_folder() / FOLDER


def own_sets() -> dict[str, type[OwnPictures]]:
    """The sets by their names as datasets; those that cannot be read are left out."""
    found = {}
    for path in sorted(own_folder().glob(f"{PREFIX}*.safetensors")):
        if NAME.fullmatch(path.stem.removeprefix(PREFIX)):
            made = _class_now(path)
            if made is not None:
                found[path.stem] = made
    return found


dataset.also(own_sets)


def add(name: str, found: Found, side: int, fit: Fit, color: bool = True, replace: bool = False) -> str:
    """Decode the pictures of a folder and keep them under a name.

    Args:
        name: small letters, digits and underscores; with or without the prefix of such datasets.
        replace: take the place of a set of the same name.

    Returns:
        the name of the dataset.

    Raises:
        DataError: the name cannot be, is taken, or the pictures cannot be used.
    """
    path = path_of(name.removeprefix(PREFIX))
    _refuse_taken(path, replace)
    check_enough(len(found.train), len(found.test), found.root)
    make, source, megabytes = decoding(found, side, fit, color)

    def made(folder: Path) -> Tensors:
        _refuse_taken(path, replace)  # by somebody who waited for the same name, and was first
        files = [path.relative_to(found.root).as_posix() for path, _ in (*found.train, *found.test)]
        return make(folder) | {"names": _kept_names(found.classes, files)}

    _file_of(path, megabytes).load(path.parent, made, f"{source} {side} {fit} {color}")
    return path.stem


def _refuse_taken(path: Path, replace: bool) -> None:
    if path.exists() and not replace:
        raise DataError(f"there is a dataset {path.stem} already; choose another name, or replace it")


def remove(name: str) -> None:
    """Forget a set; runs that were measured on it stay.

    Raises:
        DataError: there is none of this name.
    """
    path = path_of(name.removeprefix(PREFIX))
    if not path.exists():
        raise DataError(f"there is no dataset {path.stem}")
    path.unlink()
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)


def path_of(name: str) -> Path:
    """Where a set of this name lies.

    Raises:
        DataError: no set can have this name.
    """
    if not NAME.fullmatch(name):
        raise DataError(
            f"a set of pictures cannot be called {name[:60]!r}: take up to 40 small letters, digits and underscores"
        )
    return own_folder() / f"{PREFIX}{name}.safetensors"


def _file_of(path: Path, megabytes: int = 0) -> TensorFile:
    return TensorFile("pictures of your own", path.name, megabytes, more=("names",))


def _gone(folder: Path) -> Tensors:
    raise DataError(f"the pictures are no longer in {folder}; add them again")


def _kept_names(classes: Sequence[str], files: Sequence[str]) -> torch.Tensor:
    """Names of classes, and of the pictures' files, as bytes: a name a line, a zero between both."""
    parts = ("\n".join(" ".join(name.split()) for name in names) for names in (classes, files))
    return torch.frombuffer(bytearray("\0".join(parts).encode(errors="backslashreplace")), dtype=torch.uint8)


def _names(kept: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Both again, from a tensor or an array; older sets hold no files."""
    classes, _, files = np.asarray(kept).tobytes().decode().partition("\0")
    return tuple(classes.split("\n")), tuple(files.split("\n")) if files else ()


def _class_now(path: Path) -> type[OwnPictures] | None:
    try:
        changed = path.stat().st_mtime_ns
    except OSError:  # removed meanwhile
        return None
    return _class_of(path, changed)


@functools.lru_cache(maxsize=64)
def _class_of(path: Path, changed: int) -> type[OwnPictures] | None:
    """The dataset that a file holds.

    Args:
        changed: when it was written: another file is another dataset.
    """
    del changed
    try:
        with safe_open(path, framework="numpy") as file:
            train, test = (tuple(file.get_slice(part).get_shape()) for part in ("train_x", "test_x"))
            classes, _ = _names(file.get_tensor("names"))
    except (OSError, SafetensorError, UnicodeDecodeError):  # half written, damaged, another program's
        return None
    if len(train) != 4 or len(test) != 4 or min(train[0], test[0]) < 1:
        return None
    side = train[-1]
    known = ", ".join(classes[:MOST_CLASSES_NAMED]) + (", ..." if len(classes) > MOST_CLASSES_NAMED else "")
    card = Card(
        title=f"Your pictures: {path.stem.removeprefix(PREFIX)}",
        paper="added on this machine",
        summary=f"{train[0]:,} pictures for training and {test[0]:,} for tests at {side}x{side}, "
        f"{len(classes)} classes: {known}.",
    )
    return type(
        "OwnPictures",
        (OwnPictures,),
        {
            "__doc__": card.summary,
            "file": path,
            "name": path.stem,
            "Config": _config(train[0], test[0], side),
            "card": card,
            "class_count": len(classes),
            "class_names": classes,
            "image_counts": (train[0], test[0]),
            "presets": presets_of(train[0], side),
        },
    )


def _config(train: int, test: int, side: int) -> type[DivisionConfig]:
    """Parameters with the values that suit a set."""
    small = max(size for size in range(1, min(side, QUICK) + 1) if side % size == 0)
    parts: dict[str, Any] = {}
    for name, value in parts_of(train, test).items():
        field = DivisionConfig.model_fields[name]
        least = 0 if name in ("reserve_images", "public_images") else 20
        parts[name] = (int, param(value, str(field.description), ge=least, unit="images"))
    size = param(
        side,
        "Side of the images; below the full one they are average-pooled",
        quick=small,
        ge=8,
        le=side,
        unit="pixels",
    )
    made: type[DivisionConfig] = create_model(
        "OwnPicturesConfig", __base__=DivisionConfig, size=(int, size), **parts
    )
    return made
