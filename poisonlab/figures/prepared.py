"""A figure as it is sent: built, checked and made plain once, then only written."""

import json
from typing import Any

import plotly.graph_objects as go
from plotly.basedatatypes import BaseFigure


class Prepared(BaseFigure):  # type: ignore[misc]  # plotly has no types
    """A figure that Streamlit draws as it draws one of plotly's, and that nobody changes.

    Plotly checks a figure given as a dictionary anew, and copies one of its own, property by property: milliseconds for
    each viewer. This one is its own plain form: what :meth:`to_dict` returns holds no objects but those of JSON.

    Args:
        plain: ``data``, ``layout`` and perhaps ``frames``, of a figure that plotly has checked.
        nbytes: about what it takes in memory.
    """

    def __init__(self, plain: dict[str, Any], nbytes: int = 0) -> None:
        # not the parent's, which would build and check every property
        self.__dict__["_plain"] = plain
        self.__dict__["_nbytes"] = nbytes

    @property
    def nbytes(self) -> int:
        """About what it takes in memory."""
        return int(self._nbytes)

    def to_dict(self) -> dict[str, Any]:
        """The parts of the figure, in a dictionary of its own."""
        return dict(self._plain)

    def __repr__(self) -> str:
        return f"Prepared({', '.join(self._plain)})"


def prepared(figure: go.Figure) -> Prepared:
    """The plain form of a figure."""
    text = figure.to_json(validate=False)
    return Prepared(json.loads(text), 4 * len(text))
