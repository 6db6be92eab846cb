import asyncio
import random
import threading
from collections.abc import AsyncIterator
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.encoder.admission import Admission
from services.encoder.engine import Encoded
from tests.encoder.fakes import FakeEngine, until
from videoanalysis.errors import DeadlineExceeded, InvalidInput, Overloaded
from videoanalysis.v1.error_reason_pb2 import ErrorReason

FRAMES = np.zeros((1, 8, 8, 3), np.uint8)


def admission(permits: int = 2, parked: int = 8, **limits: float) -> Admission:
    buffers = [np.zeros(1000, np.uint8) for _ in range(permits)]
    return Admission(buffers, max_parked=parked, **limits)


async def hold(
    admission: Admission,
    leave: asyncio.Event | None = None,
    order: list | None = None,
    name: object = None,
    **request: object,
):
    """Take a permit and keep it until `leave`, or until cancelled."""
    async with admission.request(**request) as waiting:
        permit = await waiting.granted()
        if order is not None:
            order.append(name)
        await (leave or asyncio.Event()).wait()
    return permit


async def compute(admission: Admission, engine: FakeEngine):
    async with admission.permit() as permit:
        return await permit.run(engine.encode, FRAMES)


async def cancelled(task: asyncio.Task) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def pieces(*parts: bytes, pause: float = 0.0, then_stall: bool = False) -> AsyncIterator[bytes]:
    for part in parts:
        await asyncio.sleep(pause)
        yield part
    if then_stall:
        await asyncio.Event().wait()


async def test_never_more_than_two_in_flight():
    engine = FakeEngine()
    async with admission() as gate:
        engine.release.clear()
        calls = [asyncio.create_task(compute(gate, engine)) for _ in range(6)]
        await until(lambda: engine.running == 2 and gate.parked == 4)
        await asyncio.sleep(0.02)
        assert engine.most_running == 2
        engine.release.set()
        await asyncio.gather(*calls)
        assert engine.most_running == 2
        assert (gate.in_flight, gate.parked) == (0, 0)


async def test_a_parked_caller_is_admitted_when_a_permit_comes_back():
    async with admission(permits=1) as gate:
        leave = asyncio.Event()
        first = asyncio.create_task(hold(gate, leave))
        await until(lambda: gate.in_flight == 1)
        second = asyncio.create_task(hold(gate, leave))
        await until(lambda: gate.parked == 1)
        await asyncio.sleep(0.05)
        leave.set()
        assert (await first).parked_seconds < 0.04
        assert 0.04 < (await second).parked_seconds < 1


async def order_of_service(*requests: tuple[str, float]) -> list[int]:
    """In which order one permit serves requests, each of an ingress and with the seconds that it has waited before."""
    async with admission(permits=1, parked=len(requests)) as gate:
        leave, order = asyncio.Event(), []
        calls = [asyncio.create_task(hold(gate, leave))]
        for number, (ingress, waited) in enumerate(requests):
            calls.append(asyncio.create_task(hold(gate, leave, order, number, ingress=ingress, waited_seconds=waited)))
            await until(lambda: gate.in_flight + gate.parked == len(calls))
        leave.set()
        await asyncio.gather(*calls)
    return order


async def let_time_pass(gate: Admission, ingress: str) -> None:
    """An upload of `ingress` that never begins."""
    async with gate.request(ingress=ingress) as request:
        permit = await request.granted()
        with pytest.raises(DeadlineExceeded):
            await permit.receive(pieces(then_stall=True), 64)


async def test_an_ingress_whose_upload_was_slow_is_served_after_the_others():
    async with admission(permits=1, piece_seconds=0.05) as gate:
        leave, order = asyncio.Event(), []
        first = asyncio.create_task(let_time_pass(gate, "slow"))
        await until(lambda: gate.in_flight == 1)
        # Parked before it is known.
        calls = [
            asyncio.create_task(hold(gate, leave, order, name, ingress=name)) for name in ("slow", "slow", "a", "b")
        ]
        leave.set()
        await first
        await asyncio.gather(*calls)
    assert order == ["a", "b", "slow", "slow"]


