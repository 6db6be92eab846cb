import asyncio
from contextlib import AsyncExitStack

import pytest

from services.ingress.admission.deadline import Deadline
from services.ingress.admission.fair_queue import Share
from services.ingress.admission.slots import Admission, Slot
from videoanalysis.errors import DeadlineExceeded, Overloaded
from videoanalysis.v1.error_reason_pb2 import ErrorReason

SOON = 60.0
SHARE = Share("a caller", 1)


async def held(admission: Admission, order: list[str], name: str, release: asyncio.Event, share: Share = SHARE) -> None:
    async with admission.admit(share, Deadline.after(SOON)):
        order.append(name)
        await release.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_waiting_requests_get_slots_in_order_of_arrival():
    admission = Admission(max_running=1, max_waiting=10)
    order: list[str] = []
    release = asyncio.Event()
    release.set()
    async with admission.admit(SHARE, Deadline.after(SOON)):
        tasks = [asyncio.create_task(held(admission, order, name, release)) for name in "abc"]
        await settle()
        assert (admission.running, admission.waiting) == (1, 3)
        assert order == []
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "c"]
    assert (admission.running, admission.waiting) == (0, 0)


async def test_no_more_run_than_there_are_slots():
    admission = Admission(max_running=2, max_waiting=10)
    order: list[str] = []
    release = asyncio.Event()
    tasks = [asyncio.create_task(held(admission, order, name, release)) for name in "abc"]
    await settle()
    assert order == ["a", "b"]
    release.set()
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "c"]


async def test_a_request_beyond_the_queue_is_refused_with_a_retry_delay():
    admission = Admission(max_running=1, max_waiting=1)
    release = asyncio.Event()
    tasks = [asyncio.create_task(held(admission, [], name, release)) for name in "ab"]
    await settle()
    with pytest.raises(Overloaded) as caught:
        async with admission.admit(SHARE, Deadline.after(SOON)):
            pytest.fail("was let in")
    assert caught.value.retry_after_seconds >= 1
    release.set()
    await asyncio.gather(*tasks)


async def test_a_deadline_that_the_wait_would_exceed_is_refused_at_once():
    admission = Admission(max_running=1, max_waiting=10)
    async with admission.admit(SHARE, Deadline.after(SOON)):
        await asyncio.sleep(0.05)  # videos take about so long
    async with admission.admit(SHARE, Deadline.after(SOON)):
        with pytest.raises(Overloaded):
            async with admission.admit(SHARE, Deadline.after(0.001)):
                pytest.fail("was let in")


async def test_a_deadline_that_passes_in_the_queue_ends_the_wait_and_leaves_nothing_behind():
    admission = Admission(max_running=1, max_waiting=10)
    async with admission.admit(SHARE, Deadline.after(SOON)):
        with pytest.raises(DeadlineExceeded):
            async with admission.admit(SHARE, Deadline.after(0.01)):
                pytest.fail("was let in")
        assert admission.waiting == 0
    assert admission.running == 0


async def test_a_request_that_leaves_the_queue_does_not_block_those_behind():
    admission = Admission(max_running=1, max_waiting=10)
    order: list[str] = []
    release = asyncio.Event()
    release.set()
    async with AsyncExitStack() as first:
        await first.enter_async_context(admission.admit(SHARE, Deadline.after(SOON)))
        leaving = asyncio.create_task(held(admission, order, "leaves", release))
        staying = asyncio.create_task(held(admission, order, "stays", release))
        await settle()
        leaving.cancel()
        await settle()
        assert admission.waiting == 1
    await staying
    assert order == ["stays"]
    assert admission.running == 0


async def test_a_request_cancelled_as_it_is_granted_a_slot_passes_it_on():
    admission = Admission(max_running=1, max_waiting=10)
    order: list[str] = []
    release = asyncio.Event()
    release.set()
    async with admission.admit(SHARE, Deadline.after(SOON)):
        leaving = asyncio.create_task(held(admission, order, "leaves", release))
        staying = asyncio.create_task(held(admission, order, "stays", release))
        await settle()
    leaving.cancel()  # its turn has come, but it has not run since
    await staying
    assert order == ["stays"]
    assert admission.running == 0


async def test_a_failure_frees_the_slot():
    admission = Admission(max_running=1, max_waiting=0)
    with pytest.raises(RuntimeError):
        async with admission.admit(SHARE, Deadline.after(SOON)):
            raise RuntimeError
    assert admission.running == 0


# Whose turn it is


async def test_callers_get_slots_in_turn():
    admission = Admission(max_running=1, max_waiting=10)
    order: list[str] = []
    release = asyncio.Event()
    release.set()
    async with admission.admit(SHARE, Deadline.after(SOON)):
        tasks = [
            asyncio.create_task(held(admission, order, f"{caller}{video}", release, Share(caller, video)))
            for caller, video in [("many", 1), ("many", 2), ("many", 3), ("one", 4)]
        ]
        await settle()
    await asyncio.gather(*tasks)
    assert order == ["many1", "one4", "many2", "many3"]


