"""Shares of a training as text, ``0.5, 0.75``: one field of a form, one value of a command line."""

from typing import Annotated, Any

from pydantic import BeforeValidator


def parse_shares(text: str) -> list[float]:
    """``"0.5, 0.75"`` -> ``[0.5, 0.75]``.

    Raises:
        ValueError: not numbers between 0 and 1, each larger than the one before.
    """
    try:
        shares = [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"shares are numbers with commas between, such as 0.5, 0.75; got {text!r}") from None
    bounds = [0.0, *shares, 1.0]
    if any(not low < high for low, high in zip(bounds, bounds[1:], strict=False)):
        raise ValueError(f"shares lie between 0 and 1, each larger than the one before; got {text!r}")
    return shares


def _canonical(value: Any) -> Any:
    """One text for equal shares, so that equal experiments have equal hashes; a single share may be a number."""
    if isinstance(value, str | int | float):
        return ", ".join(str(share) for share in parse_shares(str(value)))
    return value


Shares = Annotated[str, BeforeValidator(_canonical)]
