"""What folders and tables call the classes and the parts of a set of pictures, as text that any page can show."""

import os
import unicodedata
from pathlib import Path

from poisonlab.data.base import DataError

Picture = tuple[Path, str]  # a file and the name of its class

TRAIN = ("train", "training")
TEST = ("test", "testing")
VAL = ("val", "valid", "validation")
HELD = (*TEST, *VAL)
VAL_WORDS = (*VAL, "dev", "eval", "holdout")  # of a table
LONGEST = 255  # characters of a class's name, as of a folder's
# control characters, and those that turn the direction of what follows: a name would steer a terminal or a page
_STEERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def class_name(name: str) -> str:
    """A name as it is shown: accents in one piece, which a Mac writes apart, in one line, without what is not seen.

    Raises:
        DataError: nothing is left of it, or it is no name but a text.
    """
    letters = unicodedata.normalize("NFC", _text(name))
    kept = (" " if unicodedata.category(c) == "Cc" else c for c in letters if c not in _STEERING)
    shown = " ".join("".join(kept).split())
    if not shown:
        raise DataError(f"a class is called {name!r}, of which nothing can be read; give it a name")
    if len(shown) > LONGEST:
        raise DataError(
            f"a class is called {shown[:40]!r}..., {len(shown):,} characters; at most {LONGEST} are possible"
        )
    return shown


def _text(name: str) -> str:
    """A file's name whose bytes are no UTF-8 is read as old systems wrote it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("latin-1")
    return name


def part_of(word: str) -> str:
    """What the word for a part is called here: ``train``, ``val`` or ``test``.

    Raises:
        DataError: the word stands for none of them.
    """
    lower = word.strip().lower()
    if lower in TRAIN:
        return "train"
    if lower.startswith("test"):
        return "test"
    if lower in VAL_WORDS:
        return "val"
    raise DataError(f"a part of the pictures is called {word[:60]!r}; expected train, val or test")
