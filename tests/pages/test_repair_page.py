"""The page of repairs that flag training images, and pages of runs where nobody attacked."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from core_helpers import TINY_DATA
from page_helpers import Open, recorded, words

from poisonlab.spec.config import make_spec

FEW = TINY_DATA | {"training.epochs": 3, "clean_images": 20, "victim.width": 8}


@pytest.fixture(scope="module")
def repaired(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A results folder with three runs on wrong labels, and their ids by name."""
    results = tmp_path_factory.mktemp("repaired")
    quick = {"defense.epochs": 1, "defense.adapt_epochs": 2, "defense.fisher_images": 50}
    settings: dict[str, tuple[str, dict[str, Any]]] = {
        "none": ("none", {}),
        "less": ("retain_beneficial", quick | {"defense.flag_share": 0.2}),
        "more": ("retain_beneficial", quick | {"defense.flag_share": 0.6, "defense.relabel_rest": True}),
        "detector": ("ewc_influence", {"defense.adapt_epochs": 2, "defense.fisher_images": 50}),
    }
    ids = {}
    for name, (defense, more) in settings.items():
        spec = make_spec("digits", "label_noise", defense, overrides=FEW | more)
        record = recorded(spec, results)
        ids[name] = record.run_id
    return results, ids


def test_repair_shows_flags_fates_confusion_and_what_over_flagging_costs(
    open_page: Open, repaired: tuple[Path, dict[str, str]]
) -> None:
    results, ids = repaired

    app = open_page(results, "repair", run=ids["more"])

    headings = [
        "Who is flagged",
        "What becomes of them",
        "Who is taken for whom",
        "What over-flagging costs",
        "Reproduce",
    ]
    assert [h.value for h in app.subheader] == headings
    assert len(app.get("plotly_chart")) == 6
    assert "Flagged: **72** of 120 training images" in words(app)
    shown = [image for element in app.image for image in element.proto.imgs]
    assert len(shown) == 8 and all("flagged training image labeled" in image.alt for image in shown)


def test_images_of_one_fate_are_a_link(open_page: Open, repaired: tuple[Path, dict[str, str]]) -> None:
    results, ids = repaired

    app = open_page(results, "repair", run=ids["more"], fate="relabeled")

    shown = [image for element in app.image for image in element.proto.imgs]
    assert shown and all(image.alt.endswith("relabeled") for image in shown)


def test_the_headline_speaks_of_accuracy_and_not_of_asr(
    open_page: Open, repaired: tuple[Path, dict[str, str]]
) -> None:
    results, ids = repaired

    app = open_page(results, "repair", run=ids["less"])

    said = [text.value for text in app.markdown]
    first = next(place for place, text in enumerate(said) if text.startswith(":small[Clean accuracy **"))
    labels = [text.removeprefix(":small[").partition(" **")[0] for text in said[first : first + 4]]
    assert labels == ["Clean accuracy", "Lost accuracy", "Clean accuracy, control", "Accuracy retrained"]
    assert not [text for text in said[first : first + 4] if "**–**" in text]


@pytest.mark.parametrize("name", ["none", "detector"])
def test_runs_without_flags_are_shown_where_they_belong(
    open_page: Open, repaired: tuple[Path, dict[str, str]], name: str
) -> None:
    results, ids = repaired

    app = open_page(results, "poisons", run=ids[name])
    assert "labels were changed" in words(app)
    assert "Spectrum of the perturbation" not in [h.value for h in app.subheader]  # no pixel was changed

    other = open_page(results, "repair", run=ids[name])
    assert ("Which training images stand out" in words(other)) == (name == "detector")


@pytest.mark.parametrize("name", ["home", "jobs", "budget", "trials", "claims", "experiment"])
def test_other_pages_bear_a_run_that_nobody_attacked(
    open_page: Open, repaired: tuple[Path, dict[str, str]], name: str
) -> None:
    assert len(open_page(repaired[0], name).title) == 1


def test_the_leaderboard_shows_corruptions_by_lost_accuracy(
    open_page: Open, repaired: tuple[Path, dict[str, str]]
) -> None:
    app = open_page(repaired[0], "leaderboard", threat="corruption", all_columns="true")

    rows = app.dataframe[0].value
    assert len(rows) == 4
    assert rows["success"].notna().all() and rows["success_undefended"].notna().all()


@pytest.mark.parametrize("name", ["repair", "leaderboard"])
def test_figures_of_runs_that_all_collapsed_give_way_to_the_reason(
    open_page: Open, repaired: tuple[Path, dict[str, str]], tmp_path: Path, name: str
) -> None:
    results, ids = repaired
    shutil.copytree(results / "runs", tmp_path / "runs")
    for file in (tmp_path / "runs").glob("*/run.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"collapsed": ["control"]}))

    app = open_page(tmp_path, name, **({"run": ids["less"]} if name == "repair" else {}))

    assert "so there is nothing to draw" in words(app)
