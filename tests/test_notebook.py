"""The notebook that reads the leaderboard's file: its cells run, and agree with the ranking of the program."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import poisonlab
from poisonlab.cli import main
from poisonlab.store import Store

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = json.loads((ROOT / "docs" / "notebooks" / "results.ipynb").read_text())
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the cells have defined, run in order beside the file of the shipped results."""
    folder = tmp_path_factory.mktemp("notebook")
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        command = ["leaderboard", "--parquet", "leaderboard.parquet", "--results", str(folder / "results")]
        assert main.main(command) == 0
        for cell in CODE:
            exec(cell, names)
    return names


@pytest.fixture(scope="module")
def ranking(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    store = Store(tmp_path_factory.mktemp("ranking"))
    rows = store.rankings.board(store.rankings.blocks()[0]).rows
    store.close()
    return rows.dropna(subset=["rank"]).set_index("name")


def test_the_notebook_finds_the_mean_ranks_of_the_program(ran: dict[str, Any], ranking: pd.DataFrame) -> None:
    found = ran["mean_ranks"]

    assert set(found.index) == set(ranking.index) and len(found) > 8
    assert found.to_dict() == pytest.approx(ranking["mean_rank"].to_dict(), abs=0.2)


def test_its_figure_draws_them_and_its_last_table_names_runs(ran: dict[str, Any]) -> None:
    assert list(ran["figure"].data[0].y) == list(ran["mean_ranks"].index)
    assert ran["behind"]["run_ids"].str.fullmatch(r"[0-9a-f-]{36}").all() and len(ran["behind"]) > 8


def test_it_is_kept_without_outputs() -> None:
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in NOTEBOOK["cells"])
    assert NOTEBOOK["nbformat"] == 4 and all(cell["id"] for cell in NOTEBOOK["cells"])


API_NOTEBOOK = json.loads((ROOT / "docs" / "notebooks" / "api.ipynb").read_text())
API_CODE = ["".join(cell["source"]) for cell in API_NOTEBOOK["cells"] if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def from_python(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the cells of the notebook on Python have defined, run in order in a results folder of their own."""
    folder = tmp_path_factory.mktemp("api")
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POISONLAB_RESULTS", str(folder / "results"))
        patch.chdir(folder)
        for cell in API_CODE:
            exec(cell, names)
    return names


def test_the_notebook_on_python_uses_every_name_and_runs(from_python: dict[str, Any]) -> None:
    text = "\n".join(API_CODE)

    assert all(f"poisonlab.{name}" in text for name in poisonlab.API if name[0].islower())
    assert from_python["network"].accuracy > 0.9 and "clean networks" in from_python["network"].verdict
    assert from_python["pictures"].verdict.startswith("No verdict")
    assert [run.state for run in from_python["runs"]] == ["done"] * 4
    assert from_python["runs"][0].run_id == from_python["first"].run_id  # what is finished is not run again
    assert list(from_python["board"]["n"]) == [2, 2]
    assert from_python["answers"].keys() == {"control", "undefended", "defended"}
    assert "less than or equal to 1" in from_python["refusal"]


def test_the_notebook_on_python_is_kept_without_outputs() -> None:
    assert all(not c.get("outputs") and c.get("execution_count") is None for c in API_NOTEBOOK["cells"])
