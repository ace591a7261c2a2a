"""A new metric is one entry of the catalogue: the board, exports, the glossary and the command line follow."""

from collections.abc import Callable
from pathlib import Path

import pytest
from store_helpers import add, record_of

from poisonlab.cli import results
from poisonlab.measure import catalogue
from poisonlab.measure.metric import Metric
from poisonlab.spec.config import ExperimentSpec
from poisonlab.store import Store, plain
from poisonlab.store.leaderboard import columns
from poisonlab.ui import board, glossary

NEW = Metric(
    "calibration_error",
    "Calibration error",
    "Mean distance of confidence from accuracy over bins of confidence.",
    better="lower",
    column="first",
    interval=True,
)
MEASURED = {"clean_accuracy": 0.9, "asr": 0.5, "asr_undefended": 1.0, "asr_control": 0.0}


@pytest.fixture
def with_new_metric(monkeypatch: pytest.MonkeyPatch) -> Metric:
    monkeypatch.setitem(catalogue.METRICS, NEW.name, NEW)
    return NEW


@pytest.fixture
def measured(tmp_path: Path, spec: Callable[..., ExperimentSpec], with_new_metric: Metric) -> Store:
    store = Store(tmp_path, reference=tmp_path / "none")
    for seed, value in enumerate((0.1, 0.2)):
        add(store, record_of(spec(seed=seed), **MEASURED, calibration_error=value))
    add(store, record_of(spec("ft"), **MEASURED))
    return store


def test_a_new_metric_is_on_the_board_with_its_interval(measured: Store) -> None:
    rows = measured.leaderboard.rows(defense="none")

    assert rows["calibration_error"].tolist() == [pytest.approx(0.15)]
    assert rows["calibration_error_low"].tolist() == [0.0]
    assert rows["calibration_error_high"].item() > 0.2
    assert "calibration_error" in board.column_order()


def test_a_run_that_did_not_measure_it_has_none(measured: Store) -> None:
    assert measured.leaderboard.rows(defense="ft")["calibration_error"].isna().all()


def test_rows_are_sorted_by_a_new_metric(measured: Store) -> None:
    rows = measured.leaderboard.rows(sort="calibration_error")

    assert rows["defense"].tolist() == ["none", "ft"]  # what has no value comes last
    assert "calibration_error" in board.sorts()


def test_a_new_metric_is_in_exports_and_in_the_terminal(measured: Store) -> None:
    rows = measured.leaderboard.rows()
    text = plain(measured.leaderboard.with_run_ids(rows)).to_csv()

    assert "calibration_error" in text.splitlines()[0]
    assert "calibration_error" in results._shown()


def test_a_new_metric_is_in_the_glossary(with_new_metric: Metric) -> None:
    assert glossary.help_for(NEW.name) == f"{NEW.help} Lower is better."


def test_columns_hold_every_metric_of_the_board_once() -> None:
    names = columns()

    assert len(names) == len(set(names))
    assert {metric.name for metric in catalogue.board()} <= set(names)


def test_the_larger_values_come_first_where_they_are_good(measured: Store) -> None:
    best = measured.leaderboard.rows(sort="clean_accuracy")["clean_accuracy"]

    assert best.is_monotonic_decreasing
