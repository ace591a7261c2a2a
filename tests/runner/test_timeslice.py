"""Slices: a stage that would not end in time is left at its first step, one that fits is not."""

from collections.abc import Callable

import pytest

from poisonlab.events import Event, Kept, Progress, StageFinished, StageStarted
from poisonlab.runner.timeslice import SliceOver, TimeSlice
from poisonlab.spec.config import ExperimentSpec


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def begun(spec: ExperimentSpec, seconds: float) -> tuple[TimeSlice, Clock, list[Event]]:
    clock, heard = Clock(), list[Event]()
    time_slice = TimeSlice(seconds, heard.append, clock)
    time_slice.begin(spec)
    return time_slice, clock, heard


def work(time_slice: TimeSlice, clock: Clock, stage: str, steps: int, each: float) -> None:
    """A stage that is computed, step by step."""
    start = clock.now
    time_slice(StageStarted(stage))
    for step in range(1, steps + 1):
        clock.now += each
        time_slice(Progress(stage, step, steps))
    time_slice(StageFinished(stage, clock.now - start, False))


def test_a_stage_that_fits_is_heard_to_its_end(spec: Callable[..., ExperimentSpec]) -> None:
    time_slice, clock, heard = begun(spec(), 100)

    work(time_slice, clock, "victim", 90, 1)

    assert time_slice.computed == 1 and time_slice.left == pytest.approx(10)
    assert isinstance(heard[-1], StageFinished)


def test_a_stages_own_speed_stops_it_early(spec: Callable[..., ExperimentSpec]) -> None:
    time_slice, clock, _ = begun(spec(), 100)

    with pytest.raises(SliceOver) as over:
        work(time_slice, clock, "victim", 200, 1)

    assert clock.now - 100 < 10 and over.value.stage == "victim"
    assert over.value.seconds == pytest.approx(200, rel=0.02)


def test_what_an_earlier_stage_took_stops_the_next_at_its_first_step(
    spec: Callable[..., ExperimentSpec],
) -> None:
    time_slice, clock, _ = begun(spec(), 100)
    work(time_slice, clock, "victim", 60, 1)
    time_slice.begin(spec(seed=1))

    with pytest.raises(SliceOver):
        work(time_slice, clock, "victim", 60, 1)

    assert clock.now == 161.0


def test_the_same_stage_from_the_cache_is_no_work(spec: Callable[..., ExperimentSpec]) -> None:
    time_slice, clock, _ = begun(spec(), 100)
    work(time_slice, clock, "victim", 60, 1)

    time_slice(StageStarted("victim"))
    time_slice(StageFinished("victim", 0.0, True))
    work(time_slice, clock, "repair", 30, 1)

    assert time_slice.computed == 2


def test_repairs_are_judged_by_repairs_of_the_same_defense(spec: Callable[..., ExperimentSpec]) -> None:
    time_slice, clock, _ = begun(spec("ft"), 100)
    work(time_slice, clock, "repair", 60, 1)
    time_slice.begin(spec("clp"))

    work(time_slice, clock, "repair", 30, 1)

    assert time_slice.computed == 2


def pieces(time_slice: TimeSlice, clock: Clock, stage: str, count: int, each: float) -> None:
    """A stage that keeps its work after each of its pieces; they take ``each`` seconds."""
    time_slice(StageStarted(stage))
    time_slice(Kept(stage))
    for piece in range(1, count + 1):
        for part in (0.5, 1):
            clock.now += each / 2
            time_slice(Progress(stage, int(10 * (piece - 1 + part)), 10 * count))
        time_slice(Kept(stage))
    time_slice(StageFinished(stage, count * each, False))


def test_a_stage_that_keeps_its_work_is_left_at_the_last_piece_that_fits(
    spec: Callable[..., ExperimentSpec],
) -> None:
    time_slice, clock, _ = begun(spec(), 100)

    with pytest.raises(SliceOver) as over:
        pieces(time_slice, clock, "ebm", 20, 30)

    assert clock.now == 190.0 and time_slice.computed == 3 and over.value.seconds == 30


def test_a_piece_that_is_longer_than_the_slice_is_left_at_its_end(
    spec: Callable[..., ExperimentSpec],
) -> None:
    time_slice, clock, _ = begun(spec(), 100)

    with pytest.raises(SliceOver):
        pieces(time_slice, clock, "ebm", 20, 300)

    assert time_slice.computed == 0
