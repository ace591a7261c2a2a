"""What was entered beyond the preset, kept in the URL as ``set=part.param=value``."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import streamlit as st

from poisonlab import registry
from poisonlab.spec.config import SpecError
from poisonlab.spec.overrides import parse_settings, write_setting
from poisonlab.ui import link
from poisonlab.ui.wording import escape

NAME = "set"
SHOWN = 5  # hints; a link with more faults than that is none of ours


def read(names: Mapping[str, str]) -> tuple[list[str], int]:
    """The settings that belong to the chosen methods, and the number of the link they came by."""
    settings, number = link.read(NAME)
    before = st.session_state.get("entered_for")
    st.session_state["entered_for"] = (number, dict(names))
    if before is None or before[0] != number:
        return settings, number
    kept = _belonging(settings, before[1], names)
    dropped = [setting for setting in settings if setting not in kept]
    if dropped:
        st.caption(f"These belonged to the choices before and are dropped: {escape(', '.join(dropped))}.")
        link.write(NAME, kept)
    return kept, number


def write(overrides: Mapping[str, Any]) -> None:
    """Keep what the form holds."""
    link.write(NAME, as_settings(overrides))


def as_settings(overrides: Mapping[str, Any]) -> list[str]:
    return [write_setting(name, value) for name, value in overrides.items()]


def usable(
    settings: Sequence[str], usual: Mapping[str, Any], check: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """The settings as overrides, without those that cannot be; a hint for each says what can.

    Args:
        usual: the preset's value of every parameter that the form shows.
        check: raises ``SpecError`` for overrides that do not fit.
    """
    with suppress(SpecError):  # values that fit together may not fit one by one, in the order of the link
        whole = parse_settings(list(settings))
        if whole.keys() <= usual.keys():
            check(whole)
            return whole
    good: dict[str, Any] = {}
    hints = []
    for setting in settings:
        try:
            override = parse_settings([setting])
            for name in override.keys() - usual.keys():
                raise SpecError(f"unknown parameter {name[:60]!r}; choose one of: {_choices(name, usual)}")
            check(good | override)
        except SpecError as error:
            name = setting.partition("=")[0]
            instead = f"the preset's value {usual[name]} is used" if name in usual else "it is left out"
            hints.append(f"In the link, {error}: {instead}.")
        else:
            good |= override
    for hint in hints[:SHOWN]:
        st.warning(escape(hint))
    if len(hints) > SHOWN:
        st.warning(f"{len(hints) - SHOWN} more values of the link cannot be; the preset's are used.")
    return good


def _belonging(settings: list[str], before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The settings that still mean something under other methods."""
    changed = {kind for kind in now if now[kind] != before[kind]}
    if changed & {"dataset", "preset"}:  # every value of a preset follows from these two
        return []
    if "attack" in changed and _protocol(before) != _protocol(now):
        changed |= {"training", "head", "fine_tune", "protocol"}
    return [setting for setting in settings if re.split("[.=]", setting)[0] not in changed]


def _protocol(names: Mapping[str, str]) -> str:
    return str(registry.attack[names["attack"]].protocols[0])


def _choices(name: str, usual: Mapping[str, Any]) -> str:
    """The parameters of the part that ``name`` belongs to, or the parts."""
    part = f"{name.partition('.')[0]}."
    near = [known for known in usual if known.startswith(part)]
    parts = dict.fromkeys(f"{n.partition('.')[0]}.…" if "." in n else n for n in usual)
    return ", ".join(near or parts)
