"""The page Methods: every card can be found, and says what stands beside it."""

from pathlib import Path

from page_helpers import Open

from poisonlab import registry
from poisonlab.ui import methods


def test_every_method_is_listed_under_its_kind() -> None:
    found = methods.entries()

    for kind, registered in registry.KINDS.items():
        assert {e.name for e in methods.matching(found, kind, "", None)} == set(registered)


def test_words_are_looked_for_in_title_paper_and_summary() -> None:
    found = methods.entries()

    assert {e.name for e in methods.matching(found, "all", "CHAI chen masking", None)} == {"awm"}
    assert not methods.matching(found, "attack", "no such words anywhere", None)


def test_a_threat_model_narrows_the_list() -> None:
    clean = {e.name for e in methods.matching(methods.entries(), "attack", "", "clean label")}

    assert "sig" in clean and "badnets" not in clean


def test_every_threat_that_is_offered_finds_a_method() -> None:
    assert all(methods.matching(methods.entries(), "all", "", threat) for threat in methods.THREATS)


def test_the_page_shows_card_figures_and_bibtex(open_page: Open, tmp_path: Path) -> None:
    page = open_page(tmp_path / "results", "methods", kind="attacks", words="metapoison practical optimize")

    texts = "\n".join(m.value for m in page.markdown)
    assert "**MetaPoison**" in texts and "(https://arxiv.org/abs/2004.00225)" in texts
    assert "birds taken for dogs: **7 of 13** (cifar3, preset quick; over two seeds)" in texts
    assert any(code.value.startswith("@inproceedings{huang2020metapoison,") for code in page.code)


def test_the_page_says_when_nothing_matches(open_page: Open, tmp_path: Path) -> None:
    page = open_page(tmp_path / "results", "methods", words="zzz")

    assert "No method has all of these words" in page.info[0].value
