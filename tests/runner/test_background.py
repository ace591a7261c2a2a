"""Work in the background says how far it is, fails in words, and stops when it is asked to."""

import threading
from collections.abc import Callable

import pytest

from poisonlab.events import Event, Log, Progress
from poisonlab.runner.background import Desk, Task


def test_what_it_says_can_be_read_while_it_works() -> None:
    go = threading.Event()

    def work(send: Callable[[Event], None]) -> int:
        send(Progress("check", 1, 3))
        send(Log("check", "half way"))
        go.wait(10)
        return 7

    task = Task("test", work)
    while not task.lines:
        pass
    assert task.state == "running" and task.progress["check"].step == 1
    go.set()
    assert task.wait(10) and (task.state, task.result) == ("done", 7)


def test_it_stops_at_its_next_event() -> None:
    begun = threading.Event()
    cleaned = threading.Event()

    def work(send: Callable[[Event], None]) -> None:
        try:
            while True:
                send(Progress("check", 0, 1))
                begun.set()
        finally:
            cleaned.set()

    task = Task("test", work)
    assert begun.wait(10)
    task.cancel()

    assert task.wait(10) and task.state == "cancelled" and cleaned.is_set()


@pytest.mark.parametrize(
    ("error", "said"),
    [(ValueError("lower\n the rate"), "lower the rate"), (KeyError("x"), "unexpectedly, KeyError")],
)
def test_a_failure_is_told(error: Exception, said: str) -> None:
    def work(send: Callable[[Event], None]) -> None:
        raise error

    task = Task("test", work)

    assert task.wait(10) and task.state == "failed" and said in task.message


def test_a_desk_does_one_piece_of_work_at_a_time_however_many_ask_at_once() -> None:
    desk, end = Desk(), threading.Event()
    begun: list[Task | None] = []
    asking = [
        threading.Thread(target=lambda: begun.append(desk.begin("one", lambda send: end.wait(20))))
        for _ in range(20)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()

    (task,) = [found for found in begun if found is not None]
    assert desk.begin("another", lambda send: 2) is None
    end.set()
    assert task.wait(20)

    later = desk.begin("another", lambda send: 2)
    assert later is not None and later.wait(20) and later.result == 2
