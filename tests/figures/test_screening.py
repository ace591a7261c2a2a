"""Figures of a screening where a threshold or a kind of input is not there."""

import dataclasses
from pathlib import Path

import torch

from poisonlab.figures import screening
from poisonlab.records import artifacts
from poisonlab.records.artifacts import ScreeningReview


def review() -> ScreeningReview:
    scores = torch.linspace(0, 1, 20)
    rows = torch.tensor([0, 1])
    return ScreeningReview(
        untouched=scores,
        triggered=scores[:10] + 1,
        control_untouched=scores.clone(),
        control_triggered=scores[:10].clone(),
        threshold=0.95,
        limit=0.5,
        images=torch.zeros(2, 1, 8, 8, dtype=torch.uint8),
        score=torch.zeros(2),
        has_trigger=rows == 1,
        stopped=rows == 0,
        true=rows,
        answer=rows.flip(0),
        classes=["a", "b"],
    )


def test_both_thresholds_are_lines_of_the_victim_alone() -> None:
    victim = screening.scores(review(), control=False)

    assert [shape.x0 for shape in victim.layout.shapes] == [0.95, 0.5]
    assert [line.name for line in victim.data][-2:] == ["stopped above 0.95", "paper's threshold 0.5"]
    assert not screening.scores(review(), control=True).layout.shapes


def test_a_threshold_that_no_trusted_image_sets_is_not_drawn(tmp_path: Path) -> None:
    artifacts.save(dataclasses.replace(review(), threshold=None, limit=None), tmp_path / "screening")

    assert not screening.scores(artifacts.load(tmp_path / "screening"), control=False).layout.shapes


def test_inputs_that_are_not_there_have_no_line() -> None:
    none = torch.zeros(0)
    without = dataclasses.replace(review(), triggered=none, control_triggered=none)
    nothing = dataclasses.replace(without, untouched=none)

    assert [line.name for line in screening.scores(without, control=True).data] == ["untouched"]
    assert not [line for line in screening.scores(nothing, control=False).data if line.x[0] is not None]
    assert [line.name for line in screening.curves(without).data] == ["chance"]


def test_scores_that_are_all_equal_are_one_bar() -> None:
    equal = dataclasses.replace(
        review(), untouched=torch.full((20,), -0.7), triggered=torch.full((10,), -0.7)
    )

    for line in screening.scores(equal, control=False).data[:2]:  # then the thresholds
        assert sorted(line.y)[-2:] == [0, 1]


def test_the_curve_goes_through_every_threshold() -> None:
    found = dataclasses.replace(
        review(), untouched=torch.tensor([0.0, 1.0]), triggered=torch.tensor([1.0, 2.0])
    )
    victim = screening.curves(found).data[0]

    assert list(zip(victim.x, victim.y, strict=True)) == [(0, 0), (0, 0.5), (0.5, 1), (1, 1)]
