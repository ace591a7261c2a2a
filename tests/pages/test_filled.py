"""Every page with a real backdoor run and a real targeted run."""

import io
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from page_helpers import Open, words

from poisonlab.runner import runtime


def run_id(defense: str) -> str:
    return str(runtime.get().store.runs.find(defense=defense)["run_id"].iloc[0])


def test_home_shows_counts_and_the_latest_results(open_page: Open, filled: Path) -> None:
    app = open_page(filled)

    assert "4 finished runs are here, 0 in the queue" in words(app)
    assert set(app.dataframe[-1].value["defense"]) == {"awm", "none", "puregen_ebm"}


@pytest.mark.parametrize("name", ["poisons", "triggers", "purification"])
def test_look_pages_show_images_with_alt_text_and_the_command(
    open_page: Open, filled: Path, name: str
) -> None:
    app = open_page(filled, name)

    shown = [image for element in app.image for image in element.proto.imgs]
    assert len(shown) >= 4
    assert all(image.alt for image in shown)
    assert all(image.url.endswith(".png") for image in shown)
    assert app.code[-1].value.startswith("python -m poisonlab run --dataset digits")
    assert "--set training.epochs=" in app.code[-1].value  # what the preset does not have, and nothing else
    assert "training.lr" not in app.code[-1].value


@pytest.mark.parametrize("name", ["poisons", "triggers"])
def test_a_link_decides_which_run_is_shown(open_page: Open, filled: Path, name: str) -> None:
    open_page(filled)
    asked = run_id("none")

    app = open_page(filled, name, run=asked)

    assert app.selectbox(key="run_box").value == asked
    assert asked in words(app)


def test_a_link_beats_filters_that_would_hide_its_run(open_page: Open, filled: Path) -> None:
    open_page(filled)
    asked = run_id("none")

    app = open_page(filled, "triggers", run=asked, defense="awm")

    assert app.selectbox(key="run_box").value == asked


def test_a_filter_chosen_later_beats_the_link(open_page: Open, filled: Path) -> None:
    open_page(filled)
    app = open_page(filled, "triggers", run=run_id("none"))

    app.selectbox(key="defense").set_value("awm").run()

    assert app.selectbox(key="run_box").value == run_id("awm")


def test_a_run_without_what_the_page_shows_is_named_as_such(open_page: Open, filled: Path) -> None:
    open_page(filled)

    app = open_page(filled, "langevin", run=run_id("awm"))

    assert "recorded nothing that this page shows" in app.warning[0].value
    assert app.selectbox(key="run_box").value == run_id("puregen_ebm")


def test_poisons_of_a_targeted_attack_show_what_each_model_says(open_page: Open, filled: Path) -> None:
    open_page(filled)

    app = open_page(filled, "poisons", run=run_id("puregen_ebm"))

    assert "The targets" in [s.value for s in app.subheader]
    assert "The attacker wants 3 chosen images misread" in words(app)


def test_amplification_slider_changes_the_difference(open_page: Open, filled: Path) -> None:
    open_page(filled)
    app = open_page(filled, "poisons", run=run_id("awm"))

    app.slider(key="amplify").set_value(7).run()

    assert not app.exception
    assert any("Difference × 7" in m.value for m in app.markdown)


def test_trigger_page_names_target_and_every_round(open_page: Open, filled: Path) -> None:
    open_page(filled)
    app = open_page(filled, "triggers", run=run_id("awm"))

    assert "should be read as **0**" in words(app)
    app.slider(key="round").set_value(2).run()
    assert not app.exception
    assert "In round 2" in words(app)


def test_purification_can_show_untouched_images(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "purification")

    app.segmented_control(key="which").set_value("untouched").run()

    assert not app.exception
    assert next(c for image in app.image for c in image.captions) == "identical"


def test_the_film_of_the_walks_begins_before_the_first_step(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "langevin")

    film = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert film["layout"]["sliders"][0]["active"] == 0
    assert len(film["frames"]) == len(film["layout"]["sliders"][0]["steps"]) > 2
    assert {button["label"] for button in film["layout"]["updatemenus"][0]["buttons"]} >= {"Play", "Pause"}
    assert film["data"][0]["source"] == film["frames"][0]["data"][0]["source"]


