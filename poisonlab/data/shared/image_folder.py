"""Folders of small pictures, read into one tensor."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from poisonlab.data.base import DataError


def read_pictures(paths: Sequence[Path], side: int, remedy: str) -> torch.Tensor:
    """Pictures of one size, gray ones too, as uint8 ``(n, 3, side, side)``.

    Args:
        remedy: what to do about a picture that cannot be used, for the message.

    Raises:
        DataError: names the first picture that is absent, damaged or of another size.
    """
    x = torch.empty(len(paths), 3, side, side, dtype=torch.uint8)
    for row, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                pixels = np.array(image.convert("RGB"))  # (h, w, 3)
        except (OSError, ValueError, SyntaxError) as error:  # absent, truncated, no image
            raise DataError(f"{path} cannot be read ({error}); expected a whole picture; {remedy}") from error
        if pixels.shape[:2] != (side, side):
            found = "x".join(map(str, pixels.shape[1::-1]))
            raise DataError(f"{path} has {found} pixels, expected {side}x{side}; {remedy}")
        x[row] = torch.from_numpy(pixels).permute(2, 0, 1)
    return x


def pictures_in(folder: Path, pattern: str, remedy: str) -> list[Path]:
    """The pictures of one class, sorted by name.

    Raises:
        DataError: the folder is absent or holds none.
    """
    found = sorted(folder.glob(pattern))
    if not found:
        raise DataError(f"{folder} has no {pattern} pictures; {remedy}")
    return found


def hash_of_names(paths: Iterable[Path], *tables: Path) -> str:
    """Changes when pictures come or go, as when a subset gives way to the full set, or a table is another."""
    names = "/".join(sorted(f"{path.parent.name}:{path.name}" for path in paths))
    texts = [table.read_bytes() for table in tables if table.exists()]
    return hashlib.sha256(b"\n".join([names.encode(), *texts])).hexdigest()
