"""What can be chosen, as plain data: derived from the registry and the configs, declared nowhere else."""

import typing
from typing import Any

import annotated_types
from pydantic.fields import FieldInfo

from poisonlab.registry import KINDS
from poisonlab.spec.config import Config, published_value

PLURALS = {"attacks": "attack", "defenses": "defense", "datasets": "dataset", "victims": "victim"}
_BOUNDS = {
    "ge": annotated_types.Ge,
    "gt": annotated_types.Gt,
    "le": annotated_types.Le,
    "lt": annotated_types.Lt,
}


def describe_all(plural: str) -> list[dict[str, Any]]:
    """Every registered name of a kind (``attacks`` ...) with its card and parameters, JSON-able."""
    registry = KINDS[PLURALS[plural]]
    return [describe(name, registry[name]) for name in registry]


def describe(name: str, method: Any) -> dict[str, Any]:
    """A method's card, presets and protocols where it has them, and its parameters."""
    card = method.card
    found: dict[str, Any] = {
        "name": name,
        "title": card.title,
        "paper": card.source,
        "url": card.url,
        "bibtex": card.bibtex,
        "summary": card.summary,
        "threat_model": card.threat_model,
        "deviations": list(card.deviations),
        "parameters": parameters(method.Config),
    }
    protocols = getattr(method, "protocols", None)
    if protocols:
        found["protocols"] = list(protocols)
    presets = getattr(method, "presets", None)
    if presets:
        found["presets"] = presets
    return found


def parameters(config: type[Config]) -> list[dict[str, Any]]:
    """Each field: name, type, values of the presets, bounds, choices, unit, source and meaning.

    ``quick`` and ``full`` are values, or mappings from dataset to value whose ``"*"`` stands for all others.
    """
    return [_parameter(name, field) for name, field in config.model_fields.items()]


def _parameter(name: str, field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    choices = (
        list(typing.get_args(field.annotation))
        if typing.get_origin(field.annotation) is typing.Literal
        else None
    )
    return {
        "name": name,
        "type": "choice" if choices else getattr(field.annotation, "__name__", str(field.annotation)),
        "paper": published_value(field),
        "full": extra.get("full", published_value(field)),
        "quick": extra.get("quick", published_value(field)),
        "bounds": {
            k: getattr(m, k) for m in field.metadata for k, kind in _BOUNDS.items() if isinstance(m, kind)
        },
        "choices": choices,
        "unit": extra.get("unit", ""),
        "source": extra.get("source", ""),
        "description": field.description or "",
    }


def allowed(parameter: dict[str, Any]) -> str:
    """The allowed values of a parameter in a few characters: ``0 < x <= 1``."""
    if parameter["choices"]:
        return " | ".join(str(c) for c in parameter["choices"])
    if parameter["type"] == "bool":
        return "true | false"
    bounds = parameter["bounds"]
    low = f"{bounds['ge']} <= " if "ge" in bounds else f"{bounds['gt']} < " if "gt" in bounds else ""
    high = f" <= {bounds['le']}" if "le" in bounds else f" < {bounds['lt']}" if "lt" in bounds else ""
    return f"{low}x{high}" if low or high else parameter["type"]
