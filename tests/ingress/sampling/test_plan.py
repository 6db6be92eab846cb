"""The arithmetic of sampling, without any video: packets are invented, and a decoder that is only a queue."""

import heapq
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingress.sampling.look_ahead import LookAhead
from services.ingress.sampling.plan import SamplingPlan
from services.ingress.sampling.sampled_chunk import Span, span_at
from services.ingress.sampling.timeline import Packet
from tests.ingress.sampling import oracle

durations = st.fractions(min_value=Fraction(1, 100), max_value=100, max_denominator=1001)
chunk_durations = st.fractions(min_value=1, max_value=12, max_denominator=30)


@given(video=durations, chunk=chunk_durations)
def test_chunks_cover_the_video_without_gap_or_overlap(video: Fraction, chunk: Fraction) -> None:
    spans = all_spans(chunk, video)
    assert spans[0].start == 0
    assert [span.start + span.duration for span in spans] == [*(span.start for span in spans[1:]), video]


@given(video=durations, chunk=chunk_durations)
def test_chunks_agree_with_the_oracle(video: Fraction, chunk: Fraction) -> None:
    assert [(span.start, span.duration) for span in all_spans(chunk, video)] == oracle.pieces(video, chunk)


@given(video=durations, chunk=chunk_durations, count=st.integers(1, 64))
def test_wanted_times_ascend_evenly_inside_their_chunk(video: Fraction, chunk: Fraction, count: int) -> None:
    for span in all_spans(chunk, video):
        times = span.wanted_times(count)
        assert len(times) == count
        assert times[0] == span.start
        assert {b - a for a, b in pairwise(times)} <= {span.duration / count}
        assert times[-1] < span.start + span.duration


@pytest.mark.parametrize(
    ("video", "durations"),
    [
        ("0.4", ["0.4"]),
        ("10", ["10"]),
        ("10.49", ["10.49"]),
        ("10.5", ["10", "0.5"]),
        ("20", ["10", "10"]),
        ("20.001", ["10", "10.001"]),
        ("29.999", ["10", "10", "9.999"]),
    ],
)
def test_a_last_piece_under_half_a_second_joins_the_chunk_before_it(video: str, durations: list[str]) -> None:
    assert [span.duration for span in all_spans(Fraction(10), Fraction(video))] == [Fraction(d) for d in durations]


@dataclass(frozen=True)
class InventedVideo:
    packets: list[Packet]  # in decoding order
    times: list[int]  # pts in presentation order
    end: int


@st.composite
def invented_videos(draw: st.DrawFn) -> InventedVideo:
    """Uneven frame times; groups that begin with a key packet and are reordered by up to three places."""
    gaps = draw(st.lists(st.integers(1, 90), min_size=1, max_size=150))
    origin = draw(st.integers(-500, 500))
    times = [origin + sum(gaps[:i]) for i in range(len(gaps))]
    reach = draw(st.integers(0, 3))
    leading = draw(st.booleans())
    order: list[int] = []
    keys = {0} | draw(st.sets(st.integers(0, len(times) - 1)))
    group: list[int] = []
    for index in [*range(len(times)), None]:
        if index is None or (index in keys and not leading) or len(group) > reach:
            order += [group[-1], *group[:-1]] if group else []  # the last of a group is what the others refer to
            group = []
        if index is not None:
            group.append(index)
    end = times[-1] + gaps[-1]
    durations = dict(zip(times, gaps, strict=True))
    packets = [
        Packet(
            pts=times[index],
            dts=times[position] - 1000,
            duration=durations[times[index]],
            presented=True,
            entry_point=index in keys and index >= max(order[: position + 1]),
        )
        for position, index in enumerate(order)
    ]
    return InventedVideo(packets, times, end)


@dataclass
class Played:
    spans: list[tuple[Fraction, Fraction]]
    samples: list[list[int]]
    given: int


def play(video: InventedVideo, chunk_duration: Fraction, count: int, keep: list[bool], first_chunk: int = 0) -> Played:
    """What a trusted plan yields if unwanted packets bring out a frame only where `keep` says so."""
    packets = LookAhead(video.packets, nominal_duration=1, max_bytes=1)
    plan = SamplingPlan(
        packets,
        trusted=True,
        time_base=Fraction(1, 100),
        chunk_duration=chunk_duration,
        frames_per_chunk=count,
        max_duration=Fraction(3600),
        first_chunk=first_chunk,
    )
    plan.begin()
    played = Played([], [], 0)
    waiting: list[int] = []
    shown: int | None = None

    def present(until: int | None) -> None:
        nonlocal shown
        while waiting and (until is None or waiting[0] <= until):
            pts = heapq.heappop(waiting)
            plan.arrived(pts)
            plan.presented(pts)
            for chunk in plan.pending:
                chunk.samples += [shown] * chunk.due(pts)
            shown = pts
            while plan.pending and plan.pending[0].is_certain(pts):
                hand_out()

    def hand_out() -> None:
        chunk = plan.pending.popleft()
        played.spans.append((chunk.span.start, chunk.span.duration))
        played.samples.append(chunk.samples)

    while (packet := packets.take()) is not None:
        assert packet.pts is not None
        assert packet.dts is not None
        played.given += 1
        if plan.wants(packet) or packet.entry_point or keep[packet.pts % len(keep)]:
            heapq.heappush(waiting, packet.pts)
        present(until=packet.dts)
        if unneeded := plan.droppable():
            present(until=None)
            for _ in range(unneeded):
                packets.take()
            entry = packets.upcoming[0]
            following = video.packets[video.packets.index(entry) :]
            assert entry.entry_point
            assert entry.pts == min(packet.pts or 0 for packet in following)
    present(until=None)
    plan.cover(video.end)
    plan.confirm_end(plan.seconds(video.end))
    for chunk in plan.pending:
        chunk.samples += [shown] * chunk.due(None)
    while plan.pending:
        hand_out()
    return played


