"""Folders of small pictures, read into one tensor."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from poisonlab.data.base import DataError
from poisonlab.data.shared.pixels import UNREADABLE, opened


def read_pictures(paths: Sequence[Path], side: int, remedy: str) -> torch.Tensor:
    """Pictures of one size in any form (:func:`~poisonlab.data.shared.pixels.opened`) as uint8 ``(n, 3, side, side)``.

    Args:
        remedy: what to do about a picture that cannot be used, for the message.

    Raises:
        DataError: names the first picture that is absent, damaged or of another size.
    """
    x = torch.empty(len(paths), 3, side, side, dtype=torch.uint8)
    for row, path in enumerate(paths):
        try:
            pixels = np.array(opened(path))  # (h, w, 3)
        except UNREADABLE as error:
            raise DataError(f"{path} cannot be read ({error}); expected a whole picture; {remedy}") from error
        if pixels.shape[:2] != (side, side):
            found = "x".join(map(str, pixels.shape[1::-1]))
            raise DataError(f"{path} has {found} pixels, expected {side}x{side}; {remedy}")
        x[row] = torch.from_numpy(pixels).permute(2, 0, 1)
    return x


def visible(folder: Path, pattern: str) -> list[Path]:
    """Files below ``folder`` whose names fit, sorted; names that begin with a dot are no pictures.

    A Mac leaves such files (``._picture.png``) beside the pictures on other file systems, notebooks leave
    folders (``.ipynb_checkpoints``).
    """
    found = (path for path in folder.glob(pattern) if not _hidden(path.relative_to(folder)))
    return sorted(found)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def pictures_in(folder: Path, pattern: str, remedy: str) -> list[Path]:
    """The pictures of one class, sorted by name.

    Raises:
        DataError: the folder is absent or holds none.
    """
    found = visible(folder, pattern)
    if not found:
        raise DataError(f"{folder} has no {pattern} pictures; {remedy}")
    return found


def state_of_files(root: Path, paths: Iterable[Path]) -> str:
    """Changes whenever one of the files is added, removed, renamed, replaced or written to.

    Judged by name, size and times, without reading: 0.5 s for 100,000 files. The time of change (``ctime``) tells of
    a file that was replaced by one of the same size and with the same date, which a copying program may set. A copy
    of the whole folder has another state although its pictures are the same: a tensor file is then made once more.

    Args:
        paths: files below ``root``; those that are absent count as such.
    """
    lines = []
    for path in paths:
        try:
            found = path.stat()
            state = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
        except OSError:  # absent, or a link to itself
            state = "absent"
        lines.append(f"{path.relative_to(root).as_posix()} {state}")
    return hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()


def state_of_folders(root: Path) -> str:
    """Changes whenever a file below ``root`` is added, removed or renamed, or a table (``.csv``) written to.

    Goes by the times of the folders: a tenth of what it takes to look at the files. Links to folders are followed.
    """
    lines = []
    seen = set()
    for here, folders, names in os.walk(root, followlinks=True):
        found = os.stat(here)
        if (found.st_dev, found.st_ino) in seen:  # a link to a folder around it
            folders.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        lines.append(f"{here} {found.st_mtime_ns} {found.st_ctime_ns}")
        tables = [os.path.join(here, name) for name in names if name.lower().endswith(".csv")]
        times = [os.stat(table) for table in tables if os.path.isfile(table)]
        lines += [
            f"{state.st_ino} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}" for state in times
        ]
    return hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()


def read_table(path: Path) -> str:
    """A text file, with or without the byte order mark that spreadsheets write.

    Raises:
        OSError: it cannot be read. UnicodeDecodeError: it is not UTF-8.
    """
    return path.read_text(encoding="utf-8-sig")
