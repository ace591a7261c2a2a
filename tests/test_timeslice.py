"""Slices: a stage that would not end in time is left at its first step, one that fits is not."""

from collections.abc import Callable

import pytest

from poisonlab.config import ExperimentSpec
from poisonlab.events import Event, Progress, StageFinished, StageStarted
from poisonlab.timeslice import SliceOver, TimeSlice


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


def test_what_an_earlier_stage_took_stops_the_next_at_its_first_step(spec: Callable[..., ExperimentSpec]) -> None:
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