@settings(max_examples=500)
@given(
    video=invented_videos(),
    chunk=chunk_durations,
    count=st.integers(1, 20),
    keep=st.lists(st.booleans(), min_size=1, max_size=7),
)
def test_leaving_out_packets_never_changes_what_is_sampled(
    video: InventedVideo, chunk: Fraction, count: int, keep: list[bool]
) -> None:
    played = play(video, chunk, count, keep)
    expected = oracle.pieces(Fraction(video.end - video.times[0], 100), chunk)
    assert played.spans == expected
    for (start, duration), samples in zip(expected, played.samples, strict=True):
        wanted = [start + i * duration / count for i in range(count)]
        displayed = [max(pts for pts in video.times if Fraction(pts - video.times[0], 100) <= time) for time in wanted]
        assert samples == displayed


@given(
    video=invented_videos(),
    chunk=chunk_durations,
    count=st.integers(1, 20),
    keep=st.lists(st.booleans(), min_size=1, max_size=7),
    first_chunk=st.integers(1, 5),
)
def test_passing_over_the_first_chunks_leaves_the_others_as_they_are(
    video: InventedVideo, chunk: Fraction, count: int, keep: list[bool], first_chunk: int
) -> None:
    whole = play(video, chunk, count, keep)
    rest = play(video, chunk, count, keep, first_chunk)
    assert rest.spans == whole.spans[first_chunk:]
    assert rest.samples == whole.samples[first_chunk:]


def test_what_only_the_chunks_passed_over_need_is_never_given_to_the_decoder() -> None:
    video = steady_video(frames=10_000, group=100)
    played = play(video, Fraction(10), count=16, keep=[False], first_chunk=9)
    assert [start for start, _ in played.spans] == [90]
    assert played.given < 0.2 * 10_000


def test_groups_without_a_wanted_frame_are_never_given_to_the_decoder() -> None:
    video = steady_video(frames=1000, group=10)
    played = play(video, Fraction(10), count=4, keep=[False])
    assert played.samples[0] == [0, 250, 500, 750]
    assert played.given < 50


def test_frames_before_an_open_entry_point_keep_the_group_before_it() -> None:
    """Where pictures follow the key picture but are shown before it, they may refer to the group before."""
    closed = steady_video(frames=1000, group=10)
    opened = replace(closed, packets=swap_after_entry_points(closed.packets))
    assert play(opened, Fraction(10), count=4, keep=[False]).given > 900


@pytest.mark.parametrize(
    "change",
    [
        {"pts": None},
        {"pts": 100},
        {"dts": 0},
        {"dts": 5000, "pts": 1300},
        {"damaged": True},
        {"pts": 10**12},
    ],
)
def test_from_packets_that_cannot_be_trusted_on_nothing_is_left_out(change: dict[str, int]) -> None:
    video = steady_video(frames=1000, group=10)
    video.packets[130] = replace(video.packets[130], **change)  # type: ignore[arg-type]
    plan = begun_plan(video, max_bytes=1)
    for packet in video.packets[:200]:
        plan.wants(packet)
    assert all(plan.wants(packet) for packet in video.packets[200:300])
    assert not plan.trusted
    assert plan.droppable() == 0


def test_with_too_many_bytes_to_read_ahead_nothing_is_left_out() -> None:
    video = steady_video(frames=100, group=10)
    large = replace(video, packets=[replace(packet, size=10) for packet in video.packets])
    assert not begun_plan(large, max_bytes=1).trusted


def begun_plan(video: InventedVideo, max_bytes: int) -> SamplingPlan:
    plan = SamplingPlan(
        LookAhead(video.packets, nominal_duration=1, max_bytes=max_bytes),
        trusted=True,
        time_base=Fraction(1, 100),
        chunk_duration=Fraction(1),
        frames_per_chunk=4,
        max_duration=Fraction(3600),
    )
    plan.begin()
    return plan


def all_spans(chunk: Fraction, video: Fraction) -> list[Span]:
    spans: list[Span] = []
    while (span := span_at(len(spans), chunk, video)) is not None:
        spans.append(span)
    return spans


def steady_video(frames: int, group: int) -> InventedVideo:
    times = list(range(frames))
    packets = [Packet(pts=t, dts=t - 5, duration=1, presented=True, entry_point=t % group == 0) for t in times]
    return InventedVideo(packets, times, frames)


def swap_after_entry_points(packets: list[Packet]) -> list[Packet]:
    """Each key picture is decoded before the two pictures that are shown before it."""
    reordered = sorted(packets, key=lambda packet: (packet.pts or 0) - (2.5 if packet.entry_point else 0))
    return [replace(packet, dts=position - 5) for position, packet in enumerate(reordered)]
