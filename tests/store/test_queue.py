"""In which order jobs are taken: first what nobody computes yet, never what could only wait."""

import itertools

from poisonlab.spec.config import make_spec
from poisonlab.spec.shared import needs


def specs(*combinations: str, seed: int = 0):
    return [make_spec("digits", *combination.split(), seed=seed) for combination in combinations]


def taken(store) -> str:
    job = store.jobs.claim("cpu")
    return "" if job is None else f"{job.attack} {job.defense}"


def test_each_victim_is_begun_before_a_second_job_of_one(store):
    store.jobs.enqueue(specs("badnets none", "badnets ft", "blend none", "blend ft"))
    assert [taken(store) for _ in range(3)] == ["badnets none", "blend none", ""]


def test_what_waits_for_a_victim_goes_on_once_that_is_whole(store):
    first = specs("badnets none")[0]
    run_id, *_ = store.jobs.enqueue([first, *specs("badnets ft", "badnets anp")])
    assert taken(store) == "badnets none" and taken(store) == ""
    store.jobs.update_progress(run_id, stage="evaluate", held=needs(first).held("evaluate"))
    assert [taken(store), taken(store)] == ["badnets ft", ""]


def test_a_shared_control_holds_up_only_where_there_is_other_work(store):
    store.jobs.enqueue(specs("badnets none", "blend none") + specs("sig none", seed=1))
    assert [taken(store) for _ in range(3)] == ["badnets none", "sig none", "blend none"]


def test_without_a_poison_the_control_is_what_one_waits_for(store):
    store.jobs.enqueue(specs("none ft", "none anp"))
    assert [taken(store), taken(store)] == ["none ft", ""]


def test_an_ended_job_holds_nothing_up(store):
    run_id, _ = store.jobs.enqueue(specs("badnets none", "badnets ft"))
    store.jobs.claim("cpu")
    store.jobs.set_state(run_id, "failed")
    assert taken(store) == "badnets ft"


def test_the_order_within_one_victim_is_that_of_queueing(store):
    defenses = ("none", "ft", "anp", "awm")
    run_ids = store.jobs.enqueue(specs(*(f"badnets {name}" for name in defenses)))
    for run_id, name in zip(run_ids, defenses, strict=True):
        assert taken(store) == f"badnets {name}"
        store.jobs.set_state(run_id, "done")


def test_a_board_is_queued_at_once_in_its_order(store):
    names = ("none", "ft", "anp")
    wanted = [
        make_spec("digits", a, d, seed=s) for a, d, s in itertools.product(("badnets",), names, range(700))
    ]
    run_ids = store.jobs.enqueue(wanted)
    assert store.jobs.find(["queued"], limit=len(wanted)).run_id.tolist() == run_ids


def test_a_lost_worker_is_another_attempt_and_the_fourth_time_a_failure(store):
    (run_id,) = store.jobs.enqueue(specs("badnets none"))
    for attempt in range(1, 5):
        job = store.jobs.claim("cpu")
        assert job.attempt == attempt
        state = store.jobs.worker_lost(run_id, attempt, "the worker ended by signal 9")
        assert state == ("queued" if attempt < 4 else "failed")
    job = store.jobs.get(run_id)
    assert "signal 9, 4 times" in job.message and job.finished is not None
    store.jobs.requeue(run_id)
    store.jobs.claim("cpu")
    assert store.jobs.worker_lost(run_id, 5, "gone") == "queued"


def test_a_lost_worker_of_a_cancelled_job_ends_it(store):
    (run_id,) = store.jobs.enqueue(specs("badnets none"))
    store.jobs.claim("cpu")
    store.jobs.request_cancel(run_id)
    assert store.jobs.worker_lost(run_id, 1, "gone") == "cancelled"


def test_what_an_attempt_said_is_forgotten_with_its_worker(store):
    (run_id,) = store.jobs.enqueue(specs("badnets none"))
    store.jobs.claim("cpu")
    store.jobs.update_progress(run_id, points=[("victim", "loss", 1, 0.5)])
    store.jobs.worker_lost(run_id, 1, "gone")
    assert store.runs.points(run_id).empty


def test_an_attempt_that_is_over_does_not_touch_the_next(store):
    (run_id,) = store.jobs.enqueue(specs("badnets none"))
    store.jobs.claim("cpu")
    store.jobs.worker_lost(run_id, 1, "gone")
    store.jobs.claim("cpu")
    store.jobs.worker_lost(run_id, 1, "told twice")
    assert store.jobs.get(run_id).state == "running"
