"""A spec as numbers under dotted names, also one that this version of the program cannot run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from poisonlab.spec.config import canonical_json

_METHODS = ("dataset", "victim", "attack", "defense")


@dataclass(frozen=True, eq=False)
class FlatSpec:
    """What decides how long the stages of a run take.

    Attributes:
        values: dotted name -> value, such as ``attack.steps``; a method's own parameters without its name.
        methods: ``dataset``, ``victim``, ``attack`` and ``defense`` -> registered name.
        victim_params: of the victim alone, as JSON.
        names: the keys of ``values``, in an order of their own.
    """

    values: dict[str, Any]
    methods: dict[str, str]
    victim_params: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> "FlatSpec":
        """Flatten a spec in JSON form."""
        values: dict[str, Any] = {}
        for part, value in spec.items():
            if isinstance(value, Mapping):
                values |= {f"{part}.{name}": inner for name, inner in value.get("params", value).items()}
            else:
                values[part] = value
        methods = {part: str(spec[part]["name"]) for part in _METHODS}
        victim_params = canonical_json(spec["victim"].get("params", {}))
        return cls(values, methods, victim_params, tuple(sorted(values)))

    def number(self, name: str, otherwise: float) -> float:
        """A number of the spec; ``otherwise`` where it has none of this name."""
        value = self.values.get(name)
        return float(value) if isinstance(value, int | float) else otherwise

    @property
    def protocol(self) -> str:
        return str(self.values.get("protocol") or "from_scratch")

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return int(self.number("dataset.size", 32))

    @property
    def trials(self) -> float:
        """Targets, each with a victim of its own."""
        return self.number("attack.targets", 1)