async def test_a_full_queue_evicts_the_newest_request_of_the_caller_that_fills_it_for_another_caller():
    admission = Admission(max_running=1, max_waiting=3)
    order: list[str] = []
    release = asyncio.Event()
    async with admission.admit(SHARE, Deadline.after(SOON)):
        tasks = [
            asyncio.create_task(held(admission, order, str(video), release, Share("many", video))) for video in range(3)
        ]
        await settle()
        tasks.append(asyncio.create_task(held(admission, order, "one", release, Share("one", 9))))
        await settle()
        assert admission.waiting == 3
        with pytest.raises(Overloaded):
            await tasks[2]
        with pytest.raises(Overloaded):
            async with admission.admit(Share("many", 4), Deadline.after(SOON)):
                pytest.fail("was let in")
    release.set()
    await asyncio.gather(*tasks[:2], tasks[3])
    assert order == ["0", "one", "1"]
    assert (admission.running, admission.waiting) == (0, 0)


async def test_batch_leaves_a_slot_to_the_interactive_and_waits_behind_them():
    admission = Admission(max_running=2, max_waiting=10)
    order: list[str] = []
    release = asyncio.Event()
    batch = Share("a", 1, batch=True)
    tasks = [asyncio.create_task(held(admission, order, name, release, batch)) for name in ("batch 1", "batch 2")]
    await settle()
    assert order == ["batch 1"]
    tasks += [asyncio.create_task(held(admission, order, name, release)) for name in ("now", "soon")]
    await settle()
    assert order == ["batch 1", "now"]
    release.set()
    await asyncio.gather(*tasks)
    assert order[2:] == ["soon", "batch 2"]


async def test_batch_may_hold_the_only_slot():
    admission = Admission(max_running=1, max_waiting=0)
    async with admission.admit(Share("a", 1, batch=True), Deadline.after(SOON)):
        assert admission.running == 1


# ---- limits of one caller


async def test_one_callers_long_videos_leave_a_slot_to_others():
    admission = Admission(max_running=4, max_waiting=10, max_running_per_caller=3)
    order: list[str] = []
    release = asyncio.Event()
    tasks = [asyncio.create_task(held(admission, order, f"many {n}", release, Share("many", n))) for n in range(5)]
    await settle()
    assert (admission.running, admission.waiting) == (3, 2)
    assert admission.expected_wait(Share("one", 9)) == 0
    tasks.append(asyncio.create_task(held(admission, order, "one", release, Share("one", 9))))
    await settle()
    assert order == ["many 0", "many 1", "many 2", "one"]
    release.set()
    await asyncio.gather(*tasks)
    assert order[4:] == ["many 3", "many 4"]
    assert (admission.running, admission.waiting) == (0, 0)


async def test_a_freed_slot_goes_past_a_caller_at_its_limit_and_back_to_it_below_the_limit():
    admission = Admission(max_running=2, max_waiting=10)
    order: list[str] = []
    first, rest = asyncio.Event(), asyncio.Event()
    limited = [Share("limited", n, max_running=1) for n in range(3)]
    tasks = [
        asyncio.create_task(held(admission, order, "limited 0", rest, limited[0])),
        asyncio.create_task(held(admission, order, "other 0", first, Share("other", 5))),
        asyncio.create_task(held(admission, order, "limited 1", rest, limited[1])),
        asyncio.create_task(held(admission, order, "other 1", rest, Share("other", 6))),
    ]
    await settle()
    assert order == ["limited 0", "other 0"]
    first.set()
    await settle()
    assert order == ["limited 0", "other 0", "other 1"]
    rest.set()
    await asyncio.gather(*tasks)
    assert order == ["limited 0", "other 0", "other 1", "limited 1"]


async def test_one_callers_waiting_requests_are_limited_with_a_reason_of_its_own():
    admission = Admission(max_running=1, max_waiting=10, max_waiting_per_caller=2)
    release = asyncio.Event()
    tasks = [asyncio.create_task(held(admission, [], "many", release, Share("many", n))) for n in range(3)]
    await settle()
    for share in (Share("many", 4), Share("many", 5, batch=True), Share("none", 6, max_waiting=0)):
        with pytest.raises(Overloaded) as caught:
            async with admission.admit(share, Deadline.after(SOON)):
                pytest.fail("was let in")
        assert caught.value.reason == ErrorReason.CALLER_OVER_LIMIT
        assert caught.value.retry_after_seconds >= 1
    tasks.append(asyncio.create_task(held(admission, [], "other", release, Share("other", 7))))
    await settle()
    assert admission.waiting == 3
    release.set()
    await asyncio.gather(*tasks)


# Estimates


