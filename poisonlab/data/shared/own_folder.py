"""Which pictures of a folder of one's own belong to which class, before any of them is read.

Three layouts are understood, each also one folder further down, as archives wrap them:

- a folder for each class, as torchvision's ``ImageFolder`` has them;
- ``train`` and ``test`` or ``val`` (``training``, ``valid``, ``validation``), each with a folder for each class;
- a table (``.csv``) of file names and labels beside the pictures, with a column ``split`` or without.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch
from PIL import Image

from poisonlab.context import derive
from poisonlab.data.base import DataError, proportional_order
from poisonlab.data.shared.own_names import HELD, TRAIN, Picture, class_name, part_of
from poisonlab.data.shared.own_table import by_table, within
from poisonlab.data.shared.pixels import FORMATS, SUFFIXES, UNREADABLE

TEST_SHARE = 5  # one picture in so many is for tests where the folder does not say
LEAST = 10  # pictures of a class, training and test together
FOREIGN = ("__macosx", "thumbs.db", "desktop.ini")
FEWEST, FEWEST_TESTS = 60, 20  # pictures of a whole set
MOST_CLASSES = 10_000
MOST_NAMED = 5  # classes or files in a message
LEAST_SIDE = 16  # pixels of a picture that is not odd
MOST_OBLONG = 3  # of its sides' ratio
WRAPPERS = 4  # folders that hold nothing but one folder


P = TypeVar("P")


@dataclass(frozen=True)
class Sorted(Generic[P]):
    """Pictures by class, none of them read yet.

    Attributes:
        root: where they lie.
        classes: their names; the position of a name is its label.
        train, test: what stands for a picture, and its label.
    """

    root: Path
    classes: tuple[str, ...]
    train: tuple[tuple[P, int], ...]
    test: tuple[tuple[P, int], ...]

    def counts(self) -> list[tuple[str, int, int]]:
        """Class, training pictures, test pictures."""
        train, test = (Counter(label for _, label in part) for part in (self.train, self.test))
        return [(name, train[label], test[label]) for label, name in enumerate(self.classes)]


@dataclass(frozen=True)
class Found(Sorted[Path]):
    """What a folder holds: files; the names of the classes are sorted.

    Attributes:
        layout: which of those that are understood, in words.
        skipped: what was left out, and how often.
    """

    layout: str
    skipped: dict[str, int] = field(default_factory=dict)


def look(folder: Path, table: str = "") -> Found:
    """Find the pictures below a folder; reads names, not pictures.

    Args:
        table: name of the table to go by, below the folder; empty for the folders, or the only table where there are
            no folders of classes.

    Raises:
        DataError: no such folder, no layout that is understood, or a class with too few pictures.
    """
    try:
        return _look(folder, table)
    except OSError as error:  # a folder that may not be read
        raise DataError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from error


def _look(folder: Path, table: str) -> Found:
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give one that holds a folder of pictures for each class")
    skipped: Counter[str] = Counter()
    root = folder if table else _unwrapped(folder, skipped)
    chosen = _table(root, table)
    if chosen is not None:
        layout, parts = f"the table {chosen.name}", by_table(root, chosen)
    else:
        layout, parts = _by_folders(root, skipped)
    found = _found(root, layout, parts, skipped)
    check_counts(found)
    return found


def odd(found: Found) -> list[tuple[Path, str]]:
    """Pictures that differ from what one expects, and how; reads their headers."""
    pictures = [(path, _oddness(path)) for path, _ in (*found.train, *found.test)]
    return [(path, why) for path, why in pictures if why]


def _oddness(path: Path) -> str:
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
    except UNREADABLE:
        return "cannot be read"
    if min(width, height) < LEAST_SIDE:
        return f"only {width}x{height} pixels"
    if max(width, height) > MOST_OBLONG * min(width, height):
        return f"{width}x{height} pixels: most of it would be cut off"
    return ""


# -- folders ----------------------------------------------------------------------------------------


def _unwrapped(folder: Path, skipped: Counter[str]) -> Path:
    """The folder below the folders that hold one other, and beside it no picture or table."""
    for _ in range(WRAPPERS):
        entries = list(_entries(folder))
        folders = [path for path in entries if path.is_dir()]
        files = [path for path in entries if path not in folders]
        if len(folders) != 1 or any(path.suffix.lower() in (*SUFFIXES, ".csv") for path in files):
            return folder
        if not any(path.is_dir() or path.suffix.lower() == ".csv" for path in _entries(folders[0])):
            return folder  # the only class
        skipped.update(_why(path, "") for path in files)
        folder = folders[0]
    return folder


def _entries(folder: Path) -> Iterator[Path]:
    """What lies in a folder and is neither hidden nor left there by another program, sorted."""
    for name in sorted(os.listdir(folder)):
        if not name.startswith(".") and name.lower() not in FOREIGN:
            yield folder / name


def _by_folders(root: Path, skipped: Counter[str]) -> tuple[str, dict[str, list[Picture]]]:
    """The layout in words, and the pictures of ``train``, ``val``, ``test`` or of the whole."""
    folders = [path for path in _entries(root) if path.is_dir()]
    train = [path for path in folders if path.name.lower() in TRAIN]
    held = [path for path in folders if path.name.lower() in HELD]
    beside = [path for path in folders if path not in (*train, *held)]
    if not train or (beside and not held and not any(_holds_folders(path) for path in train)):
        return "a folder for each class", {"": _of_classes(root, skipped)}  # one of which may be of trains
    parts: dict[str, list[Picture]] = {}
    for path in (*train, *held):
        part = part_of(path.name)
        parts[part] = parts.get(part, []) + _of_classes(path, skipped)
    left_out = sum(len(list(_pictures(path, Counter()))) for path in beside)
    skipped.update({f"beside the folder {train[0].name}": left_out} if left_out else {})
    if not held:
        return "a folder for each class", parts
    return " and ".join(path.name for path in (*train, *held)), parts


def _holds_folders(folder: Path) -> bool:
    return any(path.is_dir() for path in _entries(folder))


def _of_classes(folder: Path, skipped: Counter[str]) -> list[Picture]:
    """Every picture of every class below a folder, also further down, sorted by class and name."""
    found = []
    for path in _entries(folder):
        if not path.is_dir():
            skipped[_why(path, "beside the folders of classes")] += 1
            continue
        if path.is_symlink() and folder.resolve().is_relative_to(path.resolve()):
            skipped["links to a folder around them"] += 1  # its classes would all be one more
            continue
        name = class_name(path.name)
        found += [(picture, name) for picture in _pictures(path, skipped)]
    return found


def _pictures(folder: Path, skipped: Counter[str]) -> Iterator[Path]:
    for here, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f.lower() not in FOREIGN)
        linked = sum(os.path.islink(os.path.join(here, name)) for name in folders)
        skipped.update({"links to folders within a class": linked} if linked else {})
        for name in sorted(names):
            path = Path(here) / name
            if name.startswith(".") or name.lower() in FOREIGN:
                skipped["hidden, or left by another program"] += 1
            elif path.suffix.lower() not in SUFFIXES:
                skipped[_why(path, "")] += 1
            elif path.exists() and not path.is_file():
                skipped["no file but a pipe or a device"] += 1  # reading it might never end
            else:
                yield path


def _refuse(error: OSError) -> None:
    """A folder that may not be read is no empty one."""
    raise error


def _why(path: Path, otherwise: str) -> str:
    suffix = path.suffix.lower()
    return otherwise if suffix in SUFFIXES else f"no picture ({suffix[:12] or 'without a suffix'})"


# -- a table ----------------------------------------------------------------------------------------


def _table(root: Path, name: str) -> Path | None:
    """The table to go by."""
    if name:
        path = within(root, name)
        if path is None:
            raise DataError(f"dataset.table={name!r} is no file in {root}")
        return path
    if sum(_may_be_class(path) for path in _entries(root) if path.is_dir()) > 1:
        return None
    tables = [path for path in _entries(root) if path.suffix.lower() == ".csv"]
    return tables[0] if len(tables) == 1 else None


def _may_be_class(folder: Path) -> bool:
    """Whether a folder holds pictures, and not those of a part which a table sorts into classes."""
    if folder.name.lower() in (*TRAIN, *HELD) and not _holds_folders(folder):
        return False
    return any(_pictures(folder, Counter()))


# -- both -------------------------------------------------------------------------------------------


def _found(root: Path, layout: str, parts: dict[str, list[Picture]], skipped: Counter[str]) -> Found:
    classes = tuple(sorted({name for pictures in parts.values() for _, name in pictures}))
    if len(classes) < 2:
        raise DataError(
            f"{root} holds pictures of {len(classes)} classes; expected a folder for each of two or more classes, "
            f"train and test with such folders, or a .csv of file names and labels{_left_out(skipped)}"
        )
    if len(classes) > MOST_CLASSES:
        raise DataError(f"{root} holds {len(classes):,} classes; at most {MOST_CLASSES:,} are possible")
    numbers = {name: label for label, name in enumerate(classes)}
    numbered = {part: [(path, numbers[name]) for path, name in pictures] for part, pictures in parts.items()}
    train, test = train_and_test(numbered)
    return Found(root, classes, tuple(train), tuple(test), layout, dict(skipped))


def _left_out(skipped: Counter[str]) -> str:
    """The end of a message: what was there, but is no picture that can be read."""
    most = [f"{count} {why}" for why, count in skipped.most_common(MOST_NAMED)]
    return f"; left out: {', '.join(most)}" if most else ""


def train_and_test(
    parts: dict[str, list[tuple[P, int]]],
) -> tuple[Sequence[tuple[P, int]], Sequence[tuple[P, int]]]:
    """Training and test pictures of the parts ``train``, ``val``, ``test`` and the nameless.

    Where there is a test set, what is for validation joins the training; where there is none, it is the test set.
    """
    whole = parts.get("train", []) + parts.get("", [])
    val, test = parts.get("val", []), parts.get("test", [])
    if test:
        return whole + val, test
    if val:
        return whole, val
    order = proportional_order(torch.tensor([label for _, label in whole]), derive(0, "folder")).tolist()
    apart = len(whole) // TEST_SHARE
    return [whole[i] for i in sorted(order[apart:])], [whole[i] for i in sorted(order[:apart])]


def check_counts(found: Sorted[P]) -> None:
    """Raises:
    DataError: a class has too few pictures.
    """
    scarce = [
        f"{name[:40]} ({train} and {test})"
        for name, train, test in found.counts()
        if train + test < LEAST or not train or not test
    ]
    if scarce:
        more = f" and {len(scarce) - MOST_NAMED} more" if len(scarce) > MOST_NAMED else ""
        raise DataError(
            f"too few pictures for training and test: {', '.join(scarce[:MOST_NAMED])}{more}; expected {LEAST} or "
            "more of each class, some of them for tests"
        )


def check_enough(train: int, test: int, where: Path) -> None:
    """Raises:
    DataError: fewer images than any experiment needs.
    """
    if train < FEWEST or test < FEWEST_TESTS:
        raise DataError(
            f"{where} holds {train} pictures for training and {test} for tests; at least {FEWEST} and "
            f"{FEWEST_TESTS} are needed"
        )
