from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.ingress.admission.fair_queue import FairQueue, Share

SHARES = st.builds(Share, st.sampled_from("abc"), st.integers(0, 3), st.booleans())


def filled(*shares: Share) -> FairQueue[int]:
    queue: FairQueue[int] = FairQueue()
    for number, share in enumerate(shares):
        queue.push(share, number)
    return queue


def drained(queue: FairQueue[int]) -> list[int]:
    items = []
    while (following := queue.pop()) is not None:
        items.append(following[1])
    return items


def test_the_only_item_of_a_caller_is_second_behind_five_hundred_of_another():
    queue = filled(*[Share("many", video) for video in range(500)], Share("one", 1000))
    assert drained(queue)[:3] == [0, 500, 1]


def test_the_only_chunk_of_a_short_video_is_second_behind_a_long_video_of_the_same_caller():
    queue = filled(*[Share("a", 1)] * 100, Share("a", 2))
    assert drained(queue)[:3] == [0, 100, 1]


def test_the_chunks_of_one_video_keep_their_order():
    assert drained(filled(*[Share("a", 1)] * 5)) == [0, 1, 2, 3, 4]


def test_batch_waits_behind_interactive_items_of_any_caller():
    queue = filled(Share("a", 1, batch=True), Share("a", 2), Share("b", 3), Share("b", 4))
    assert drained(queue) == [1, 2, 3, 0]


def test_items_that_may_not_start_stay_queued_and_others_go_before_them():
    queue = filled(Share("a", 1, batch=True))
    assert queue.pop(lambda share: not share.batch) is None
    assert len(queue) == 1


def test_a_new_item_evicts_the_newest_of_the_caller_with_most():
    queue = filled(*[Share("many", video) for video in range(5)], Share("few", 9))
    assert queue.evict_for(Share("few", 10)) == 4
    assert drained(queue) == [0, 5, 1, 2, 3]


def test_a_new_item_evicts_none_of_a_caller_that_has_no_more_than_its_own():
    assert filled(Share("a", 1), Share("b", 2)).evict_for(Share("b", 3)) is None
    assert filled(Share("a", 1), Share("a", 2)).evict_for(Share("b", 3)) == 1


def test_the_interactive_evict_for_batch_and_never_the_reverse():
    queue = filled(Share("a", 1), Share("b", 2, batch=True))
    assert queue.evict_for(Share("b", 3)) == 1
    assert queue.evict_for(Share("c", 4, batch=True)) is None


@given(st.lists(SHARES, max_size=30), SHARES)
def test_ahead_of_a_new_item_are_exactly_those_popped_before_it(waiting: list[Share], newcomer: Share):
    queue = filled(*waiting)
    # A caller's videos take turns too: a video of its own comes after all that its caller has waiting.
    newcomer = Share(newcomer.caller, 99, newcomer.batch)
    ahead = queue.ahead_of(newcomer)
    queue.push(newcomer, -1)
    position = drained(queue).index(-1)
    own = sum(share.caller == newcomer.caller and share.batch == newcomer.batch for share in waiting)
    if own == 0 or len({share.video for share in waiting}) == len(waiting):
        # Whose turn it is within a round depends on who came first, so at most one of each caller may swap.
        assert position <= ahead


@given(st.lists(st.tuples(SHARES, st.sampled_from(["push", "pop", "discard", "evict_for"])), max_size=60))
def test_nothing_is_lost_or_doubled_whatever_happens(steps: list[tuple[Share, str]]):
    queue: FairQueue[int] = FairQueue()
    inside: Counter[int] = Counter()
    shares: dict[int, Share] = {}
    for number, (share, step) in enumerate(steps):
        if step == "push":
            queue.push(share, number)
            inside[number] += 1
            shares[number] = share
        elif step == "discard" and inside:
            gone = next(iter(inside))
            queue.discard(shares[gone], gone)
            del inside[gone]
            queue.discard(shares[gone], gone)
        elif step == "evict_for":
            if (pushed := queue.evict_for(share)) is not None:
                del inside[pushed]
        elif (following := queue.pop()) is not None:
            assert shares[following[1]] == following[0]
            del inside[following[1]]
        assert len(queue) == inside.total()
    assert sorted(drained(queue)) == sorted(inside)
    assert len(queue) == 0
