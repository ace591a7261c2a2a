"""One HTML file that needs nothing else: its style, its program and its pictures are inside.

Its content security policy names the two scripts by their hashes and allows no request: nothing that a run brings
along, a name or a message, can run or call anywhere, even if it were not escaped.
"""

import base64
import functools
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import poisonlab
from poisonlab.figures import document as figures
from poisonlab.words import glossary
from poisonlab.words.numbers import NONE, duration, missing, number, percent

TEMPLATES = Path(__file__).parent / "templates"


def document(template: str, title: str, *, written: datetime | None = None, **values: Any) -> str:
    """A whole document.

    Args:
        template: its file in the folder of templates.
        written: the moment it names; now, if not given.
    """
    library = figures.library()
    program = _text("draw.js")
    moment = written or datetime.now(UTC)
    text = (
        _environment()
        .get_template(template)
        .render(
            title=title,
            style=Markup(_text("style.css")),
            policy=policy(library, program),
            library=Markup(library),
            program=Markup(program),
            version=poisonlab.__version__,
            written=f"{moment:%Y-%m-%d %H:%M} UTC",
            **values,
        )
    )
    return str(text)


def policy(*scripts: str) -> str:
    """A content security policy under which these scripts run, and no others, and nothing is asked of any server."""
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(_hash(script) for script in scripts),
        "style-src": "'unsafe-inline'",  # plotly.js sets styles of the lines that it draws
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@functools.cache
def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "percent": percent,
        "number": number,
        "fixed": fixed,
        "duration": duration,
        "exact": exact,
    }
    found.globals |= {"define": glossary.define, "NONE": NONE}
    return found


def exact(value: Any) -> str:
    """A number with all its digits, for who reads the document by program; empty where there is none."""
    return "" if missing(value) else repr(float(value))


def fixed(value: Any, digits: int) -> str:
    """A number with as many decimals as its neighbors in a column."""
    return NONE if missing(value) else f"{float(value):.{digits}f}"


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
