"""Figures measured while methods were built: read, checked, and about methods that exist."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from poisonlab import registry
from poisonlab.published.measured import FOLDER, Figure, measured_figures
from poisonlab.published.tables import PublishedError

FILES = sorted(FOLDER.glob("*.toml"))


def figure(**given: object) -> Figure:
    return Figure.model_validate({"dataset": "digits", "preset": "quick", "what": "success"} | given)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_is_of_a_registered_method_and_dataset(path: Path) -> None:
    kind, _, method = path.stem.partition("_")
    figures = measured_figures(kind, method)

    assert figures and method in registry.KINDS[kind]
    assert all(f.dataset == "photographs" or f.dataset in registry.dataset for f in figures)


def test_a_method_without_a_file_has_no_figures() -> None:
    assert measured_figures("defense", "awm") == ()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"value": 7, "of": 13}, "7 of 13"),
        ({"value": 0.47}, "0.47"),
        ({"value": 28, "unit": "dB"}, "28 dB"),
        ({"low": 0.56, "high": 0.72}, "0.56 to 0.72"),
        ({"high": 0.01}, "below 0.01"),
    ],
)
def test_a_figure_reads_as_people_write_it(given: dict[str, object], text: str) -> None:
    assert figure(**given).text == text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "either a value or a range"),
        ({"value": 1, "high": 2}, "either a value or a range"),
        ({"value": 14, "of": 13}, "between 0 and 13"),
        ({"low": 2, "high": 1}, "not below it"),
    ],
)
def test_a_figure_that_says_nothing_clear_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        figure(**given)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind = ", "attack_x.toml: Invalid value"),
        ('kind = "attack"\nmethod = "x"', "attack_x.toml: figures"),
        (
            'kind = "attack"\nmethod = "y"\n[[figures]]\ndataset = "d"\npreset = "quick"\nwhat = "w"\nvalue = 1',
            "has another name",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "attack_x.toml").write_text(text)

    with pytest.raises(PublishedError, match=said):
        measured_figures("attack", "x", tmp_path)
