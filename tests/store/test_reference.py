"""The results that come with the program: small, whole, and packed by the code that is here."""

from pathlib import Path

import pytest

import poisonlab
from poisonlab.store import Store
from poisonlab.store.index import run_columns
from poisonlab.store.showcase import MAX_RUNS

REPACK = "the code has changed since: poisonlab results pack results/reference results/reference"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory):
    store = Store(tmp_path_factory.mktemp("results"))
    yield store
    store.close()


def test_they_open_and_are_small(shipped: Store) -> None:
    files = [file for file in poisonlab.reference_folder().rglob("*") if file.is_file()]

    assert not shipped.skipped and shipped.counts()["done"] > 500
    assert sum(file.stat().st_size for file in files) < 20e6
    assert 30 <= len(shipped.runs.shipped.showcase) <= MAX_RUNS


def test_their_rows_are_what_the_code_makes_of_their_records(shipped: Store) -> None:
    run_ids = shipped.runs.find(state=None, limit=10_000)["run_id"].tolist()
    for run_id in sorted(run_ids)[::25]:
        record = shipped.runs.record(run_id)
        columns = run_columns(record, "reference", "")
        del columns["record_hash"]
        selected = ", ".join(f"{name}::VARCHAR" if name == "run_id" else name for name in columns)
        (row,) = shipped.db.rows(f"SELECT {selected} FROM runs WHERE run_id = ?", [run_id])
        assert dict(zip(columns, row, strict=True)) == columns, REPACK
        metrics = shipped.db.rows("SELECT name, value FROM metrics WHERE run_id = ?", [run_id])
        assert dict(metrics) == record.metrics, REPACK


def test_the_artifacts_of_the_showcase_are_whole(shipped: Store) -> None:
    for run_id in shipped.runs.shipped.showcase:
        record = shipped.runs.record(run_id)
        for item in record.artifacts:
            loaded = shipped.runs.load_artifact(run_id, item.name, item.sha256)
            assert type(loaded).__name__ == item.kind
        assert Path(shipped.runs.shipped.folder / run_id).is_dir()
