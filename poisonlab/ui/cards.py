"""What a method is, from the card it brings along."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from poisonlab import registry
from poisonlab.spec.citation import linked


def title(kind: str, name: str) -> str:
    """``BadNets`` of ``badnets``; the name itself where a method has no card."""
    card = getattr(registry.KINDS[kind][name], "card", None)
    return card.title if card else name


def row(methods: Sequence[tuple[str, str]]) -> None:
    """Cards side by side."""
    for column, (kind, name) in zip(st.columns(len(methods)), methods, strict=True):
        with column.container(border=True, height="stretch"):
            _card(kind, name, registry.KINDS[kind][name])


def _card(kind: str, name: str, method: Any) -> None:
    card = getattr(method, "card", None)
    st.caption(f"{kind} · {name}")
    if card is None:
        return
    st.markdown(f"**{card.title}**")
    st.markdown(card.summary)
    protocols = getattr(method, "protocols", None)
    if protocols:
        st.markdown("Runs under " + ", ".join(f"`{p}`" for p in protocols))
    if not (card.threat_model or card.source or card.deviations):
        return
    with st.expander("Threat model, paper, differences" if card.threat_model else "Source"):
        if card.threat_model:
            st.markdown(f"**Threat model.** {card.threat_model}")
        if card.source:
            st.markdown(f"**Paper.** {linked(card.source)}")
        if card.deviations:
            st.markdown("**Differs from the paper**\n" + "\n".join(f"- {line}" for line in card.deviations))
