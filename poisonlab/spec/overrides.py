"""Single values of a spec as text, ``attack.poison_rate=0.05``: one syntax for the command line and for links."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from poisonlab import registry
from poisonlab.spec.config import SpecError, idle_parts, make_spec, shortened

_CHOSEN = {"dataset", "attack", "defense", "victim"}  # parts that are named, and have parameters


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Overrides for ``make_spec``: name -> value; a value is JSON where it reads as such, else text.

    Raises:
        SpecError: one that is no ``name=value``.
    """
    overrides: dict[str, Any] = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator or not name:
            raise SpecError(
                f"a setting is part.param=value, such as attack.poison_rate=0.05; got {shortened(setting)}"
            )
        overrides[name] = _value(text)
    return overrides


def write_setting(name: str, value: Any) -> str:
    """The text that :func:`parse_settings` reads as ``{name: value}``; quoted only where it must be."""
    plain = isinstance(value, str) and _value(value) == value
    return f"{name}={value if plain else json.dumps(value)}"


class Dumped(Protocol):
    """A spec, whether it can be run here or is only recorded."""

    def model_dump(self, *, mode: str) -> dict[str, Any]: ...


def changed(spec: Dumped) -> dict[str, Any]:
    """Dotted name -> value of everything in ``spec`` that its preset would not have chosen.

    Parts of a recorded spec that are not installed here have no preset to be compared with; they are left out.
    """
    asked = spec.model_dump(mode="json")
    usual = _usual(asked)
    idle = idle_parts(asked)
    found: dict[str, Any] = {}
    for key, value in asked.items():
        if key in idle or key not in usual:
            continue
        if not isinstance(value, dict) or not isinstance(usual[key], dict):
            if value != usual[key]:
                found[key] = value
            continue
        mine, theirs = (v.get("params", v) if key in _CHOSEN else v for v in (value, usual[key]))
        found |= {f"{key}.{n}": v for n, v in mine.items() if n not in theirs or v != theirs[n]}
    return found


def _usual(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the preset would have chosen for the methods of a spec in JSON form, for those that are installed."""
    names = {kind: asked[kind]["name"] for kind in registry.KINDS}
    try:
        return make_spec(**names, preset=asked["preset"], seed=asked["seed"]).model_dump(mode="json")
    except (registry.UnknownName, SpecError, KeyError):  # the last: a preset of another version
        installed = {kind: name for kind, name in names.items() if name in registry.KINDS[kind]}
    usual = {}
    for kind, name in installed.items():
        config = registry.KINDS[kind][name].Config.for_preset(asked["preset"], names["dataset"])
        usual[kind] = {"name": name, "params": config.model_dump(mode="json")}
    return usual


def written(spec: Dumped) -> str:
    """All that :func:`changed` finds, in one line; empty where the preset decided everything."""
    return ", ".join(write_setting(name, value) for name, value in changed(spec).items())


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
