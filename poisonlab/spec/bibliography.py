"""The papers behind a view, as one ``.bib`` file."""

from collections.abc import Iterable, Mapping

from poisonlab.registry import KINDS
from poisonlab.spec.citation import Reference


def references(methods: Mapping[str, Iterable[str]]) -> list[Reference]:
    """The papers that the cards of methods cite, each once, by their keys.

    Args:
        methods: names by kind, such as ``{"attack": ["badnets"]}``. One that is not installed here has no card.
    """
    cited = {
        reference.bibtex: reference
        for kind, names in methods.items()
        for name in names
        if name in KINDS[kind]
        for reference in KINDS[kind][name].card.references
    }
    return [cited[entry] for entry in sorted(cited)]


def bibtex(methods: Mapping[str, Iterable[str]]) -> str:
    """An entry for each paper of :func:`references`; two papers with one key are told apart by a letter behind it."""
    entries: list[str] = []
    used: dict[str, int] = {}
    for reference in references(methods):
        repeats = used.get(reference.key, 0)
        used[reference.key] = repeats + 1
        letter = chr(ord("a") + repeats) if repeats else ""
        entries.append(reference.bibtex.replace(reference.key, f"{reference.key}{letter}", 1))
    return "\n\n".join(entries)