async def test_an_ingress_whose_upload_was_slow_leaves_a_permit_free():
    async with admission(permits=2, piece_seconds=0.05) as gate:
        await let_time_pass(gate, "slow")
        leave, order = asyncio.Event(), []
        calls = [asyncio.create_task(hold(gate, leave, order, "slow", ingress="slow")) for _ in range(3)]
        await until(lambda: gate.in_flight == 1 and gate.parked == 2)
        calls.append(asyncio.create_task(hold(gate, leave, order, "a", ingress="a")))
        await until(lambda: gate.in_flight == 2)
        assert order == ["slow", "a"]
        leave.set()
        await asyncio.gather(*calls)


async def test_small_pieces_gain_little_time():
    loop = asyncio.get_running_loop()
    async with admission(piece_seconds=0.1, upload_seconds=60) as gate, gate.permit() as permit:
        began = loop.time()
        with pytest.raises(DeadlineExceeded, match="of 1000000 bytes arrived"):
            await permit.receive(pieces(*[b"x"] * 10_000, pause=0.01), 1_000_000)
        assert loop.time() - began < 10


async def test_the_time_of_an_upload_begins_with_the_permit():
    async with admission(piece_seconds=0.05) as gate, gate.permit() as permit:
        with pytest.raises(DeadlineExceeded):
            await permit.announce(asyncio.sleep(60))
    assert gate.in_flight == 0


async def test_requests_of_one_ingress_are_admitted_in_the_order_they_came():
    assert await order_of_service(*[("a", 0.0)] * 5) == [0, 1, 2, 3, 4]


async def test_ingresses_are_served_in_turn_however_many_requests_each_has():
    assert await order_of_service(("a", 0), ("a", 0), ("a", 0), ("b", 0), ("c", 0), ("c", 0)) == [0, 3, 4, 1, 5, 2]


async def test_a_request_that_has_waited_elsewhere_keeps_its_age():
    assert await order_of_service(("a", 0), ("a", 60), ("a", 120)) == [2, 1, 0]


async def test_age_gives_an_ingress_no_more_than_its_turn():
    assert await order_of_service(("a", 0), ("a", 0), ("b", 3600), ("b", 3600)) == [0, 2, 1, 3]


async def test_over_the_parking_limit_callers_are_refused_at_once():
    async with admission(permits=1, parked=1) as gate:
        calls = [asyncio.create_task(hold(gate)) for _ in range(2)]
        await until(lambda: gate.parked == 1)
        started = asyncio.get_running_loop().time()
        with pytest.raises(Overloaded, match="all 1 permits") as refusal:
            await hold(gate)
        assert asyncio.get_running_loop().time() - started < 0.1
        assert refusal.value.reason == ErrorReason.ENCODER_BUSY
        assert 0 < refusal.value.retry_after_seconds <= 0.5
        for call in calls:
            await cancelled(call)


async def test_an_ingress_over_its_own_limit_is_refused_while_another_may_wait():
    async with admission(permits=1, parked=8, max_parked_per_ingress=2) as gate:
        calls = [asyncio.create_task(hold(gate, ingress="a")) for _ in range(3)]
        await until(lambda: gate.parked == 2)
        with pytest.raises(Overloaded):
            await hold(gate, ingress="a")
        calls.append(asyncio.create_task(hold(gate, ingress="b")))
        await until(lambda: gate.parked == 3)
        for call in calls:
            await cancelled(call)
        assert (gate.in_flight, gate.parked) == (0, 0)


async def test_where_all_wait_the_newest_of_the_ingress_with_most_makes_way_for_another():
    async with admission(permits=1, parked=3) as gate:
        calls = [asyncio.create_task(hold(gate, ingress="a", waited_seconds=age)) for age in (9, 3, 1, 2)]
        await until(lambda: gate.parked == 3)
        calls.append(asyncio.create_task(hold(gate, ingress="b")))
        await until(lambda: calls[2].done())
        assert isinstance(calls[2].exception(), Overloaded)
        assert gate.parked == 3
        for call in calls[:2] + calls[3:]:
            await cancelled(call)


async def test_a_caller_that_leaves_while_parked_gives_up_its_place_in_the_queue():
    async with admission(permits=1, parked=1) as gate:
        holder = asyncio.create_task(hold(gate))
        await until(lambda: gate.in_flight == 1)
        waiting = asyncio.create_task(hold(gate))
        await until(lambda: gate.parked == 1)
        await cancelled(waiting)
        assert gate.parked == 0
        await cancelled(holder)
        assert gate.in_flight == 0


