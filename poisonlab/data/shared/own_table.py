"""A table of file names and labels beside pictures of one's own."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from poisonlab.data.base import DataError
from poisonlab.data.shared.image_folder import read_table
from poisonlab.data.shared.own_names import Picture, class_name, part_of

NAME_COLUMNS = ("filename", "file_name", "file", "image", "image_name", "path", "name", "id")
LABEL_COLUMNS = ("label", "class", "class_name", "category", "target", "classid")
SPLIT_COLUMNS = ("split", "set", "subset")
MOST_NAMED = 5  # files in a message


def within(root: Path, name: str) -> Path | None:
    """A file that a table names, by its one path below ``root``; ``None`` where the name leads out or cannot be."""
    try:
        below = (root / name).resolve().relative_to(root.resolve())
        path = root / below
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, out of the folder, a circle of links
        return None


def by_table(root: Path, table: Path) -> dict[str, list[Picture]]:
    """The pictures of each part, or of the whole; in the order of the table.

    Raises:
        DataError: it cannot be read, lacks a column, or names files that are not there, twice, or without a label.
    """
    columns, rows = _rows(table)
    name, label, split = (_column(columns, known) for known in (NAME_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS))
    if name is None or label is None:
        raise DataError(
            f"{table} has the columns {', '.join(columns) or 'none'}; expected one of {', '.join(NAME_COLUMNS)} and "
            f"one of {', '.join(LABEL_COLUMNS)}"
        )
    parts: dict[str, list[Picture]] = {}
    absent = []
    for row in rows:
        path = within(root, row[name]) or within(root, row[name].replace("\\", "/"))  # of Windows
        if path is None:
            absent.append(row[name])
            continue
        if not row[label].strip():
            raise DataError(f"{table} has no label for {row[name]!r}; fill it in or remove the row")
        part = part_of(row[split]) if split and row[split].strip() else ""
        parts.setdefault(part, []).append((path, class_name(row[label])))
    if absent:
        raise DataError(f"{table} names {len(absent)} files that are not in {root}: {_some(absent)}")
    _refuse_twice(table, (path for pictures in parts.values() for path, _ in pictures))
    return parts


def _refuse_twice(table: Path, paths: Iterable[Path]) -> None:
    """A picture that stands there twice may come into training and tests, or have two labels."""
    twice = [path.name for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise DataError(
            f"{table} names {len(twice)} files more than once: {_some(twice)}; leave each one row and one label"
        )


def _some(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > MOST_NAMED else ""
    return ", ".join(repr(name[:80]) for name in names[:MOST_NAMED]) + more


def _column(columns: Sequence[str], known: Sequence[str]) -> str | None:
    return next((name for name in known if name in columns), None)


def _rows(table: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns' names in small letters, and the rows by them; what a row lacks is empty."""
    try:
        text = read_table(table)
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{table} cannot be read ({error}); expected UTF-8 text with a row of names"
        ) from error
    columns = [name.strip().lower() for name in rows[0]] if rows else []
    filled = [row + [""] * (len(columns) - len(row)) for row in rows[1:] if row]
    return columns, [dict(zip(columns, row, strict=False)) for row in filled]
