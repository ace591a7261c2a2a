"""Single values of a spec as text, ``attack.poison_rate=0.05``: one syntax for the command line and for links."""

import json
from collections.abc import Iterable
from typing import Any

from poisonlab.spec.config import ExperimentSpec, SpecError, make_spec

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
                f"a setting is part.param=value, such as attack.poison_rate=0.05; got {setting!r}"
            )
        overrides[name] = _value(text)
    return overrides


def write_setting(name: str, value: Any) -> str:
    """The text that :func:`parse_settings` reads as ``{name: value}``; quoted only where it must be."""
    plain = isinstance(value, str) and _value(value) == value
    return f"{name}={value if plain else json.dumps(value)}"


def changed(spec: ExperimentSpec) -> dict[str, Any]:
    """Dotted name -> value of everything in ``spec`` that its preset would not have chosen."""
    preset = make_spec(
        spec.dataset.name,
        spec.attack.name,
        spec.defense.name,
        preset=spec.preset,
        seed=spec.seed,
        victim=spec.victim.name,
    )
    asked, default = spec.model_dump(mode="json"), preset.model_dump(mode="json")
    found: dict[str, Any] = {}
    for key, value in asked.items():
        if key in spec.idle():
            continue
        if not isinstance(value, dict):
            if value != default[key]:
                found[key] = value
            continue
        mine, theirs = (v.get("params", v) if key in _CHOSEN else v for v in (value, default[key]))
        found |= {f"{key}.{name}": v for name, v in mine.items() if v != theirs[name]}
    return found


def written(spec: ExperimentSpec) -> str:
    """All that :func:`changed` finds, in one line; empty where the preset decided everything."""
    return ", ".join(write_setting(name, value) for name, value in changed(spec).items())


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
