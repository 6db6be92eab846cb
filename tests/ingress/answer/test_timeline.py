import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.answer.timeline import Part, Timeline


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def parts(timing) -> dict[str, float]:
    """Every part of a Timing that is not zero, by name."""
    stages = ("download", "sample", "encode", "decode")
    named = {
        f"{stage} {phase}": getattr(getattr(timing, stage), f"{phase}_seconds")
        for stage in stages
        for phase in ("queue", "compute")
    }
    return {name: seconds for name, seconds in named.items() if seconds}


def test_one_chunk_accounts_for_every_instant():
    clock = Clock()
    timeline = Timeline(clock)
    trace = timeline.trace(Part.DOWNLOAD_QUEUE)
    for part, after in [
        (Part.DOWNLOAD_COMPUTE, 1),
        (Part.SAMPLE_COMPUTE, 2),
        (Part.ENCODE_QUEUE, 4),
        (Part.DECODE_COMPUTE, 8),
    ]:
        clock.now += after
        trace.enter(part)
    clock.now += 16
    timeline.delivered(trace)
    timing = timeline.timing()
    assert parts(timing) == {
        "download queue": 1,
        "download compute": 2,
        "sample compute": 4,
        "encode queue": 8,
        "decode compute": 16,
    }
    assert (timing.total_seconds, timing.unattributed_seconds) == (31, 0)


def test_while_chunks_overlap_the_time_belongs_to_the_next_one_delivered():
    clock = Clock()
    timeline = Timeline(clock)
    first = timeline.trace(Part.SAMPLE_COMPUTE)
    clock.now += 1
    first.enter(Part.ENCODE_COMPUTE)
    second = timeline.trace(Part.SAMPLE_COMPUTE)
    clock.now += 5
    second.enter(Part.ENCODE_QUEUE)
    timeline.delivered(first)
    clock.now += 2
    second.enter(Part.ENCODE_COMPUTE)
    clock.now += 3
    timeline.delivered(second)
    # The second chunk was sampled while the first was encoded: that time is the first's.
    assert parts(timeline.timing()) == {"sample compute": 1, "encode compute": 5 + 3, "encode queue": 2}


def test_a_stage_that_reports_its_computation_is_separated_from_the_wait_before():
    clock = Clock()
    timeline = Timeline(clock)
    trace = timeline.trace(Part.ENCODE_QUEUE)
    clock.now += 5
    trace.enter(Part.ENCODE_COMPUTE, ago=2)
    timeline.delivered(trace)
    assert parts(timeline.timing()) == {"encode queue": 3, "encode compute": 2}


def test_a_stage_cannot_have_started_before_the_chunk_entered_it():
    clock = Clock()
    timeline = Timeline(clock)
    trace = timeline.trace(Part.SAMPLE_COMPUTE)
    clock.now += 5
    trace.enter(Part.ENCODE_QUEUE)
    clock.now += 1
    trace.enter(Part.ENCODE_COMPUTE, ago=10)
    timeline.delivered(trace)
    assert parts(timeline.timing()) == {"sample compute": 5, "encode compute": 1}


def test_time_that_no_chunk_accounts_for_is_unattributed():
    clock = Clock()
    timeline = Timeline(clock)
    clock.now += 1
    trace = timeline.trace(Part.SAMPLE_COMPUTE)
    clock.now += 2
    timeline.delivered(trace)
    clock.now += 4
    timing = timeline.timing()
    assert timing.unattributed_seconds == 5
    assert timing.total_seconds == 7


@given(st.lists(st.lists(st.tuples(st.sampled_from(Part), st.floats(0, 10), st.floats(0, 20)), min_size=1), min_size=1))
def test_the_parts_never_add_up_to_more_than_the_total(chunks):
    clock = Clock()
    timeline = Timeline(clock)
    traces = [timeline.trace(Part.SAMPLE_QUEUE) for _ in chunks]
    for steps, trace in zip(chunks, traces, strict=True):
        for part, pause, ago in steps:
            clock.now += pause
            trace.enter(part, ago)
        timeline.delivered(trace)
    timing = timeline.timing()
    assert sum(parts(timing).values()) + timing.unattributed_seconds == pytest.approx(timing.total_seconds)
    assert timing.unattributed_seconds == pytest.approx(0, abs=1e-9)
