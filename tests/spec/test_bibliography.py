"""The papers behind a view."""

from poisonlab.registry import KINDS
from poisonlab.spec.bibliography import bibtex, references


def test_each_paper_stands_once_however_many_methods_cite_it() -> None:
    entries = bibtex({"defense": ["puregen_ebm", "puregen_ddpm", "puregen_ebm"]})

    assert entries.count("@inproceedings{bhat2024puregen,") == 1


def test_names_that_cite_nothing_or_are_not_installed_give_nothing() -> None:
    assert bibtex({"attack": ["none"], "defense": ["none", "</pre>"]}) == ""


def test_keys_of_all_papers_of_the_package_differ() -> None:
    keys = [reference.key for reference in references({kind: list(names) for kind, names in KINDS.items()})]

    assert len(set(keys)) == len(keys) > 40
