"""What is left of a job: its estimate, corrected by what its stages really take."""

import pytest

from poisonlab.events import SetAside, StageFinished, StageStarted
from poisonlab.runner.time_left import Measured, StageClock, time_left
from poisonlab.spec.stages import Stage
from poisonlab.store.estimate import StageEstimate

EXPECTED = (
    StageEstimate(Stage.ATTACKERS_MODEL, 5.0, within=Stage.POISON),
    StageEstimate(Stage.POISON, 10.0),
    StageEstimate(Stage.CONTROL, 20.0),
    StageEstimate(Stage.VICTIM, 20.0),
    StageEstimate(Stage.REPAIR, 4.0),
)


def measured(seconds=None, cached=(), open_=(), to_end=None, **passes):
    taken = seconds or {}
    ended = {stage: 1 for stage in taken if stage not in open_} | passes
    return Measured(taken, ended, frozenset(cached), tuple(open_), to_end)


def test_at_the_start_all_is_left():
    left = time_left(EXPECTED, measured())

    assert left.seconds == pytest.approx(59.0) and left.share == 0.0 and left.factor == 1.0


def test_stages_to_come_take_as_many_times_their_estimate_as_those_that_ended():
    left = time_left(EXPECTED, measured({"attackers_model": 10.0, "poison": 20.0}))

    assert left.factor == pytest.approx(2.0)
    assert left.seconds == pytest.approx(2 * (20 + 20 + 4))
    assert left.share == pytest.approx(30 / (30 + 88))


def test_the_running_stage_counts_by_its_own_rate():
    done = {"attackers_model": 5.0, "poison": 10.0, "control": 30.0}

    left = time_left(EXPECTED, measured(done, open_=["control"], to_end=30.0))

    assert left.factor == pytest.approx((5 + 10 + 60) / (5 + 10 + 20))
    assert left.seconds == pytest.approx(30 + left.factor * (20 + 4))


def test_a_stage_without_a_rate_counts_by_what_is_left_of_its_estimate():
    done = {"attackers_model": 5.0, "poison": 10.0, "control": 5.0}

    left = time_left(EXPECTED, measured(done, open_=["control"]))

    assert left.seconds == pytest.approx(15 + 20 + 4)


def test_cached_stages_take_nothing_and_correct_nothing():
    left = time_left(EXPECTED, measured({"poison": 0.0, "control": 0.0}, cached=["poison", "control"]))

    assert left.factor == 1.0 and left.seconds == pytest.approx(20 + 4)


def test_what_was_not_asked_for_in_the_midst_of_a_stage_is_not_asked_for_later():
    left = time_left(EXPECTED, measured({"poison": 10.0}))

    assert left.seconds == pytest.approx(20 + 20 + 4)


def test_the_outer_stage_is_still_to_come_while_one_inside_is_computed():
    seconds = {"poison": 1.0, "attackers_model": 4.0}

    left = time_left(EXPECTED, measured(seconds, open_=["poison", "attackers_model"], to_end=1.0))

    assert left.seconds == pytest.approx(1 + (10 - 1) + 20 + 20 + 4)


def test_a_stage_of_several_trials_goes_on_after_the_first():
    expected = (StageEstimate(Stage.CONTROL, 10.0), StageEstimate(Stage.VICTIM, 40.0, passes=4))
    done = {"control": 10.0, "victim": 15.0}

    left = time_left(expected, measured(done, open_=["victim"], to_end=5.0, victim=1))

    assert left.seconds == pytest.approx(5 + 2 * 10)
    between = time_left(expected, measured({"control": 10.0, "victim": 20.0}, victim=2))
    assert between.seconds == pytest.approx(20.0)


def test_nothing_is_said_where_a_stage_to_come_was_never_measured():
    expected = (*EXPECTED[:4], StageEstimate(Stage.REPAIR, None))

    assert time_left(expected, measured()) is None
    done = {"poison": 10.0, "control": 20.0, "victim": 20.0, "repair": 3.0}
    left = time_left(expected, measured(done, open_=["repair"], to_end=7.0))
    assert left.seconds == pytest.approx(7.0)


def test_the_share_is_whole_at_the_end():
    done = {"attackers_model": 5.0, "poison": 10.0, "control": 20.0, "victim": 20.0, "repair": 4.0}

    left = time_left(EXPECTED, measured(done))

    assert left.share == 1.0 and left.seconds == 0.0


def test_a_clock_counts_each_stage_without_those_inside():
    now = [0.0]
    clock = StageClock(now=lambda: now[0])

    def at(second: float, event: object) -> None:
        now[0] = second
        clock.hear(event)

    at(0.0, StageStarted("poison"))
    at(2.0, StageStarted("surrogate"))
    at(7.0, StageFinished("surrogate", 5.0, False))
    at(8.0, SetAside("poison", 0.5, "observing"))
    at(9.0, StageFinished("poison", 9.0, False))
    at(9.0, StageStarted("control"))
    at(9.5, StageFinished("control", 0.0, True))
    at(10.0, StageStarted("repair"))
    at(13.0, StageStarted("trigger_search"))
    now[0] = 17.0
    found = clock.measured(seconds_to_end=2.0)

    assert found.seconds == pytest.approx(
        {
            "poison": 3.5,
            "surrogate": 5.0,
            "observing": 0.5,
            "control": 0.0,
            "repair": 3.0,
            "trigger_search": 4.0,
        }
    )
    assert found.open == ("repair", "trigger_search") and found.cached == {"control"}
    assert found.passes == {"surrogate": 1, "poison": 1, "control": 1} and found.seconds_to_end == 2.0
