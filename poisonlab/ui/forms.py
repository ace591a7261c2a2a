"""Input fields derived from the configuration classes: no method is named here, none needs its own code."""

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types as at
import streamlit as st
from pydantic.fields import FieldInfo

from poisonlab.spec.config import Config, published_value
from poisonlab.ui.wording import escape

COLUMNS = 3


@dataclass(frozen=True)
class Bounds:
    """Limits of a number; ``open_low`` and ``open_high`` leave the limit itself out."""

    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    def __str__(self) -> str:
        if self.low is None and self.high is None:
            return "any"
        above = "" if self.low is None else f"{'>' if self.open_low else '≥'} {self.low:g}"
        below = "" if self.high is None else f"{'<' if self.open_high else '≤'} {self.high:g}"
        return " and ".join(part for part in (above, below) if part)


def bounds(field: FieldInfo) -> Bounds:
    """The limits a field declares."""
    found: dict[str, Any] = {}
    for limit in field.metadata:
        match limit:
            case at.Ge():
                found["low"] = limit.ge
            case at.Gt():
                found |= {"low": limit.gt, "open_low": True}
            case at.Le():
                found["high"] = limit.le
            case at.Lt():
                found |= {"high": limit.lt, "open_high": True}
    return Bounds(**found)


def explain_field(field: FieldInfo, preset_value: Any) -> str:
    """Description, bounds, published value and its source: what the hover says."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    unit = f" {extra['unit']}" if extra.get("unit") else ""
    lines = [escape(field.description or "")]
    if not _choices(field) and field.annotation is not bool and field.annotation is not str:
        lines.append(f"Allowed: {escape(bounds(field))}{escape(unit)}")
    paper = published_value(field)
    published = f"Paper: {escape(paper)}{escape(unit)}"
    if extra.get("source"):
        published += f" ({escape(extra['source'])})"
    lines.append(published)
    if preset_value != paper:
        lines.append(f"This preset: {escape(preset_value)}{escape(unit)}")
    return "  \n".join(lines)


SHORT = {"lr": "learning rate", "eps": "epsilon", "iid": "i.i.d.", "fc": "linear layer"}
CAPITALS = ("ebm", "ddpm", "asr", "psnr", "jpeg", "sam", "pca")


def readable(name: str) -> str:
    """``Learning rate`` of ``lr``, ``EBM steps`` of ``ebm_steps``: a parameter's name in words."""
    parts = [part.upper() if part in CAPITALS else SHORT.get(part, part) for part in name.split("_")]
    words = " ".join(part for part in parts if part)
    return words[:1].upper() + words[1:]


def fields(
    values: Config, key: str, preset: Config, part: str = "", named: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Draw an input for every field of ``values`` and return what they hold: name -> value.

    Args:
        values: what the inputs start from.
        key: unique in the page and different for every method and preset, so that the inputs of one
            never inherit the values of another.
        preset: the preset's values, for the hover and for how a number steps.
        part: of the spec, for the hover: ``attack`` of ``attack.poison_rate``.
        named: what the values of some parameters are called, counted from 0, such as classes.
    """
    entered: dict[str, Any] = {}
    names = list(type(values).model_fields)
    if not names:
        st.caption("Nothing to choose: no parameters.")
    for start in range(0, len(names), COLUMNS):
        for column, name in zip(st.columns(COLUMNS), names[start : start + COLUMNS], strict=False):
            field = type(values).model_fields[name]
            with column:
                entered[name] = _input(
                    _label(name, field),
                    field,
                    getattr(values, name),
                    f"{key}.{name}",
                    f"`{part}.{name}`" if part else f"`{name}`",
                    getattr(preset, name),
                    (named or {}).get(name, ()),
                )
    return entered


def _label(name: str, field: FieldInfo) -> str:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return f"{readable(name)} ({extra['unit']})" if extra.get("unit") else readable(name)


def _input(
    label: str, field: FieldInfo, value: Any, key: str, raw: str, usual: Any, named: Sequence[str]
) -> Any:
    """One widget, chosen by the field's type.

    Args:
        raw: the parameter's own name, for the hover. named: what its values are called, counted from 0.
    """
    help = f"{raw}  \n{explain_field(field, usual)}"
    if named and value in range(len(named)):
        return st.selectbox(
            label,
            range(len(named)),
            index=value,
            format_func=lambda number: f"{number}: {named[number]}",
            key=key,
            help=help,
        )
    kind = _plain_type(field.annotation)
    choices = _choices(field)
    if choices:
        return st.selectbox(label, choices, index=choices.index(value), key=key, help=help)
    if kind is bool:
        return st.checkbox(label, value, key=key, help=help)
    if kind in (int, float):
        limits = bounds(field)
        low, high = (None if edge is None else kind(edge) for edge in (limits.low, limits.high))
        step, format_ = (1, "%d") if kind is int else (_step(usual), _float_format(usual))
        return st.number_input(label, low, high, value=value, step=step, format=format_, key=key, help=help)
    return st.text_input(label, str(value), key=key, help=help)  # pydantic says whether it will do


def _float_format(value: float) -> str:
    """Short for everyday numbers, with an exponent for tiny ones."""
    return "%.2e" if value and abs(value) < 1e-3 else "%.6g"


def _step(value: float) -> float:
    """What + and - change: a tenth of the value's order of magnitude."""
    return float(10.0 ** (math.floor(math.log10(abs(value))) - 1)) if value else 0.01


def _plain_type(annotation: Any) -> Any:
    """``int`` of ``int | None`` and the like."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next((a for a in get_args(annotation) if a is not type(None)), annotation)
    return annotation


def _choices(field: FieldInfo) -> list[Any]:
    annotation = _plain_type(field.annotation)
    return list(get_args(annotation)) if get_origin(annotation) is Literal else []
