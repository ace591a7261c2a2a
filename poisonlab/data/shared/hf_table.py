"""Pictures and labels in a data set of Hugging Face's library: which columns, which splits, which classes."""

import io
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from poisonlab.data.base import DataError
from poisonlab.data.shared.hf_files import Opened
from poisonlab.data.shared.own_folder import MOST_CLASSES, Sorted, check_counts, train_and_test
from poisonlab.data.shared.own_names import class_name, part_of
from poisonlab.data.shared.own_table import LABEL_COLUMNS

MOST_BYTES = 200_000_000  # of one picture's file
MOST_NAMED = 12  # columns in a message


@dataclass(frozen=True)
class Choice:
    """What somebody chose of a data set; what is empty is found.

    Attributes:
        image, label: columns.
        train, test: splits; one that is named leaves out those that are not.
    """

    image: str = ""
    label: str = ""
    train: str = ""
    test: str = ""


@dataclass(frozen=True)
class Pictures:
    """The pictures of a split.

    Attributes:
        split: its name.
        table: the split, in Arrow's form.
        column: which one holds them.
        within: folders that files which it only names may lie in.
    """

    split: str
    table: Any
    column: str
    within: tuple[Path, ...]

    def stored(self, number: int) -> IO[bytes]:
        """A picture's file.

        Raises:
            OSError, ValueError: there is none, or it lies elsewhere.
        """
        value = self.table[number : number + 1][self.column][0].as_py()
        value = value if isinstance(value, Mapping) else {"bytes": value}
        content, place = value.get("bytes"), value.get("path")
        if not isinstance(content, bytes | None) or not isinstance(place, str | None):
            raise ValueError("what is there is no file of a picture")
        if content:
            return io.BytesIO(content)
        if not place:
            raise ValueError("no picture is there")
        path = Path(place).resolve()
        if not any(path.is_relative_to(folder) for folder in self.within) or not path.is_file():
            raise ValueError("its file is not in the folder of the data set")
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"its file has more than {MOST_BYTES:,} bytes")
        return io.BytesIO(path.read_bytes())


@dataclass(frozen=True, slots=True)
class Row:
    """A picture of a split, read when it is called."""

    pictures: Pictures
    number: int

    def __call__(self) -> IO[bytes]:
        return self.pictures.stored(self.number)

    def __str__(self) -> str:
        return f"row {self.number} of {self.pictures.split}"


def sorted_rows(opened: Opened, choice: Choice) -> Sorted[Row]:
    """The pictures of a data set by class; reads labels, not pictures.

    A class is called as its ``ClassLabel`` says, in that order, or as its number or text; one without pictures is left
    out.

    Raises:
        DataError: columns or splits are not there or cannot be found, a label is absent or means another class in
            another split, a class has too few pictures.
    """
    parts = _parts(opened, choice)
    features = next(iter(parts.values()))[1].features
    image = _image_column(features, choice.image)
    label = _label_column(features, choice.label)
    labels = {part: _labels(name, split, image, label) for part, (name, split) in parts.items()}
    names = _names(parts, labels, label)
    found = {value for values in labels.values() for value in values}
    order = range(len(names)) if names else sorted(found)
    kept = [value for value in order if value in found]
    if len(kept) < len(found):
        raise DataError(f"labels in {label} of {opened.folder} have no name; its ClassLabel has {len(order)}")
    classes = tuple(class_name(names[value] if names else str(value)) for value in kept)
    _check_classes(opened, classes, label)
    numbers: dict[Hashable, int] = {value: position for position, value in enumerate(kept)}
    rows = {}
    for part, (name, split) in parts.items():
        pictures = Pictures(name, split.with_format("arrow"), image, opened.within)
        rows[part] = [(Row(pictures, i), numbers[value]) for i, value in enumerate(labels[part])]
    train, test = train_and_test(rows)
    made = Sorted(opened.folder, classes, tuple(train), tuple(test))
    check_counts(made)
    return made


