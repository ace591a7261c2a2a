"""A spec as a record holds it: readable by a program that has never heard of its methods.

:class:`RecordedSpec` has the attributes of :class:`~poisonlab.spec.config.ExperimentSpec` but opens whatever method or
parameter it names. What the record does not say is ``None``; today's defaults are never put in its place.
"""

import copy
import json
import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import ValidationError

from poisonlab import registry
from poisonlab.spec.config import ExperimentSpec, SpecError, canonical_json, explain, group_of

PARTS = ("dataset", "victim", "attack", "defense")
MAX_DEPTH = 8
MAX_ENTRIES = 5_000
MAX_TEXT = 20_000
MAX_INTEGER = 2**63  # what a column of the database holds
MAX_SEED = 2**31 - 1  # the same of the column of seeds
_KEY = re.compile(r"[A-Za-z0-9_]{1,64}")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class NotRunnable(SpecError):
    """A recorded spec that this installation cannot run; the message says what is missing or has changed."""


class Values:
    """Recorded values by attribute; one that is not recorded is ``None``."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # asked for by copy and pickle, before there are values
            raise AttributeError(name)
        value = self._values.get(name)
        return Values(value) if isinstance(value, dict) else value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Values) and self._values == other._values

    def __hash__(self) -> int:
        return hash(self.canonical())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values!r})"

    def model_dump(self, mode: str = "json") -> dict[str, Any]:
        """A copy of the values, as they were written."""
        return copy.deepcopy(self._values)

    def model_dump_json(self) -> str:
        return json.dumps(self._values, separators=(",", ":"))

    def canonical(self) -> str:
        """The same JSON text for equal values, whatever the order they were written in."""
        return canonical_json(self._values)


class RecordedPart(Values):
    """A method by name, with the parameters that were recorded."""

    def __init__(self, kind: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.kind = kind
        self.name: str = values["name"]
        self.params = Values(values.get("params") or {})

    @property
    def installed(self) -> bool:
        """Whether the method is registered here."""
        return self.name in registry.KINDS[self.kind]

    @property
    def title(self) -> str:
        """Its full name, or its registered name where it is not installed."""
        return str(registry.KINDS[self.kind][self.name].card.title) if self.installed else self.name


class RecordedSpec(Values):
    """What decided a result, as it was written down.

    Raises:
        ValueError: no spec, or one larger or deeper than a record may hold.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        _check(values)
        super().__init__(values)
        self.dataset = RecordedPart("dataset", values["dataset"])
        self.victim = RecordedPart("victim", values["victim"])
        self.attack = RecordedPart("attack", values["attack"])
        self.defense = RecordedPart("defense", values["defense"])
        self.seed: int = values["seed"]
        self.preset: str = values["preset"]
        self._obstacle: str | None = None

    @classmethod
    def of(cls, value: Any) -> Self:
        """The recorded form of a spec, of JSON values, or of a recorded spec."""
        if isinstance(value, cls):
            return value
        if isinstance(value, ExperimentSpec):
            return cls(value.model_dump(mode="json"))
        if isinstance(value, Mapping):
            return cls(value)
        raise ValueError("a spec must be an object with dataset, victim, attack and defense")

    def group(self) -> str:
        """Hash of everything but the seed, equal to that of an equal ``ExperimentSpec``."""
        return group_of(self._values)

    def experiment(self) -> ExperimentSpec:
        """The spec to run again. Parameters that the record lacks (:meth:`unsaid`) take today's defaults.

        Raises:
            NotRunnable: a method is not installed here, or a parameter is unknown or out of bounds today.
        """
        for kind in PARTS:
            _check_part(getattr(self, kind))
        for name in self._values:
            if name not in ExperimentSpec.model_fields:
                raise NotRunnable(f"field {name!r} of the spec is unknown here")
        try:
            return ExperimentSpec.model_validate(self.model_dump())
        except ValidationError as error:
            raise NotRunnable(_sentence(error)) from None

    def obstacle(self) -> str:
        """Why this installation cannot run the experiment again; empty where it can."""
        if self._obstacle is None:
            try:
                self.experiment()
                self._obstacle = ""
            except NotRunnable as error:
                self._obstacle = str(error)
        return self._obstacle

    def unsaid(self) -> list[str]:
        """Dotted names of today's parameters that the record lacks; empty where it cannot be run."""
        if self.obstacle():
            return []
        today = self.experiment()
        said = set(_dotted(self._values))
        in_use = {name: v for name, v in today.model_dump(mode="json").items() if name not in today.idle()}
        return [name for name in _dotted(in_use) if name not in said]


def _dotted(spec: Mapping[str, Any]) -> list[str]:
    names = []
    for key, value in spec.items():
        if isinstance(value, dict):
            names += [f"{key}.{name}" for name in value.get("params", value)]
        else:
            names.append(key)
    return names


def _check_part(part: RecordedPart) -> None:
    if not part.installed:
        raise NotRunnable(f"made with {part.kind} {part.name!r}, which is not installed here")
    known = registry.KINDS[part.kind][part.name].Config.model_fields
    for name in part.params.model_dump():
        if name not in known:
            raise NotRunnable(f"parameter {name!r} of {part.kind} {part.name!r} is unknown here")


_BOUNDS = {
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
}


def _sentence(error: ValidationError) -> str:
    """The first finding: ``training.epochs is 5000, at most 1000 today``."""
    item = error.errors()[0]
    if item["type"] not in _BOUNDS:
        return explain(error)
    bound, words = _BOUNDS[item["type"]]
    place = ".".join(str(p) for p in item["loc"] if p != "params")
    return f"{place} is {item['input']}, {words} {item['ctx'][bound]:g} today"


def _check(values: Mapping[str, Any]) -> None:
    """Refuse what is no spec, and what is too large or too deep to be shown."""
    _measure(values, 0, [0])
    for kind in PARTS:
        part = values.get(kind)
        if not isinstance(part, Mapping):
            raise ValueError(f"spec.{kind} must be an object with a name")
        name = part.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"spec.{kind} must have a name of up to 64 letters, digits, '_', '.' and '-'")
        if not isinstance(part.get("params", {}), Mapping):
            raise ValueError(f"spec.{kind}.params must be an object")
    seed = values.get("seed")
    preset = values.get("preset")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"spec.seed must be a whole number from 0 to {MAX_SEED}")
    if not isinstance(preset, str) or not _NAME.fullmatch(preset):
        raise ValueError("spec.preset must be a name")


def _measure(value: Any, depth: int, count: list[int]) -> None:
    """Walk over all values; ``count`` holds how many were seen."""
    count[0] += 1
    if count[0] > MAX_ENTRIES or depth > MAX_DEPTH:
        raise ValueError(f"a spec has at most {MAX_ENTRIES} values, {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str) or not _KEY.fullmatch(key):
                raise ValueError(f"{str(key)[:80]!r} is no name of a parameter")
            _measure(item, depth + 1, count)
    elif isinstance(value, list | tuple):
        for item in value:
            _measure(item, depth + 1, count)
    else:
        _check_scalar(value)


def _check_scalar(value: Any) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise ValueError(f"a text in a spec has at most {MAX_TEXT} characters")
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError(f"the text {ascii(value)[:60]} in a spec holds half a character")
    elif isinstance(value, int):
        if abs(value) >= MAX_INTEGER:
            raise ValueError(f"the number {str(value)[:30]} in a spec is too large")
    elif not isinstance(value, float) or value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"{str(value)[:80]!r} in a spec is neither text nor a finite number")
