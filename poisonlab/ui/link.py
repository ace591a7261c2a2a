"""What streamlit's own binding of widgets to the URL leaves open: lists, and hints about values that cannot be."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import streamlit as st

from poisonlab.ui.wording import escape

T = TypeVar("T")

# of a list in the URL
MAX_VALUES = 200
MAX_LENGTH = 200


def read(name: str) -> tuple[list[str], int]:
    """The values of a repeated parameter, and how many links have set it so far in this session.

    Widgets that start from the values take the number into their key: a link followed on the open page
    then replaces what they hold, and what they wrote themselves (:func:`write`) does not.
    """
    state = st.session_state
    values = [value[:MAX_LENGTH] for value in st.query_params.get_all(name)[:MAX_VALUES]]
    if values != state.get(f"written_{name}"):
        state[f"written_{name}"] = values
        state[f"links_{name}"] = state.get(f"links_{name}", 0) + 1
    return values, state[f"links_{name}"]


def write(name: str, values: Sequence[str]) -> None:
    """Set a repeated parameter to what its widgets hold now; an empty list leaves the URL."""
    st.session_state[f"written_{name}"] = kept = list(values[:MAX_VALUES])
    if st.query_params.get_all(name) == kept:
        return
    if kept:
        st.query_params[name] = kept
    else:
        del st.query_params[name]


def hint_choice(key: str, label: str, options: Iterable[str]) -> None:
    """Before a bound selectbox: say so when the URL asks for what is none of its options."""
    asked = st.query_params.get(key)
    known = list(options)
    if asked is not None and asked not in known:
        _hint(f"{label} {asked[:60]!r}; there is: {', '.join(known)}")


def choice(
    place: Any,
    label: str,
    options: Sequence[str],
    shown: Callable[[str], str],
    *,
    key: str,
    help: str | None = None,
) -> str:
    """A selectbox whose option stands in the URL, whatever it is called on the screen (streamlit binds that name)."""
    state = st.session_state
    box = f"{key}_box"
    in_url = f"{key}_in_url"
    asked = st.query_params.get(key)
    if asked is not None and asked != state.get(in_url):  # a link was followed: it decides
        hint_choice(key, label.lower(), options)
        if asked in options:
            state[box] = asked
    if state.get(box) not in options:
        state[box] = state[in_url] if state.get(in_url) in options else options[0]
    chosen = str(place.selectbox(label, options, format_func=shown, key=box, help=help))
    st.query_params[key] = state[in_url] = chosen
    return chosen


def number(place: Any, label: str, low: int, high: int, *, key: str, help: str, usual: Any = "min") -> int:
    """A whole number bound to the URL; one that does not fit leaves it, with a hint (streamlit raises for ``inf``)."""
    asked = st.query_params.get(key)
    fits = asked is None or (re.fullmatch(r"[0-9]{1,10}", asked) is not None and low <= int(asked) <= high)
    value = place.number_input(
        label, low, high, usual, step=1, key=key, bind="query-params" if fits else None, help=help
    )
    if asked is not None and not fits:
        _hint(f"{label.lower()} {asked[:60]!r}; allowed: whole numbers from {low} to {high}")
        st.query_params.pop(key, None)
    return int(value)


def segments(
    place: Any,
    label: str,
    options: Sequence[T],
    *,
    key: str,
    default: T,
    format_func: Callable[[Any], Any] = str,
    help: str | None = None,
    disabled: bool = False,
) -> T:
    """One of a few options side by side, bound to the URL, where an empty value stands for the usual option.

    Streamlit takes an empty value for no choice at all, even where it lets nobody take a choice back.
    """
    empty = st.query_params.get(key) == ""
    chosen: T | None = place.segmented_control(
        label,
        options,
        default=default,
        required=True,
        format_func=format_func,
        key=key,
        bind=None if empty else "query-params",
        help=help,
        disabled=disabled,
    )
    if empty:
        st.query_params.pop(key, None)
    return default if chosen is None else chosen


def _hint(problem: str) -> None:
    st.warning(f"The link asks for {escape(problem)}. The usual value is used instead.")