def _parts(opened: Opened, choice: Choice) -> dict[str, tuple[str, Any]]:
    """``train``, ``val``, ``test`` or the nameless whole -> a split's name and the split."""
    there = opened.splits
    named = {part: name for part, name in (("train", choice.train), ("test", choice.test)) if name}
    for name in named.values():
        if name not in there:
            raise DataError(f"{opened.folder} has no split {name[:60]!r}; it has {_listed(there)}")
    if choice.train and choice.train == choice.test:
        raise DataError(f"dataset.train_split and dataset.test_split are both {choice.train!r}")
    found: dict[str, str] = {}
    for name in there:
        try:
            found.setdefault(part_of(name), name)
        except DataError:  # another word: neither for training nor for tests
            continue
    if len(there) == 1 and not named:
        found = {"": next(iter(there))}
    chosen = {part: name for part, name in found.items() if not named or part == "train"} | named
    if not {"train", ""} & chosen.keys():
        raise DataError(
            f"{opened.folder} has the splits {_listed(there)}; name one: --set dataset.train_split=SPLIT"
        )
    return {part: (name, there[name]) for part, name in chosen.items()}


def _image_column(features: Mapping[str, Any], named: str) -> str:
    if named:
        return _there(features, named, "dataset.image_column")
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    found = [name for name, kind in kinds.items() if kind == "Image"]
    found = found or [name for name, feature in features.items() if _holds_files(feature)]
    if len(found) != 1:
        raise DataError(
            f"{len(found)} of the columns {_listed(features)} hold pictures; name one: --set dataset.image_column=NAME"
        )
    return found[0]


def _holds_files(feature: Any) -> bool:
    """Whether a column that is not marked as one of pictures has the form of one."""
    if isinstance(feature, Mapping):
        return {"bytes"} <= feature.keys() <= {"bytes", "path"}
    return getattr(feature, "dtype", "") in ("binary", "large_binary")


def _label_column(features: Mapping[str, Any], named: str) -> str:
    if named:
        return _there(features, named, "dataset.label_column")
    marked = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    known = [name for name in features if name.lower() in (*LABEL_COLUMNS, "labels")]
    found = marked if len(marked) == 1 else known
    if len(found) != 1:
        raise DataError(
            f"which of the columns {_listed(features)} holds the labels? Name it: --set dataset.label_column=NAME"
        )
    return found[0]


def _there(features: Mapping[str, Any], name: str, parameter: str) -> str:
    if name not in features:
        raise DataError(f"{parameter}={name[:60]!r} is none of the columns {_listed(features)}")
    return name


def _labels(name: str, split: Any, image: str, label: str) -> list[Any]:
    """The labels of a split: numbers, or texts.

    Raises:
        DataError: some rows have none, or they are something else.
    """
    for column in (image, label):
        if column not in split.features:
            raise DataError(
                f"the split {name} has no column {column!r} as another has; it has {_listed(split.features)}"
            )
    values: list[Any] = split.select_columns([label]).with_format("arrow")[:][label].to_pylist()
    unlabeled = sum(value is None or value == -1 for value in values)
    if unlabeled:
        raise DataError(
            f"{unlabeled:,} of {len(values):,} rows of the split {name} have no label in {label}; name other splits: "
            "--set dataset.train_split=SPLIT --set dataset.test_split=SPLIT"
        )
    if not all(isinstance(value, int) for value in values) and not all(isinstance(v, str) for v in values):
        raise DataError(f"the column {label} of the split {name} holds neither whole numbers nor texts")
    return values


def _names(
    parts: Mapping[str, tuple[str, Any]], labels: Mapping[str, list[Any]], label: str
) -> list[str] | None:
    """What the ``ClassLabel`` of all splits says; ``None`` where labels are numbers or texts.

    Raises:
        DataError: a label stands for one class in one split and for another in the next.
    """
    said = {name: getattr(split.features[label], "names", None) for name, split in parts.values()}
    texts = {isinstance(values[0], str) for values in labels.values() if values}
    names, *others = said.values()
    if len(texts) > 1 or any(other != names for other in others):
        raise DataError(
            f"the splits {_listed(said)} do not mean the same classes by their {label}; give them the same labels, or "
            "name one of them: --set dataset.train_split=SPLIT"
        )
    return names


def _check_classes(opened: Opened, classes: Sequence[str], label: str) -> None:
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise DataError(
            f"{opened.folder} holds pictures of {len(classes):,} classes in {label}; expected 2 to {MOST_CLASSES:,}"
        )
    if len(set(classes)) < len(classes):
        raise DataError(f"two classes of {opened.folder} have the same name; rename one")


def _listed(names: Mapping[str, Any]) -> str:
    some = [repr(name)[:60] for name in list(names)[:MOST_NAMED]]
    return ", ".join(some) + (", ..." if len(names) > MOST_NAMED else "")