async def test_a_permit_given_to_a_caller_that_is_just_leaving_goes_to_the_next():
    async with admission(permits=1) as gate:
        leave = asyncio.Event()
        holder = asyncio.create_task(hold(gate, leave))
        await until(lambda: gate.in_flight == 1)
        leaving = asyncio.create_task(hold(gate))
        following = asyncio.create_task(hold(gate, leave))
        await until(lambda: gate.parked == 2)
        leave.set()
        await holder  # Its permit is now promised to the next, who has not run yet.
        await cancelled(leaving)
        await following
        assert (gate.in_flight, gate.parked) == (0, 0)


async def test_a_caller_that_leaves_while_uploading_frees_its_permit_at_once():
    async with admission(permits=1) as gate:

        async def upload() -> None:
            async with gate.permit() as permit:
                await permit.receive(pieces(b"ab", then_stall=True), 10)

        call = asyncio.create_task(upload())
        await until(lambda: gate.in_flight == 1)
        await cancelled(call)
        assert gate.in_flight == 0


async def test_a_caller_that_leaves_during_the_work_keeps_its_permit_until_the_work_ends():
    engine = FakeEngine()
    async with admission(permits=1) as gate:
        engine.release.clear()
        call = asyncio.create_task(compute(gate, engine))
        await until(lambda: engine.running == 1)
        await cancelled(call)
        following = asyncio.create_task(compute(gate, engine))
        await asyncio.sleep(0.05)
        assert (gate.in_flight, gate.parked, engine.running) == (1, 1, 1)
        engine.release.set()
        await following
        assert engine.most_running == 1
        assert gate.in_flight == 0


async def test_work_that_fails_frees_the_permit():
    async with admission(permits=1) as gate:
        with pytest.raises(ZeroDivisionError):
            async with gate.permit() as permit:
                await permit.run(lambda: 1 / 0)
        assert gate.in_flight == 0


async def test_work_that_fails_after_its_caller_left_frees_the_permit_and_is_logged(capsys):
    go_on = threading.Event()

    def fail() -> None:
        assert go_on.wait(10)
        raise RuntimeError("out of memory")

    async def call(gate: Admission) -> None:
        async with gate.permit() as permit:
            await permit.run(fail)

    async with admission(permits=1) as gate:
        caller = asyncio.create_task(call(gate))
        await until(lambda: gate.in_flight == 1)
        await asyncio.sleep(0.02)
        await cancelled(caller)
        assert gate.in_flight == 1
        go_on.set()
        await until(lambda: gate.in_flight == 0)
    assert "out of memory" in capsys.readouterr().out


async def test_pieces_land_in_the_buffer_in_order():
    async with admission(permits=1) as gate, gate.permit() as permit:
        received = await permit.receive(pieces(b"abc", b"", b"defg", b"h"), 8)
        assert received.tobytes() == b"abcdefgh"
        assert received.base is not None


async def test_more_bytes_than_declared_are_refused():
    async with admission() as gate, gate.permit() as permit:
        with pytest.raises(InvalidInput, match="more than the 5 bytes"):
            await permit.receive(pieces(b"abc", b"def"), 5)


async def test_fewer_bytes_than_declared_are_refused():
    async with admission() as gate, gate.permit() as permit:
        with pytest.raises(InvalidInput, match="3 bytes, not the 5"):
            await permit.receive(pieces(b"abc"), 5)


async def test_an_upload_without_a_first_piece_is_aborted():
    async with admission(piece_seconds=0.05) as gate, gate.permit() as permit:
        with pytest.raises(DeadlineExceeded, match="0 of 5 bytes") as abort:
            await permit.receive(pieces(then_stall=True), 5)
        assert abort.value.reason == ErrorReason.UPLOAD_TOO_SLOW


async def test_an_upload_that_falls_silent_is_aborted_long_before_its_time_is_up():
    async with admission(piece_seconds=0.05, upload_seconds=60) as gate, gate.permit() as permit:
        with pytest.raises(DeadlineExceeded, match="3 of 5 bytes"):
            await permit.receive(pieces(b"abc", then_stall=True), 5)


