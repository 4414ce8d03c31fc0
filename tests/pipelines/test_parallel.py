"""Workers: what is begun after an error or an interrupt, and who gets the interrupt."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from pipelines.build.parallel import Backend, Pool


@pytest.mark.parametrize("backend", ["threads", "processes"])
def test_results_come_in_the_order_of_the_tasks(backend: Backend) -> None:
    tasks = [0.05, 0.0, 0.02, 0.0, 0.0]
    assert list(Pool(2, backend).map(wait, tasks)) == tasks


@pytest.mark.parametrize("backend", ["threads", "processes"])
def test_the_first_error_is_raised_and_what_was_not_given_out_is_not_begun(
    backend: Backend,
) -> None:
    given = []

    def tasks() -> Iterator[int]:
        for number in range(200):
            given.append(number)
            yield number

    with pytest.raises(ZeroDivisionError):
        list(Pool(2, backend).map(divide, tasks()))
    assert len(given) < 20


def test_tasks_that_wait_are_not_begun_after_an_interrupt() -> None:
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 0:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        return number

    with pytest.raises(KeyboardInterrupt):
        list(Pool(2, "threads").map(work, range(50)))
    assert 1 <= len(begun) <= 4


def test_results_that_nobody_takes_do_not_pile_up() -> None:
    begun = []
    results = Pool(2, "threads").map(lambda number: begun.append(number), range(1000))
    next(results)
    time.sleep(0.3)
    assert 2 <= len(begun) <= 150
    results.close()
    assert len(begun) <= 150


def test_tasks_that_wait_for_others_to_be_taken_never_keep_the_next_one_from_being_made() -> None:
    assert list(Pool(4, "threads").map(lambda number: number, range(2000))) == [*range(2000)]


def test_an_interrupt_of_all_processes_is_for_the_one_that_started_them() -> None:
    finished = []

    def run() -> None:
        for result in Pool(2, "processes").map(interrupt_oneself, range(50)):
            finished.append(result)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert 1 <= len(finished) < 50


def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def divide(number: int) -> float:
    time.sleep(0.01)
    return 1 / (number - 1)


def interrupt_oneself(number: int) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)
    return number
