"""The notebook that reads the leaderboard's file: its cells run, and agree with the ranking of the program."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

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
