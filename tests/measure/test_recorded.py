"""Metrics of a record that may come from anybody."""

from pathlib import Path
from typing import Any

import pytest
from store_helpers import record_of

import poisonlab
from poisonlab.measure import catalogue, recorded
from poisonlab.records.record import RecordError, write_record
from poisonlab.spec.config import make_spec
from poisonlab.store import Store


def written(folder: Path, **changed: Any) -> Path:
    record = record_of(make_spec("digits", "badnets", "awm"))
    record = record.model_copy(update=changed)
    write_record(record, folder / record.run_id)
    return folder / record.run_id


@pytest.mark.parametrize(
    ("name", "value", "span"),
    [
        ("clean_accuracy", -5, "0 to 1"),
        ("asr", 1e308, "0 to 1"),
        ("poison_success_control", 2, "0 to 1"),
        ("accuracy_loss", -1.1, "-1 to 1"),
        ("der", 1.5, "0 to 1"),
        ("flag_auroc", 2, "0 to 1"),
        ("surviving_share", -0.1, "0 to 1e+09"),
        ("surviving_share", 1e300, "0 to 1e+09"),
        ("targets", -1, "0 to 1e+09"),
        ("setting", -1e300, "-1e+09 to 1e+09"),
        ("setting_oracle", 1e300, "-1e+09 to 1e+09"),
    ],
)
def test_a_metric_outside_of_its_range_is_refused(tmp_path: Path, name: str, value: float, span: str) -> None:
    folder = written(tmp_path, metrics={name: value})
    with pytest.raises(RecordError, match=f"{name} must be from {span}".replace("+", "[+]")):
        recorded.read_record(folder)


def test_a_curve_with_the_name_of_a_metric_has_its_range(tmp_path: Path) -> None:
    folder = written(tmp_path, points=[("victim", "asr", 1, 0.5), ("victim", "asr", 2, 1e308)])
    with pytest.raises(RecordError, match="asr must be from 0 to 1"):
        recorded.read_record(folder)


def test_what_is_within_undefined_or_unknown_is_read(tmp_path: Path) -> None:
    metrics = {"asr": None, "clean_accuracy": 1 + 1e-9, "accuracy_loss": -0.2, "of_another_version": 1e9}
    assert recorded.read_record(written(tmp_path, metrics=metrics))[0].metrics == metrics


@pytest.mark.parametrize("name", sorted(catalogue.METRICS))
def test_every_metric_has_a_range(name: str) -> None:
    metric = catalogue.METRICS[name]

    assert -1e9 <= metric.lowest < metric.highest <= 1e9


def test_all_shipped_runs_lie_within_the_ranges(tmp_path: Path) -> None:
    store = Store(tmp_path, poisonlab.reference_folder())
    found = store.db.rows("SELECT name, min(value), max(value) FROM metrics GROUP BY name")
    found += store.db.rows("SELECT name, min(value), max(value) FROM points GROUP BY name")
    store.close()

    for name, low, high in found:
        catalogue.check_range(name, (low, high))
