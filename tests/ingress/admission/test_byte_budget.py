import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.ingress.admission.byte_budget import ByteBudget

LIMIT = 10


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def waiting_for(budget: ByteBudget, *sizes: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(budget.acquire(size)) for size in sizes]
    await settle()
    return tasks


def admitted(tasks: list[asyncio.Task[None]]) -> list[bool]:
    return [task.done() for task in tasks]


async def test_a_request_that_fits_does_not_wait() -> None:
    budget = ByteBudget(LIMIT)
    assert admitted(await waiting_for(budget, 4, 6)) == [True, True]
    assert budget.in_use == LIMIT


async def test_a_request_that_does_not_fit_waits_until_enough_is_released() -> None:
    budget = ByteBudget(LIMIT)
    tasks = await waiting_for(budget, 4, 4, 5)
    assert admitted(tasks) == [True, True, False]
    budget.release(2)
    await settle()
    assert admitted(tasks) == [True, True, False]
    budget.release(1)
    await settle()
    assert admitted(tasks) == [True, True, True]
    assert budget.in_use == LIMIT


async def test_a_small_request_never_overtakes_a_large_one() -> None:
    budget = ByteBudget(LIMIT)
    tasks = await waiting_for(budget, 6, 10, 1)
    assert admitted(tasks) == [True, False, False]
    budget.release(6)
    await settle()
    assert admitted(tasks) == [True, True, False]


async def test_one_release_may_grant_several_requests() -> None:
    budget = ByteBudget(LIMIT)
    tasks = await waiting_for(budget, 10, 3, 3, 3, 3)
    budget.release(10)
    await settle()
    assert admitted(tasks) == [True, True, True, True, False]


@pytest.mark.parametrize("size", [-1, LIMIT + 1])
async def test_a_request_that_can_never_fit_is_an_error_at_once(size: int) -> None:
    budget = ByteBudget(LIMIT)
    with pytest.raises(ValueError, match="never fit"):
        await budget.acquire(size)
    assert budget.in_use == 0


async def test_the_first_that_leaves_the_queue_lets_the_next_one_through() -> None:
    budget = ByteBudget(LIMIT)
    _, large, small = await waiting_for(budget, 6, 10, 4)
    large.cancel()
    await settle()
    assert large.cancelled()
    assert small.done()
    assert budget.in_use == LIMIT


async def test_a_request_cancelled_as_it_is_granted_takes_nothing() -> None:
    budget = ByteBudget(LIMIT)
    _, second, third = await waiting_for(budget, 10, 10, 10)
    budget.release(10)
    second.cancel()  # before it has run again
    await settle()
    assert second.cancelled()
    assert third.done()
    assert budget.in_use == LIMIT


async def test_a_reservation_ends_with_its_context_whatever_happens() -> None:
    budget = ByteBudget(LIMIT)

    async def fail() -> None:
        async with budget.reserve(7):
            assert budget.in_use == 7
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert budget.in_use == 0


class BudgetMachine(RuleBasedStateMachine):
    """Any number of callers come, hold, release and leave at any moment, against a list of whose turn it is."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.budget = ByteBudget(LIMIT)
        self.line: list[tuple[int, asyncio.Task[None]]] = []
        self.held: list[int] = []

    def teardown(self) -> None:
        for _, task in self.line:
            task.cancel()
        self.settle()
        assert self.budget.in_use == sum(self.held)
        self.loop.close()

    def settle(self) -> None:
        self.loop.run_until_complete(settle())

    def admit(self) -> None:
        """What must have happened by now: as many as fit, from the front."""
        self.settle()
        while self.line and sum(self.held) + self.line[0][0] <= LIMIT:
            size, task = self.line.pop(0)
            assert task.done()
            self.held.append(size)

    @rule(size=st.integers(0, LIMIT))
    def come(self, size: int) -> None:
        self.line.append((size, self.loop.create_task(self.budget.acquire(size))))
        self.admit()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.budget.release(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))
        self.admit()

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        _, task = self.line.pop(data.draw(st.integers(0, len(self.line) - 1)))
        task.cancel()
        self.admit()
        assert task.cancelled()

    @precondition(lambda self: self.held and self.line)
    @rule(data=st.data())
    def leave_in_the_moment_of_a_release(self, data: st.DataObject) -> None:
        self.budget.release(self.held.pop())
        _, task = self.line.pop(data.draw(st.integers(0, len(self.line) - 1)))
        task.cancel()
        self.admit()
        assert task.cancelled()

    @invariant()
    def nobody_waits_without_need_and_no_byte_is_lost(self) -> None:
        assert self.budget.in_use == sum(self.held) <= LIMIT
        assert not any(task.done() for _, task in self.line)


BudgetMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyOrderOfEvents = BudgetMachine.TestCase
