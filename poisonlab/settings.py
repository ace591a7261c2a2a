"""Single values of a spec as text, ``attack.poison_rate=0.05``: one syntax for the command line and for links."""

import json
from collections.abc import Iterable
from typing import Any

from poisonlab.config import SpecError


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Overrides for ``make_spec``: name -> value; a value is JSON where it reads as such, else text.

    Raises:
        SpecError: one that is no ``name=value``.
    """
    overrides: dict[str, Any] = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator or not name:
            raise SpecError(f"a setting is part.param=value, such as attack.poison_rate=0.05; got {setting!r}")
        overrides[name] = _value(text)
    return overrides


def write_setting(name: str, value: Any) -> str:
    """The text that :func:`parse_settings` reads as ``{name: value}``; quoted only where it must be."""
    plain = isinstance(value, str) and _value(value) == value
    return f"{name}={value if plain else json.dumps(value)}"


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
