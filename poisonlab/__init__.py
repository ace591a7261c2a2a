"""PoisonLab: attacks on training data and defenses against them, measured on real images."""

import importlib
import os
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

RESULTS = "POISONLAB_RESULTS"  # environment variable

API = (
    "Run",
    "RunFailed",
    "SpecError",
    "check_data",
    "check_model",
    "leaderboard",
    "load_run",
    "make_spec",
    "run",
    "sweep",
)

_PACKAGE = Path(__file__).resolve().parent
_PACKED = _PACKAGE / "_app"  # a wheel holds there what a checkout has on its top level


def in_checkout() -> bool:
    """Whether this code runs from a checkout, which may be written to, and not from an installed wheel."""
    return not _PACKED.is_dir()


def app_folder() -> Path:
    """The folder that holds ``app.py``, ``pages/``, ``.streamlit/`` and ``results/reference/``."""
    return _PACKAGE.parent if in_checkout() else _PACKED


def results_folder() -> Path:
    """``POISONLAB_RESULTS``, or ``results`` in the checkout; of an installed package, in the working directory."""
    parent = app_folder() if in_checkout() else Path.cwd()
    return Path(os.environ.get(RESULTS) or parent / "results").expanduser()


def reference_folder() -> Path:
    """The results that ship with the program; only ever read."""
    return app_folder() / "results" / "reference"


def __getattr__(name: str) -> Any:
    """The names of :mod:`poisonlab.api`, which is imported when the first of them is asked for."""
    if name in API:
        return getattr(importlib.import_module("poisonlab.api"), name)
    if name == "zoo":
        return importlib.import_module("poisonlab.zoo")
    raise AttributeError(f"module 'poisonlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *API, "zoo"])
