"""Further runs of the same poisons under other defenses, beside the one that a page shows."""

from dataclasses import fields, replace
from typing import Any, TypeVar

import streamlit as st
import torch
from torch import Tensor

from poisonlab.records.artifacts import LangevinTrace, PurificationTrace
from poisonlab.ui import link, navigation, page, results
from poisonlab.ui.wording import escape

NAME = "beside"  # of the choice in the URL, on every page that has it
_Trace = TypeVar("_Trace", LangevinTrace, PurificationTrace)


def choose(record: Any, kind: str, most: int, help: str) -> tuple[str, list[tuple[str, Any]]]:
    """What the run is called beside others, and up to ``most`` others with their records, chosen in the URL.

    They share dataset, attack, victim and seed with ``record`` and have recorded ``kind``.
    """
    rows = results.beside(record.run_id, kind)
    own = str(rows["line"].iloc[0])
    others = rows.iloc[1:]
    labels = dict(zip(others["run_id"], others["line"], strict=True))
    asked, link_number = link.read(NAME)
    known = [run_id for run_id in dict.fromkeys(asked) if run_id in labels]
    if set(asked) - set(labels) - {record.run_id}:
        st.warning("A run in this link is not among those that purified the same images; it is left out.")
    if not labels:
        _nothing(record)
        return own, []
    chosen = st.multiselect(
        "Beside it",
        list(labels),
        default=known[:most],
        format_func=labels.__getitem__,
        max_selections=most,
        key=f"{NAME}-{record.run_id}-{link_number}",
        help=help,
        placeholder="Another defense of the same poisons",
    )
    link.write(NAME, chosen)
    found = [(labels[run_id], page.known(run_id)) for run_id in chosen]
    return own, [(label, other) for label, other in found if other is not None]


def _nothing(record: Any) -> None:
    spec = record.spec
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"No other defense has met the same poisons ({escape(spec.attack.name)} on {escape(spec.dataset.name)}, "
            f"seed {spec.seed}, with equal parameters) and recorded this. Run one, to see both side by side:",
            width="content",
        )
        if not spec.obstacle():
            navigation.link("experiment", "Another defense", like=record.run_id)


def same(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Positions of the images that two records share, pair by pair; each argument is uint8 tensors ``(n, ...)``."""
    mine, yours = (torch.cat([part.flatten(1) for part in parts], 1) for parts in (one, other))
    if mine.shape[1] != yours.shape[1]:
        return torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    equal = (mine[:, None] == yours[None]).all(2)  # (n, m)
    rows = equal.any(1).nonzero().squeeze(1)
    return rows, equal[rows].long().argmax(1)


def shared(first: _Trace, others: list[_Trace]) -> list[_Trace]:
    """Records cut to the images that all of them hold, in the order of the first."""
    kept = torch.arange(len(_starts(first)[0]))
    found: list[Any] = []
    for other in others:
        kept = kept[torch.isin(kept, same(_starts(first), _starts(other))[0])]
    cut = take(first, kept)
    for other in others:
        found.append(take(other, same(_starts(cut), _starts(other))[1]))
    return [cut, *found]


def _starts(trace: LangevinTrace | PurificationTrace) -> tuple[Tensor, ...]:
    """What says that two images are the same one: clean and as the attacker left it."""
    if isinstance(trace, PurificationTrace):
        return trace.original, trace.before
    return trace.clean_images[0], trace.poisoned_images[0]


def take(trace: _Trace, rows: Tensor) -> _Trace:
    """A record of some of its images, ``rows`` int64."""
    if isinstance(trace, PurificationTrace):
        known = [f.name for f in fields(trace) if len(getattr(trace, f.name))]  # older records say less
        return replace(trace, **{name: getattr(trace, name)[rows] for name in known})
    columns = (
        "clean_images",
        "poisoned_images",
        "clean_energy",
        "poisoned_energy",
        "from_poisoned",
        "from_clean",
    )
    return replace(trace, **{name: getattr(trace, name)[:, rows] for name in columns})
