"""Tables of numbers for the regression games: scikit-learn's diabetes, or a CSV that the user provides."""

import csv
import hashlib
import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from torch import Tensor

from poisonlab.context import derive
from poisonlab.multilevel.poisoning import Regression
from poisonlab.multilevel.spec import MAX_FEATURES, MAX_NAME

MAX_BYTES = 2 * 2**20
MAX_ROWS = 10_000
LARGEST = 1e12  # of a value; squares of larger ones lose their precision
MIN_TEST_ROWS = 20


class TableError(ValueError):
    """A table that cannot be used; the message says where and what to do."""


@dataclass(frozen=True)
class Table:
    """A table whose last column is to be predicted.

    Attributes:
        name: for people; it never becomes a path.
        features: names of the columns.
        target: name of the column to be predicted.
        x: ``(rows, features)`` float64, as they came.
        y: ``(rows,)``.
    """

    name: str
    features: tuple[str, ...]
    target: str
    x: Tensor
    y: Tensor

    @property
    def sha256(self) -> str:
        """Of the numbers, whatever they were called."""
        return hashlib.sha256(torch.cat([self.x, self.y[:, None]], 1).numpy().tobytes()).hexdigest()


def diabetes() -> Table:
    """442 patients, 10 measurements, the progress of their disease a year later (Efron et al. 2004)."""
    found = load_diabetes(scaled=False)
    x = torch.from_numpy(found.data).double()
    y = torch.from_numpy(np.asarray(found.target)).double()
    return Table("diabetes", tuple(found.feature_names), "progression", x, y)


def read_table(raw: bytes, name: str, target: str = "") -> Table:
    """A CSV with a header, numbers only, separated by commas or semicolons.

    Args:
        target: the column to be predicted; the last one by default.

    Raises:
        TableError: what is wrong, where, and what to do about it.
    """
    header, rows = _cells(raw)
    target = target or header[-1]
    if target not in header:
        raise TableError(f"no column is called {target[:MAX_NAME]!r}; there is: {', '.join(header)}")
    values = torch.tensor([_numbers(number, cells, header) for number, cells in rows], dtype=torch.float64)
    for column, title in enumerate(header):
        if values[:, column].min() == values[:, column].max():
            raise TableError(f"column {title!r} has the same value in every row: remove it")
    place = header.index(target)
    others = [column for column in range(len(header)) if column != place]
    label = "".join(c for c in name if c.isprintable())[:MAX_NAME] or "table"
    return Table(label, tuple(header[c] for c in others), target, values[:, others], values[:, place])


def _cells(raw: bytes) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and the numbered lines that are not empty."""
    if len(raw) > MAX_BYTES:
        raise TableError(f"the file has {len(raw):,} bytes, at most {MAX_BYTES:,} are read: take fewer rows")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TableError("the file is not text in UTF-8: export it as CSV with that encoding") from None
    first = text.split("\n", 1)[0]
    separator = ";" if first.count(";") > first.count(",") else ","
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except csv.Error as error:
        raise TableError(f"line {reader.line_num} is not CSV ({error}): check its quotes") from None
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if not lines:
        raise TableError("the file is empty: the first line names the columns, each further line is a row")
    header = lines[0][1]
    rows = lines[1:]
    if all(_is_number(cell) for cell in header):
        raise TableError("the first line holds numbers: put a line with the names of the columns above it")
    if not 2 <= len(header) <= MAX_FEATURES + 1:
        raise TableError(f"{len(header)} columns, allowed are 2 to {MAX_FEATURES + 1}: inputs and one target")
    for title in header:
        if not title or len(title) > MAX_NAME or not title.isprintable() or header.count(title) > 1:
            raise TableError(
                f"column name {title[:MAX_NAME]!r}: names are unique, 1 to {MAX_NAME} characters"
            )
    if len(rows) > MAX_ROWS:
        raise TableError(f"{len(rows):,} rows, at most {MAX_ROWS:,} are read: take fewer")
    if not rows:
        raise TableError("there is no row below the names of the columns")
    return header, rows


def _numbers(number: int, cells: list[str], header: list[str]) -> list[float]:
    if len(cells) != len(header):
        raise TableError(f"line {number} has {len(cells)} values, the header names {len(header)} columns")
    values = []
    for title, cell in zip(header, cells, strict=True):
        if cell.lower() in ("", "na", "n/a", "nan", "null", "none", "?"):
            raise TableError(f"line {number}, column {title!r} has no value: fill it in or remove the line")
        if not _is_number(cell):
            raise TableError(
                f"line {number}, column {title!r} holds {cell[:30]!r}, not a number: write it as one "
                "(decimal point) or remove the column"
            )
        value = float(cell)
        if not abs(value) <= LARGEST:
            raise TableError(f"line {number}, column {title!r} holds {cell[:30]}, allowed is -1e12 to 1e12")
        values.append(value)
    return values


def _is_number(cell: str) -> bool:
    try:
        return not math.isnan(float(cell)) and "_" not in cell  # float takes 1_000, a spreadsheet does not
    except ValueError:
        return False


def split(table: Table, train_rows: int, validation_rows: int, seeds: int) -> Regression:
    """The table divided at random, once for each seed from 0; the rest is for testing.

    Mean and deviation of every column, target included, are those of the rows that train and validate.

    Raises:
        TableError: too few rows, or a target that does not vary among those.
    """
    seen = train_rows + validation_rows
    if len(table.y) < seen + MIN_TEST_ROWS:
        raise TableError(
            f"{table.name} has {len(table.y)} rows; {train_rows} to train on and {validation_rows} to validate on "
            f"leave less than {MIN_TEST_ROWS} to test on: ask for fewer, or bring more rows"
        )
    values = torch.cat([table.x, table.y[:, None]], 1)
    orders = [
        torch.randperm(len(values), generator=derive(seed, "multilevel", "split")) for seed in range(seeds)
    ]
    rows = values[torch.stack(orders)]  # (seeds, rows, d + 1)
    spread = rows[:, :seen].std(1, keepdim=True, correction=0)
    if (spread[..., -1] == 0).any():
        raise TableError(
            f"column {table.target!r} hardly varies: some split has one value only; bring more rows"
        )
    scaled = (rows - rows[:, :seen].mean(1, keepdim=True)) / torch.where(spread > 0, spread, 1.0)
    parts = scaled.split([train_rows, validation_rows, len(table.y) - seen], 1)
    x, y = zip(*((part[..., :-1], part[..., -1:]) for part in parts), strict=True)
    return Regression(x[0], y[0], x[1], y[1], x[2], y[2])
