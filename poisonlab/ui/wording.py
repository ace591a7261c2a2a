"""Numbers and names in the words of a page, which is written in Markdown."""

import re

from poisonlab.words.numbers import (
    NONE,
    duration,
    missing,
    number,
    percent,
    run_label,
    run_title,
    score,
    when,
)

__all__ = [
    "NONE",
    "WELCOME",
    "duration",
    "escape",
    "missing",
    "number",
    "percent",
    "run_label",
    "run_title",
    "score",
    "when",
]
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|<>$:~\-])")

WELCOME = (
    "A model learns whatever its training images teach it, so whoever can change a few of them can plant "
    "behavior that nobody asked for. Here you run published attacks on training data against published "
    "defenses, on real images, and see what each one really achieves."
)


def escape(text: object) -> str:
    """``text`` with every character that Markdown reads as a command taken literally."""
    return _MARKDOWN.sub(r"\\\1", str(text))