def test_leaderboard_groups_seeds_and_filters(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "leaderboard")
    rows = app.dataframe[0].value
    assert list(rows[rows["defense"] == "awm"]["n"]) == [2]

    app.selectbox(key="defense").set_value("puregen_ebm").run()

    assert list(app.dataframe[0].value["attack"]) == ["bullseye_polytope"]
    assert app.code[-1].value == "python -m poisonlab leaderboard --defense puregen_ebm"


def row_name(defense: str) -> str:
    row = runtime.get().store.leaderboard.rows(defense=defense).iloc[0]
    return f"{row['group']}-{row['source']}"


def test_rows_of_a_link_are_selected_and_compared(open_page: Open, filled: Path) -> None:
    open_page(filled)
    asked = [row_name("awm"), row_name("none")]

    app = open_page(filled, "leaderboard", rows=asked)

    assert "**What differs**" in words(app)
    assert any("defense.rounds" in set(table.value.get("what", ())) for table in app.dataframe)
    assert app.query_params["rows"] == asked
    app.selectbox(key="sort").set_value("der").run()  # another order: the rows stay selected
    assert "**What differs**" in words(app) and app.query_params["rows"] == asked


@pytest.mark.parametrize("bad", ["nonsense", "0123456789abcdef-local", "<b>-local", "x" * 5000])
def test_rows_of_a_link_that_are_not_here_are_explained(open_page: Open, filled: Path, bad: str) -> None:
    open_page(filled)
    asked = row_name("awm")

    app = open_page(filled, "leaderboard", rows=[bad, asked])

    assert "One row of this link cannot be selected" in app.warning[0].value
    assert "Runs of this row, by seed:" in words(app)
    assert app.query_params["rows"] == asked


def test_leaderboard_filter_without_rows_says_so(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "leaderboard", defense="awm", threat="targeted")

    assert "No measured row fits" in app.info[0].value


def test_differences_name_parameters_and_metrics(open_page: Open, filled: Path) -> None:
    from poisonlab.ui.board import differences

    open_page(filled)
    store = runtime.get().store

    table = differences([store.runs.record(run_id("awm")), store.runs.record(run_id("none"))])

    assert "defense" in set(table["what"])
    assert "defense.rounds" in set(table["what"])
    assert "attack.poison_rate" not in set(table["what"])


def test_downloads_hold_every_row(open_page: Open, filled: Path) -> None:
    from poisonlab.ui.board import as_csv, as_parquet

    open_page(filled)
    rows = runtime.get().store.leaderboard.rows()

    for frame in (pd.read_csv(io.BytesIO(as_csv(rows))), pd.read_parquet(io.BytesIO(as_parquet(rows)))):
        assert len(frame) == len(rows)
        assert list(frame["success"]) == pytest.approx(list(rows["success"]))


def test_a_run_whose_files_are_gone_is_an_explained_error(
    open_page: Open, filled: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(filled / "runs", copy / "runs")
    open_page(copy)
    for folder in (copy / "runs").iterdir():
        (folder / "run.json").unlink()

    app = open_page(copy, "triggers")

    assert "gone or damaged" in app.error[0].value


SEGMENTS = {
    "trials": "view",
    "leaderboard": "threat",
    "claims": "recipe",
    "methods": "kind",
    "experiment": "mode",
    "energy": "zoom",
    "langevin": "image",
    "purification": "which",
}


@pytest.mark.parametrize("name", SEGMENTS)
def test_an_empty_value_in_a_link_stands_for_the_usual_segment(
    open_page: Open, filled: Path, name: str
) -> None:
    key = SEGMENTS[name]
    usual = open_page(filled, name)
    empty = open_page(filled, name, **{key: ""})

    assert not empty.exception
    assert empty.segmented_control(key).value == usual.segmented_control(key).value is not None
