"""Figures that were measured here while a method was built, as data: one TOML file a method in ``measured/``.

A card explains a method; what came out of it stands here, with the dataset, the preset and whatever else differed.
These are single observations. Runs that can be repeated and compared are records, and stand on the leaderboard.
"""

import functools
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from poisonlab.published.tables import Key, PublishedError, Text, read_form
from poisonlab.spec.config import Config, Preset

FOLDER = Path(__file__).parent / "measured"

Kind = Literal["attack", "defense", "dataset", "victim"]


class Figure(Config):
    """One observation: a value, a count out of so many, or a range whose lower end may be unknown.

    Attributes:
        dataset: a registered name, or words such as ``"photographs"`` where it held for several.
        what: what was measured, in words.
        of: how many there were, where ``value`` counts some of them.
        settings: what differed from the preset, in words.
    """

    dataset: Text
    preset: Preset
    what: Text
    value: float | None = None
    of: Annotated[int, Field(ge=1)] | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    settings: str = ""
    note: str = ""

    @model_validator(mode="after")
    def _one_form(self) -> "Figure":
        if (self.value is None) == (self.high is None):
            raise ValueError("a figure is either a value or a range that ends at high")
        if self.low is not None and (self.high is None or self.low > self.high):
            raise ValueError(f"low={self.low:g} needs a high that is not below it")
        if self.of is not None and (self.value is None or not 0 <= self.value <= self.of):
            raise ValueError(f"of={self.of} needs a value between 0 and {self.of}")
        return self

    @property
    def text(self) -> str:
        """For people: ``7 of 13``, ``0.47``, ``12 to 14``, ``below 0.01``, with the unit."""
        if self.of is not None:
            text = f"{self.value:g} of {self.of}"
        elif self.value is not None:
            text = f"{self.value:g}"
        elif self.low is not None:
            text = f"{self.low:g} to {self.high:g}"
        else:
            text = f"below {self.high:g}"
        return f"{text} {self.unit}".rstrip()


class MethodFigures(Config):
    """The figures of one method."""

    kind: Kind
    method: Key
    figures: Annotated[tuple[Figure, ...], Field(min_length=1)]


def measured_figures(kind: str, method: str, folder: Path = FOLDER) -> tuple[Figure, ...]:
    """What was measured of a method while it was built; empty where nothing was noted.

    Raises:
        PublishedError: a file that does not fit the format.
    """
    return _load(folder).get((kind, method), ())


@functools.cache
def _load(folder: Path) -> dict[tuple[str, str], tuple[Figure, ...]]:
    read = [_read(path) for path in sorted(folder.glob("*.toml"))]
    return {(found.kind, found.method): found.figures for found in read}


def _read(path: Path) -> MethodFigures:
    found = read_form(path, MethodFigures)
    if path.stem != f"{found.kind}_{found.method}":
        raise PublishedError(f"{path.name}: a file of {found.kind} {found.method!r} has another name")
    return found
