"""References: one set of fields gives the text, the link and the BibTeX entry."""

import re
from pathlib import Path

import pytest

from poisonlab import registry
from poisonlab.registry import Card
from poisonlab.spec.citation import Reference, linked

CARDS = [(kind, name) for kind, methods in registry.KINDS.items() for name in methods]
BULLSEYE = Reference("H. Aghakhani et al.", "Bullseye Polytope", 2021, venue="EuroS&P", arxiv="2005.00191")


def test_the_text_names_who_what_where_and_when() -> None:
    assert BULLSEYE.text == "H. Aghakhani et al.: Bullseye Polytope, EuroS&P 2021, arXiv:2005.00191"


def test_what_is_not_known_is_left_out() -> None:
    bare = Reference("D. Page", "How to Train Your ResNet")

    assert bare.text == "D. Page: How to Train Your ResNet"
    assert bare.url == "" and "year" not in bare.bibtex and "url" not in bare.bibtex


def test_a_journal_comes_with_its_volume() -> None:
    article = Reference("A. B", "On Labels", 2021, journal="JAIR", volume=70)

    assert article.text == "A. B: On Labels, JAIR 70, 2021"
    assert article.bibtex.startswith("@article{") and "volume = {70}" in article.bibtex


def test_bibtex_separates_authors_and_escapes_what_latex_reads_as_a_command() -> None:
    assert "author = {H. Aghakhani and others}," in BULLSEYE.bibtex
    assert r"booktitle = {EuroS\&P}," in BULLSEYE.bibtex
    assert "eprint = {2005.00191}," in BULLSEYE.bibtex


def test_a_doi_is_a_link_where_there_is_no_arxiv_number() -> None:
    assert Reference("A. B", "C", doi="10.1000/x_1").url == "https://doi.org/10.1000/x_1"


def test_cited_again_it_keeps_the_paper_and_says_how() -> None:
    again = BULLSEYE.cited("as in", detail="section 4")

    assert again.text == f"as in {BULLSEYE.text}, section 4"
    assert again.bibtex == BULLSEYE.bibtex


def test_an_identifier_in_a_text_becomes_a_link() -> None:
    assert linked("ours, arXiv:2405.18627.") == "ours, [arXiv:2405.18627](https://arxiv.org/abs/2405.18627)."


def test_a_card_without_references_says_its_source_in_words() -> None:
    card = Card(title="Mine", summary="Does something.", paper="a blog post")

    assert (card.source, card.url, card.bibtex) == ("a blog post", "", "")


def test_one_key_means_one_paper() -> None:
    titles: dict[str, set[str]] = {}
    for kind, name in CARDS:
        for reference in registry.KINDS[kind][name].card.references:
            titles.setdefault(reference.key, set()).add(reference.title)

    assert not {key: found for key, found in titles.items() if len(found) > 1}


@pytest.mark.parametrize(("kind", "name"), [pair for pair in CARDS if pair[1] not in ("none", "folder")])
def test_every_card_names_its_source(kind: str, name: str) -> None:
    card = registry.KINDS[kind][name].card

    assert card.references and all(reference.title for reference in card.references)
    assert all(re.fullmatch(r"(\d{4}\.\d{4,5})?", reference.arxiv) for reference in card.references)


def test_a_card_explains_and_does_not_report() -> None:
    """Figures that were measured stand in ``published/measured``; a setting or a published value may be named."""
    reported = re.compile(
        r"\b\d+ of (the )?\d+\b|over \w+ seeds|\(0\.\d+ and|success (below|of|was) 0|\bdB\b"
    )

    for kind, name in CARDS:
        card = registry.KINDS[kind][name].card
        assert not reported.search(" ".join((card.summary, *card.deviations))), f"{kind} {name}"


def test_the_citation_file_names_every_paper() -> None:
    cited = (Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8")

    for kind, name in CARDS:
        for reference in registry.KINDS[kind][name].card.references:
            assert reference.title in cited, f"{kind} {name}"
            assert not reference.url or reference.url in cited, f"{kind} {name}"
