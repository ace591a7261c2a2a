"""PoisonLab: attacks on training data and defenses against them, measured on real images."""

from pathlib import Path

__version__ = "0.1.0"

_PACKAGE = Path(__file__).resolve().parent
_PACKED = _PACKAGE / "_app"  # a wheel holds there what a checkout has on its top level


def in_checkout() -> bool:
    """Whether this code runs from a checkout, which may be written to, and not from an installed wheel."""
    return not _PACKED.is_dir()


def app_folder() -> Path:
    """The folder that holds ``app.py``, ``pages/``, ``.streamlit/`` and ``results/reference/``."""
    return _PACKAGE.parent if in_checkout() else _PACKED