async def test_the_wait_is_estimated_from_the_length_of_the_videos_in_progress():
    admission = Admission(max_running=1, max_waiting=10)
    admission._times.observe(2.0, video_seconds=10)
    async with admission.admit(SHARE, Deadline.after(SOON)) as slot:
        assert admission.expected_wait(SHARE) == pytest.approx(2, abs=0.5)
        slot.video_seconds = 1000
        assert admission.expected_wait(SHARE) == pytest.approx(200, abs=1)
        slot.video_seconds = 1
        assert admission.expected_wait(SHARE) == pytest.approx(0.2, abs=0.2)


async def test_a_long_video_before_does_not_refuse_short_ones():
    admission = Admission(max_running=1, max_waiting=10)
    admission._times.observe(0.1, video_seconds=1)
    admission._times.observe(1000, video_seconds=10_000)
    async with admission.admit(SHARE, Deadline.after(SOON)) as slot:
        slot.video_seconds = 1
        waiting = asyncio.create_task(held(admission, order := [], "a", asyncio.Event()))
        await settle()
        assert admission.waiting == 1
    await settle()
    assert order == ["a"]
    waiting.cancel()


async def test_time_in_which_a_caller_does_not_read_is_no_service_time():
    admission = Admission(max_running=1, max_waiting=10)
    async with admission.admit(SHARE, Deadline.after(SOON)) as slot, slot.waiting_for_caller():
        await asyncio.sleep(0.3)
    assert admission._times.mean_seconds < 0.15


async def test_a_slot_waits_for_its_caller_no_longer_than_it_has_worked_and_the_caller_timeout():
    admission = Admission(max_running=1, max_waiting=10, caller_timeout_seconds=0.1)

    async def read_slowly(slot: Slot) -> None:
        for _ in range(100):
            async with slot.waiting_for_caller():
                await asyncio.sleep(0.02)

    async with admission.admit(SHARE, Deadline.after(SOON)) as slot:
        with pytest.raises(DeadlineExceeded) as caught:
            await read_slowly(slot)
        assert caught.value.reason == ErrorReason.CALLER_TOO_SLOW
        # Work earns it more.
        await asyncio.sleep(0.2)
        async with slot.waiting_for_caller():
            await asyncio.sleep(0.05)
    assert admission.running == 0


async def test_requests_that_have_arrived_and_do_not_wait_for_a_slot_yet_are_counted_and_bounded():
    admission = Admission(max_running=1, max_waiting=2)
    with admission.arrival(Share("a", 1)), admission.arrival(Share("b", 2)):
        assert admission.arriving == 2
        with pytest.raises(Overloaded), admission.arrival(Share("c", 3)):
            pytest.fail("was let in")
    assert admission.arriving == 0


async def test_one_caller_cannot_fill_the_arrivals():
    admission = Admission(max_running=1, max_waiting=10, max_waiting_per_caller=2)
    with admission.arrival(Share("a", 1)), admission.arrival(Share("a", 2)):
        with pytest.raises(Overloaded) as caught, admission.arrival(Share("a", 3)):
            pytest.fail("was let in")
        assert caught.value.reason == ErrorReason.CALLER_OVER_LIMIT
        with admission.arrival(Share("b", 4)):
            assert admission.arriving == 3


async def test_without_a_limit_of_its_own_a_caller_may_fill_the_queue_and_its_batch_gives_way():
    admission = Admission(max_running=1, max_waiting=1)
    release = asyncio.Event()
    tasks = [
        asyncio.create_task(held(admission, [], "running", release, Share("one", 1))),
        asyncio.create_task(held(admission, [], "batch", release, Share("one", 2, batch=True))),
    ]
    await settle()
    tasks.append(asyncio.create_task(held(admission, [], "interactive", release, Share("one", 3))))
    await settle()
    with pytest.raises(Overloaded) as caught:
        await tasks.pop(1)
    assert caught.value.reason == ErrorReason.OVERLOADED
    release.set()
    await asyncio.gather(*tasks)


async def test_calls_that_redecode_do_not_shorten_the_estimate_for_videos():
    admission = Admission(max_running=1, max_waiting=10)
    admission._times.observe(20.0, video_seconds=10)
    for _ in range(10):
        async with admission.admit(SHARE, Deadline.after(SOON), redecodes=True) as slot:
            slot.video_seconds = 3600
    async with admission.admit(SHARE, Deadline.after(SOON)):
        assert admission.expected_wait(SHARE) == pytest.approx(20, abs=0.5)


async def test_a_call_that_redecodes_is_expected_to_take_as_long_as_others_of_its_kind():
    admission = Admission(max_running=1, max_waiting=10)
    admission._times.observe(2000.0, video_seconds=10)
    async with admission.admit(SHARE, Deadline.after(SOON), redecodes=True):
        pass
    async with admission.admit(SHARE, Deadline.after(SOON), redecodes=True):
        assert admission.expected_wait(SHARE) == pytest.approx(0, abs=0.5)
