"""Numbers, moments and runs in words."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pandas as pd

NONE = "–"  # how a missing number is shown everywhere


def missing(value: Any) -> bool:
    """Whether there is no number: ``None``, NaN, NaT, infinite."""
    if value is None or isinstance(value, str):
        return value is None
    return bool(pd.isna(value)) or (isinstance(value, float) and math.isinf(value))


def percent(value: Any) -> str:
    """A share as a percentage with one decimal."""
    return NONE if missing(value) else f"{100 * float(value):.1f} %"


def number(value: Any, digits: int = 3) -> str:
    """``0.0123``, ``1030``, ``1e-08``: as many digits, and never fewer than stand before the point."""
    if missing(value):
        return NONE
    shown = f"{float(value):.{digits}g}"
    return f"{float(value):.0f}" if "e+" in shown else shown


def score(value: Any) -> str:
    """``0.274``, ``< 0.001``, ``0.99987``: what is next to nothing says so, and what is just below 1 is not 1."""
    if missing(value):
        return NONE
    short_of_one = 1 - float(value)
    if 0 < abs(float(value)) < 0.001:
        return "< 0.001" if value > 0 else "> −0.001"
    if 1e-6 <= short_of_one < 0.001:
        return f"{float(value):.{1 - math.floor(math.log10(short_of_one))}f}"
    return number(value)


def duration(seconds: Any) -> str:
    """``48 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if missing(seconds):
        return NONE
    whole = max(0, round(float(seconds)))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def when(moment: Any) -> str:
    """``21 Nov, 02:50`` of a UTC time, however it comes."""
    if missing(moment) or not moment:
        return NONE
    if not isinstance(moment, datetime):
        try:
            moment = datetime.fromisoformat(str(moment))
        except ValueError:
            return str(moment)
    return f"{moment:%d %b, %H:%M} UTC"


def run_title(run: Mapping[str, Any]) -> str:
    """``digits · badnets · awm``: what a run is about."""
    return " · ".join(str(run[k]) for k in ("dataset", "attack", "defense"))


def run_label(run: Mapping[str, Any]) -> str:
    """One line that tells a run from its neighbors in a list."""
    marks = [run_title(run), f"{run['preset']}, seed {run['seed']}", when(run.get("created"))]
    if run.get("source") == "reference":
        marks.append("reference")
    return "  |  ".join([*marks, str(run["run_id"])[:8]])
