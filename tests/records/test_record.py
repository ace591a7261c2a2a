"""Bounds of a record, which may come from anybody."""

import pytest
from pydantic import ValidationError
from store_helpers import record_of

from poisonlab.records.record import MAX_CURVES, RunRecord
from poisonlab.spec.config import make_spec


def refused(**changed):
    values = record_of(make_spec("digits", "badnets", "awm")).model_dump(mode="json") | changed
    with pytest.raises(ValidationError) as caught:
        RunRecord.model_validate(values)
    return str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("created", "0001-01-01T00:00:00+14:00"),
        ("finished", "9999-12-31T23:59:59-14:00"),
        ("started", "3000-01-01T00:00:00Z"),
        ("created", "2026-01-01T00:00:00"),
    ],
)
def test_moments_that_no_column_can_hold_are_refused(field, value):
    assert field in refused(**{field: value})


@pytest.mark.parametrize("step", [2**63, 10**30, -(10**30)])
def test_steps_that_no_column_can_hold_are_refused(step):
    assert "points" in refused(points=[["victim", "loss", step, 1.0]])


def test_too_many_curves_or_metrics_are_refused():
    points = [["victim", f"curve{n}", 1, 1.0] for n in range(MAX_CURVES + 1)]
    assert "at most 200 curves, not 201" in refused(points=points)
    assert "metrics" in refused(metrics={f"m{n}": 1.0 for n in range(2000)})


def test_what_is_undefined_has_not_diverged():
    record = record_of(make_spec("digits", "badnets", "awm"), clean_accuracy=0.9, asr=None)
    assert record.diverged
    assert not record.model_copy(update={"undefined": ("asr",)}).diverged


def test_groups_are_told_apart_by_data():
    record = record_of(make_spec("digits", "badnets", "awm"))
    one, other = (record.model_copy(update={"data": digit * 24}) for digit in "12")
    assert record.group() == record.spec.group()
    assert len({record.group(), one.group(), other.group()}) == 3
    assert "data" in refused(data="../../etc")
