import asyncio

import pytest

from services.ingress.admission import Deadline
from services.ingress.dispatch.retry_budget import RetryBudget
from videoanalysis.errors import DeadlineExceeded


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def taken_at_once(budget: RetryBudget) -> int:
    """How many repetitions are free now."""
    count = 0
    while True:
        try:
            await budget.take(Deadline.after(0))
        except DeadlineExceeded:
            return count
        count += 1


async def test_what_was_saved_up_may_be_repeated_at_once_and_no_more():
    assert await taken_at_once(RetryBudget(5, Clock())) == 5


async def test_ten_successes_earn_one_repetition():
    budget = RetryBudget(5, Clock())
    await taken_at_once(budget)
    for _ in range(31):
        budget.succeeded()
    assert await taken_at_once(budget) == 3


async def test_a_second_earns_one_repetition_and_no_more_than_the_most_is_saved():
    clock = Clock()
    budget = RetryBudget(5, clock)
    await taken_at_once(budget)
    clock.now = 2.5
    assert await taken_at_once(budget) == 2
    clock.now = 1000
    assert await taken_at_once(budget) == 5


async def test_who_finds_nothing_left_waits_and_those_behind_wait_longer():
    budget = RetryBudget(0, Clock())
    first, second = (asyncio.ensure_future(budget.take(Deadline.after(60))) for _ in range(2))
    done, _ = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
    assert done == {first}
    second.cancel()


async def test_a_wait_that_outlasts_the_deadline_ends_before_it_begins():
    budget = RetryBudget(0, Clock())
    with pytest.raises(DeadlineExceeded):
        await budget.take(Deadline.after(0.5))
