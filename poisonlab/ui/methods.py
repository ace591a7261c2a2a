"""What the page Methods shows: which cards, and beneath each what was measured and with whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from poisonlab import registry
from poisonlab.published.comparisons import Comparison, compared
from poisonlab.published.measured import Figure, measured_figures
from poisonlab.published.tables import published_tables
from poisonlab.registry import Card
from poisonlab.spec.citation import linked
from poisonlab.spec.describe import PLURALS
from poisonlab.ui import link, navigation, results
from poisonlab.ui.wording import escape

ALL = "all"
# What a threat model may say, in the words of the cards; offered as a filter.
THREATS = (
    "clean label",
    "dirty label",
    "white box",
    "black box",
    "controls the victim's training",
    "no attacker",
    "before training",
    "trains the model",
    "holds the trained model",
    "a few clean images",
    "no clean images",
    "trusted images",
    "stops inputs",
)
NAMED = 6  # names in a line, then a count


@dataclass(frozen=True)
class Entry:
    """A method and its card."""

    kind: str
    name: str
    card: Card


def entries() -> list[Entry]:
    """Every registered method that has a card, kind by kind."""
    found = []
    for kind, methods in registry.KINDS.items():
        for name in methods:
            card = getattr(methods[name], "card", None)
            if card is not None:
                found.append(Entry(kind, name, card))
    return found


def matching(found: Sequence[Entry], kind: str, words: str, threat: str | None) -> list[Entry]:
    """Those of a kind whose text has every word, and whose threat model says ``threat``; case does not count."""
    wanted = words.lower().split()
    kept = []
    for entry in found:
        card = entry.card
        text = " ".join(
            (entry.name, card.title, card.summary, card.source, card.threat_model, *card.deviations)
        )
        fits = kind in (ALL, entry.kind) and all(word in text.lower() for word in wanted)
        if fits and (threat is None or threat in card.threat_model.lower()):
            kept.append(entry)
    return kept


def choose() -> list[Entry]:
    """The filters, each in the URL, and the methods that pass them."""
    found = entries()
    plurals = [ALL, *PLURALS]
    with st.container(border=True):
        left, right = st.columns([3, 2], vertical_alignment="bottom")
        link.hint_choice("kind", "kind", plurals)
        plural = link.segments(
            left,
            "Kind",
            plurals,
            default="attacks",
            key="kind",
        )
        kind = PLURALS.get(plural, ALL)
        words = right.text_input(
            "Search",
            max_chars=80,
            placeholder="words of a title, a paper or a summary",
            icon=":material/search:",
            key="words",
            bind="query-params",
        )
        threat = st.pills("Threat model", [t for t in THREATS if matching(found, kind, "", t)], key="threat")
    return matching(found, kind, words or "", threat)


def show(shown: Sequence[Entry]) -> None:
    """The cards, one beneath the other; a single one is open."""
    board = results.leaderboard().to_dict("records")
    for entry in shown:
        title = f"**{escape(entry.card.title)}** · {escape(entry.name)}"
        with st.container(border=True):
            st.markdown(title)
            st.markdown(entry.card.summary)
            if entry.card.threat_model:
                st.markdown(f"**Threat model.** {entry.card.threat_model}")
            if entry.card.source:
                st.markdown(f"**Paper.** {linked(entry.card.source)}")
            with st.expander("Differences, figures, comparisons, BibTeX", expanded=len(shown) == 1):
                _details(entry, board)


def _details(entry: Entry, board: Sequence[Mapping[Any, Any]]) -> None:
    card = entry.card
    if card.deviations:
        st.markdown("**Differs from the paper**\n" + "\n".join(f"- {line}" for line in card.deviations))
    figures = measured_figures(entry.kind, entry.name)
    if figures:
        _figures(figures)
    rows = [{str(column): value for column, value in row.items()} for row in board]
    _comparison(entry, compared(entry.kind, entry.name, rows, published_tables().values()))
    if card.bibtex:
        st.markdown("**BibTeX**")
        st.code(card.bibtex, language=None)


def _figures(figures: Sequence[Figure]) -> None:
    """A line each: a table would cut the notes off on a narrow screen."""
    lines = []
    for figure in figures:
        said = "; ".join(part for part in (figure.settings, figure.note) if part)
        setting = f"{figure.dataset}, preset {figure.preset}" + (f"; {said}" if said else "")
        lines.append(f"- {escape(figure.what)}: **{escape(figure.text)}** ({escape(setting)})")
    st.markdown("**Measured here while it was built**\n" + "\n".join(lines))


def _comparison(entry: Entry, found: Comparison) -> None:
    lines = []
    for kind, counts in found.measured.items():
        if counts:
            named = _listed([f"{name} ({count})" for name, count in counts.items()])
            lines.append(f"- {_plural(kind).capitalize()}: {named}")
    for table in found.tables:
        against = _listed(table.opponents) or "no defense"
        beside = f"; beside {_listed(table.rivals)}" if table.rivals else ""
        lines.append(f"- [{escape(table.title)}](claims?table={table.id}): against {against}{beside}")
    if not lines:
        st.markdown("**Compared with** nothing yet: no run and no published table has it.")
        return
    runs = f"{found.runs} measured runs" if found.runs != 1 else "one measured run"
    st.markdown(f"**Compared with**, in {runs} and {len(found.tables)} published tables\n" + "\n".join(lines))
    if found.runs and entry.kind in ("attack", "defense", "dataset"):
        navigation.link("leaderboard", "Its rows on the leaderboard", **{entry.kind: entry.name})


def _plural(kind: str) -> str:
    return next(plural for plural, name in PLURALS.items() if name == kind)


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    kept = ", ".join(escape(name) for name in names[:NAMED])
    more = len(names) - NAMED
    return f"{kept} and {more} more" if more > 0 else kept


def missing_plugins() -> None:
    """Packages whose methods were left out, each in one line."""
    for plugin in registry.plugins():
        if plugin.problem:
            st.warning(escape(plugin.problem))