async def test_an_upload_that_trickles_is_aborted_when_its_time_is_up():
    async with admission(piece_seconds=1.0, upload_seconds=0.1) as gate, gate.permit() as permit:
        with pytest.raises(DeadlineExceeded, match=r"[1-9]\d* of 100 bytes"):
            await permit.receive(pieces(*[b"x"] * 100, pause=0.02), 100)


async def test_a_slow_but_steady_upload_is_taken():
    async with admission(piece_seconds=0.2, upload_seconds=5) as gate, gate.permit() as permit:
        assert len(await permit.receive(pieces(*[b"x"] * 15, pause=0.02), 15)) == 15


async def test_warms_up_on_every_thread():
    engine = FakeEngine()
    engine.release.clear()
    async with admission(permits=3) as gate:
        warming = asyncio.create_task(gate.warm_up(lambda: engine.encode(FRAMES)))
        await until(lambda: engine.running == 3)
        engine.release.set()
        await warming


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), permits=st.integers(1, 3), parked=st.integers(1, 4))
def test_no_permit_is_lost_or_doubled_whatever_callers_do(seed, permits, parked):
    rng = random.Random(seed)

    async def caller(gate: Admission) -> None:
        async with gate.request(ingress=rng.choice("ab"), waited_seconds=rng.choice([0.0, 1.0])) as request:
            if await request.granted_within(rng.choice([0, 0.001, 1])) is None:
                return
            permit = await request.granted()
            assert gate.in_flight <= permits
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            if rng.random() < 0.5:
                await permit.run(lambda: None)

    async def scenario() -> None:
        async with admission(permits, parked, max_parked_per_ingress=2) as gate:
            calls = []
            for _ in range(30):
                calls.append(asyncio.create_task(caller(gate)))
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
                if rng.random() < 0.4:
                    rng.choice(calls).cancel()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            allowed = (type(None), Overloaded, asyncio.CancelledError)
            assert all(isinstance(outcome, allowed) for outcome in outcomes), outcomes
            await until(lambda: gate.in_flight == 0)
            assert gate.parked == 0
            leave = asyncio.Event()
            everyone = [asyncio.create_task(hold(gate, leave)) for _ in range(permits)]
            await until(lambda: gate.in_flight == permits)
            leave.set()
            await asyncio.gather(*everyone)

    asyncio.run(scenario())


# When the next is admitted


async def learnt(gate: Admission, upload: float, computation: float) -> None:
    for _ in range(100):
        gate.lead.uploaded(upload, 1)
        gate.lead.computed(computation, 1, 0.0)


async def test_while_one_computes_the_next_waits_until_it_is_time_to_upload():
    engine = FakeEngine()
    async with admission() as gate:
        await learnt(gate, upload=0.1, computation=0.6)
        engine.release.clear()
        async with gate.permit() as first:
            await first.receive(pieces(b"1"), 1)
            due = gate.lead.next_at(first.admitted_at, first.uploaded_at, first.frames)
            second = asyncio.create_task(hold(gate))
            await asyncio.sleep(0.25)
            assert (gate.in_flight, gate.parked) == (1, 1)
            await until(lambda: gate.in_flight == 2)
            assert asyncio.get_running_loop().time() >= due > first.uploaded_at + 0.3
        await cancelled(second)
    assert (gate.in_flight, gate.parked) == (0, 0)


async def test_what_the_warm_up_took_is_known_to_the_first():
    computed = iter((0.9, 0.6))
    async with admission() as gate:
        await gate.warm_up(lambda: Encoded(np.zeros((2, 4), np.float32), next(computed)))
        assert gate.lead.next_at(10.0, None, 1) == pytest.approx(10.3)


async def test_when_one_leaves_early_the_next_takes_over_at_once():
    async with admission() as gate:
        await learnt(gate, upload=0.1, computation=60)
        first, second = asyncio.create_task(hold(gate)), asyncio.create_task(hold(gate))
        await until(lambda: gate.in_flight == 1 and gate.parked == 1)
        await cancelled(first)
        await until(lambda: gate.in_flight == 1 and gate.parked == 0)
        await cancelled(second)


async def test_behind_an_upload_that_hangs_the_next_is_let_in():
    async with admission() as gate:
        await learnt(gate, upload=0.01, computation=0.1)
        hanging, following = asyncio.create_task(hold(gate)), asyncio.create_task(hold(gate))
        await until(lambda: gate.in_flight == 2)
        for task in (hanging, following):
            await cancelled(task)
