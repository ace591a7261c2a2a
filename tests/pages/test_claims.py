"""Claims: published numbers without and with measured ones beside them; quick runs never stand there."""

from pathlib import Path

import pytest
from core_helpers import rest_slow
from page_helpers import Open, recorded, words
from published_helpers import OVER, toy_folder

from poisonlab.published.specs import spec_of, specs_of
from poisonlab.published.tables import published_tables
from poisonlab.runner import runtime
from poisonlab.spec.config import ExperimentSpec, make_spec


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("poisonlab.published.tables.FOLDER", toy_folder(tmp_path / "tables"))


def measure(results: Path, *specs: ExperimentSpec) -> None:
    for spec in specs:
        recorded(spec, results)


def toy_spec(defense: str, **more: object) -> ExperimentSpec:
    return spec_of(published_tables()["toy"], "badnets", defense, **more)  # type: ignore[arg-type]


def test_without_a_measurement_the_page_shows_the_numbers_and_the_command(
    open_page: Open, tmp_path: Path
) -> None:
    app = open_page(tmp_path, "claims")

    assert "Nothing of this table is measured yet" in app.info[0].value
    assert app.code[0].value == "python -m poisonlab reproduce ftsam_cifar10 --device cuda"
    cells = app.dataframe[-1].value
    row = cells[(cells["attack"] == "BadNets") & (cells["label"] == "FT")].iloc[0]
    assert (row["clean_accuracy_published"], row["success_published"]) == (0.9029, 0.017)
    assert "Table 1" in words(app) and "Blended mixes in a drawing of our own" in words(app)


@pytest.mark.parametrize("name", rest_slow(published_tables(), now=3))
def test_every_table_of_the_program_opens_from_a_link(open_page: Open, tmp_path: Path, name: str) -> None:
    app = open_page(tmp_path, "claims", table=name)

    assert app.selectbox(key="table_box").value == name
    assert not app.warning or published_tables()[name].provenance == "recalled"


def test_recalled_numbers_are_plainly_marked(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "claims", table="anp_cifar10")

    assert "not read in the paper but recalled" in app.warning[0].value
    assert set(app.dataframe[-1].value["provenance"].dropna()) == {"recalled"}


def test_another_table_can_be_chosen_whatever_attack_was_shown(open_page: Open, tmp_path: Path) -> None:
    app = open_page(tmp_path, "claims", against="wanet")
    assert app.selectbox(key="against_box").value == "wanet"

    app.selectbox(key="table_box").set_value("rnp_log").run()

    assert not app.exception and app.selectbox(key="against_box").value == "badnets"


@pytest.mark.parametrize("query", [{"table": "nonsense"}, {"against": "<b>"}])
def test_a_link_to_what_is_not_there_is_explained(
    open_page: Open, tmp_path: Path, query: dict[str, str]
) -> None:
    app = open_page(tmp_path, "claims", **query)

    assert "The usual value is used instead" in app.warning[0].value
    assert app.selectbox(key="table_box").value == "ftsam_cifar10"


@pytest.mark.usefixtures("toy")
def test_means_over_seeds_stand_beside_published_numbers(open_page: Open, tmp_path: Path) -> None:
    specs = [
        toy_spec("none"),
        toy_spec("none", seed=1),
        toy_spec("cut"),
        toy_spec("tuned", recipe="published"),
    ]
    measure(tmp_path, *specs)

    app = open_page(tmp_path, "claims")

    cells = app.dataframe[-1].value.set_index(["attack", "label"])
    none = cells.loc[("BadNets", "No defense")]
    runs = runtime.get().store.runs.find(defense="none")
    assert none["n"] == 2 and none["state"] == "both"
    assert none["clean_accuracy"] == pytest.approx(runs["clean_accuracy"].mean())
    assert none["clean_accuracy_difference"] == pytest.approx(100 * (runs["clean_accuracy"].mean() - 0.975))
    assert cells.loc[("BadNets", "Pruning"), "state"] == "measured only"
    assert cells.loc[("BadNets", "Fine-tuning"), "state"] == "not measured yet"  # the other recipe was
    assert cells.loc[("BadNets", "Theirs"), "state"] == "published only"
    assert cells.loc[("BadNets", "Theirs"), "why"] == "no defense here stands for Theirs"
    assert cells.loc[("An attack of the future", "No defense"), "provenance"] == "recalled"
    assert "2 cells are measured, 1 are open" in words(app)

    app.segmented_control(key="recipe").set_value("published").run()

    cells = app.dataframe[-1].value.set_index(["attack", "label"])
    assert cells.loc[("BadNets", "Fine-tuning"), "n"] == 1 and cells.loc[("BadNets", "No defense"), "n"] == 0
    assert app.code[0].value.endswith("--published-epochs")


@pytest.mark.usefixtures("toy")
def test_the_same_numbers_under_the_preset_quick_are_not_shown(open_page: Open, tmp_path: Path) -> None:
    measure(tmp_path, toy_spec("none").model_copy(update={"preset": "quick"}))

    app = open_page(tmp_path, "claims")

    assert list(app.dataframe[-1].value["n"].unique()) == [0]


@pytest.mark.usefixtures("toy")
def test_runs_of_the_preset_full_stand_beside_published_numbers_as_another_networks(
    open_page: Open, tmp_path: Path
) -> None:
    own = toy_spec("none", recipe="full")
    of_table = {"attack.poison_rate": 0.2}
    assert own == make_spec("digits", "badnets", "none", preset="full", overrides=of_table)
    measure(tmp_path, own)

    faster = open_page(tmp_path, "claims", recipe="faster")
    assert list(faster.dataframe[-1].value["n"].unique()) == [0]
    app = open_page(tmp_path, "claims")  # opens on what was measured

    cells = app.dataframe[-1].value.set_index(["attack", "label"])
    none = cells.loc[("BadNets", "No defense")]
    assert (none["n"], none["state"]) == (1, "another network")
    assert "no number here reproduces one there" in words(app) and app.code[0].value.endswith("--full")


def test_a_cell_over_target_classes_shows_mean_deviation_and_how_many(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poisonlab.published.tables.FOLDER", toy_folder(tmp_path / "tables", **OVER))
    table = published_tables()["toy"]
    measure(tmp_path, *specs_of(table, "badnets", "tuned"), specs_of(table, "badnets", "none")[1])

    app = open_page(tmp_path, "claims")

    cells = app.dataframe[-1].value.set_index(["attack", "label"])
    tuned, none = cells.loc[("BadNets", "Fine-tuning")], cells.loc[("BadNets", "No defense")]
    runs = runtime.get().store.runs.find(defense="ft")["success"]
    assert (tuned["runs"], tuned["state"]) == ("2 of 2", "both")
    assert (none["runs"], none["state"]) == ("1 of 2", "measured in part")
    assert tuned["success"] == pytest.approx(runs.mean()) and tuned["success_sd"] == pytest.approx(runs.std())
    assert tuned["success_max"] == runs.max() and tuned["success_published_max"] == pytest.approx(0.2)
    assert "1 cells are measured, 2 are open" in words(app)
