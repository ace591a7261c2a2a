"""Published tables: one TOML file each in ``tables/``, checked when read.

A file says where its numbers stand, whether they were read there or are recalled, under which setting they
were measured, and how this program would measure the same (``[reproduce]``), deviations included. Numbers are
in percent there and rates in [0, 1] everywhere else.
"""

import functools
import itertools
import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from poisonlab.spec.config import Config, explain

FOLDER = Path(__file__).parent / "tables"

Provenance = Literal["read", "recalled"]
Recipe = Literal["faster", "published", "full"]
Key = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")]
Percent = Annotated[float, Field(ge=0, le=100)]
Text = Annotated[str, Field(min_length=1)]
Value = bool | int | float | str
Settings = dict[str, Value]


Form = TypeVar("Form", bound=Config)


class PublishedError(ValueError):
    """A file of published numbers that cannot be used; the one-line message names the file and the place in it."""


def read_form(path: Path, form: type[Form]) -> Form:
    """A TOML file in the format ``form``.

    Raises:
        PublishedError: it does not fit.
    """
    try:
        return form.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise PublishedError(f"{path.name}: {error}") from None
    except ValidationError as error:
        raise PublishedError(f"{path.name}: {explain(error)}") from None


class Number(Config):
    """What one cell reports, in percent; ``[ACC, success]`` in a file, or a table where more is known of it.

    ``success_max`` is the worst of the runs, such as one a target class, that ``success`` is the mean of.
    """

    accuracy: Percent | None = None
    success: Percent | None = None
    accuracy_sd: Percent | None = None
    success_sd: Percent | None = None
    success_max: Percent | None = None
    provenance: Provenance | None = Field(None, description="Where it differs from the table's")

    @model_validator(mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        if isinstance(value, list):
            if len(value) != 2:
                raise ValueError(f"a list holds accuracy and success, got {len(value)} numbers")
            return {"accuracy": value[0], "success": value[1]}
        return value

    @model_validator(mode="after")
    def _something(self) -> "Number":
        if self.accuracy is None and self.success is None:
            raise ValueError("a cell needs accuracy or success")
        return self


class Method(Config):
    """An attack or a defense as the table names it.

    Attributes:
        name: the registered name here; ``None`` where no method of this program stands for it.
        settings: dotted parameter -> value, where the table's setting differs from the method's defaults.
        faster: more of them, under the faster recipe alone.
    """

    label: Text
    name: Key | None = None
    settings: Settings = {}
    faster: Settings = {}


class AttackMethod(Method):
    """An attack, whose cells may stand for several runs.

    Attributes:
        over: dotted parameter -> values, a run for each, of which a cell is the mean. ``seed`` splits a cell of many
            trials into runs of fewer: its values are 0 to k - 1.
    """

    over: dict[str, Annotated[tuple[Value, ...], Field(min_length=1)]] = {}

    def choices(self) -> list[Settings]:
        """What each of a cell's runs sets of ``over``; one run that sets nothing where there is none."""
        return [
            dict(zip(self.over, values, strict=True)) for values in itertools.product(*self.over.values())
        ]


class Setting(Config):
    """What was measured there, in words."""

    dataset: Text
    victim: Text
    poison_rate: Text
    clean_images: Text
    epochs: Text


class Reproduce(Config):
    """How this program measures the same: names and settings of an ``ExperimentSpec`` of the preset ``paper``.

    Attributes:
        faster, published: the settings of the two training recipes.
        deviations: how the setting differs from the published one under both of them.
    """

    dataset: Key
    victim: Key
    settings: Settings = {}
    faster: Settings
    published: Settings
    deviations: tuple[Text, ...] = ()


def _check_known(part: str, key: str, known: Collection[str]) -> None:
    if key not in known:
        raise ValueError(f"{part} name {key!r}, which is not among: {', '.join(known)}")


class PublishedTable(Config):
    """A table of accuracy and attack success, attack by defense.

    Attributes:
        cell_settings: attack -> defense -> settings of that cell alone, over those of both.
    """

    id: Key
    title: Text
    paper: Text
    place: Text = Field(description="Table, figure or file of the paper or repository")
    read_in: Text = Field(description="What the numbers were taken from")
    provenance: Provenance
    success: Literal["asr", "poison_success"] = "asr"
    unit: Literal["percent"]
    notes: tuple[Text, ...] = ()
    setting: Setting
    reproduce: Reproduce | None = None
    attacks: dict[Key, AttackMethod]
    defenses: dict[Key, Method]
    cell_settings: dict[Key, dict[Key, Settings]] = {}
    values: dict[Key, dict[Key, Number]]

    @model_validator(mode="after")
    def _names_what_it_lists(self) -> "PublishedTable":
        for part, cells in (("values", self.values), ("cell_settings", self.cell_settings)):
            for attack, row in cells.items():
                _check_known(part, attack, self.attacks)
                for defense in row:
                    _check_known(part, defense, self.defenses)
        return self

    @property
    def source(self) -> str:
        """For people: paper and place."""
        return f"{self.paper}, {self.place}"

    def numbers(self) -> Iterator[tuple[str, str, Number]]:
        """Attack, defense and number of every published cell, attack by attack."""
        for attack, row in self.values.items():
            for defense, number in row.items():
                yield attack, defense, number

    def provenance_of(self, number: Number) -> Provenance:
        return number.provenance or self.provenance


def published_tables(folder: Path | None = None) -> dict[str, PublishedTable]:
    """Every table by its id, in the order of the file names.

    Raises:
        PublishedError: a file that does not fit the format.
    """
    return _load(folder or FOLDER)


@functools.cache
def _load(folder: Path) -> dict[str, PublishedTable]:
    return {path.stem: _read(path) for path in sorted(folder.glob("*.toml"))}


def _read(path: Path) -> PublishedTable:
    table = read_form(path, PublishedTable)
    if table.id != path.stem:
        raise PublishedError(f"{path.name}: id {table.id!r} must be the file's name, {path.stem!r}")
    return table
