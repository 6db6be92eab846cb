"""Times of packets and frames, without any video."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest

from services.ingress.sampling.timeline import Clock, Packet, Timeline, display_duration

SECOND, FRAME = 1000, 40


def packets(pts: list[int | None], dts: list[int | None] | None = None, **how: bool) -> list[Packet]:
    how = {"presented": True, "entry_point": False, **how}
    return [Packet(p, d, FRAME, **how) for p, d in zip(pts, dts or pts, strict=True)]  # type: ignore[arg-type]


def part(start: int, count: int = 50, delay: int = 80) -> list[Packet]:
    """In groups of a picture and the two shown before it."""
    order = [0, *(i + step for i in range(1, count - 2, 3) for step in (2, 0, 1))]
    order += range(len(order), count)
    return [
        Packet(start + delay + FRAME * n, start + FRAME * i, FRAME, presented=True, entry_point=i == 0)
        for i, n in enumerate(order)
    ]


def followed(of: list[Packet], *, global_clock: bool) -> list[int | None]:
    clock = Clock(ticks_per_second=SECOND, global_clock=global_clock)
    return sorted(packet.pts for packet in clock.follow(of) if packet.pts is not None and packet.presented)


@pytest.mark.parametrize("global_clock", [False, True])
@pytest.mark.parametrize("delay", [0, 80, 120])
def test_parts_whose_clocks_start_again_follow_each_other(global_clock: bool, delay: int) -> None:
    joined = part(5000) + part(5000, delay=delay) + part(0)
    assert followed(joined, global_clock=global_clock) == [5080 + FRAME * i for i in range(150)]


@pytest.mark.parametrize("jump", [11 * SECOND, 600 * SECOND, 8 * 3600 * SECOND])
def test_a_jump_ahead_is_a_pause_only_where_times_are_declared(jump: int) -> None:
    joined = part(0) + part(50 * FRAME + jump)
    assert followed(joined, global_clock=False) == [80 + FRAME * i for i in range(100)]
    assert followed(joined, global_clock=True) == [80 + FRAME * i + (jump if i >= 50 else 0) for i in range(100)]


@pytest.mark.parametrize("global_clock", [False, True])
def test_a_pause_of_ten_seconds_stays(global_clock: bool) -> None:
    times = [FRAME * i for i in range(50)]
    paused = [*times, *(time + 2000 + 10 * SECOND for time in times)]
    assert followed(packets(list(paused)), global_clock=global_clock) == paused


def test_where_times_are_declared_one_packet_out_of_line_moves_no_other() -> None:
    of = part(0)
    of[20] = of[20].moved(-500)
    assert followed(of, global_clock=True) == sorted(packet.pts or 0 for packet in of)


def test_parts_with_few_presentation_times_follow_each_other_in_decoding_order() -> None:
    sparse = [replace(packet, pts=packet.pts if i % 25 == 0 else None) for i, packet in enumerate(part(3000))]
    clock = Clock(ticks_per_second=SECOND, global_clock=False)
    placed = list(clock.follow([*sparse, *sparse]))
    assert [packet.dts for packet in placed] == [3000 + FRAME * i for i in range(100)]


def test_what_a_restarted_clock_hides_is_presented() -> None:
    hidden = [replace(packet, presented=False) for packet in part(0)]
    assert followed([*part(0), *hidden], global_clock=True) == [80 + FRAME * i for i in range(100)]
    assert followed(hidden, global_clock=True) == []


def placed(times: list[int | None], dts: list[int | None] | None = None) -> tuple[list[tuple[int, int]], int]:
    """(start, number) of every frame, and how many were dropped."""
    timeline: Timeline[int] = Timeline(nominal_duration=FRAME, ticks_per_second=SECOND)
    shown = []
    for number, (pts, guess) in enumerate(zip(times, dts or [None] * len(times), strict=True)):
        shown += timeline.add(number, pts, guess, FRAME)
    shown += timeline.finish()
    return [(frame.start, frame.picture) for frame in shown], timeline.dropped


def test_frames_in_order_stay_as_they_are() -> None:
    times = [0, 40, 90, 100, 5000, 5040]
    assert placed(list(times)) == ([(time, number) for number, time in enumerate(times)], 0)


def test_a_frame_without_a_time_takes_the_decoders_guess_or_else_follows_the_one_before() -> None:
    assert placed([None, None, 120, None], dts=[None, 70, 100, 90])[0] == [(0, 0), (70, 1), (120, 2), (160, 3)]


@pytest.mark.parametrize(("gap", "then"), [(24, 24), (2, 1)])
def test_frames_without_a_time_follow_at_the_distance_of_others_if_their_stated_duration_is_none(
    gap: int, then: int
) -> None:
    timeline: Timeline[int] = Timeline(nominal_duration=1, ticks_per_second=600)
    guesses = [0, gap, 2 * gap, None, None]
    frames = [shown for number, guess in enumerate(guesses) for shown in timeline.add(number, None, guess, 1)]
    frames += timeline.finish()
    assert [frame.start for frame in frames] == [0, gap, 2 * gap, 2 * gap + then, 2 * gap + 2 * then]
    assert frames[-1].end == frames[-1].start + then


def test_of_frames_at_one_time_the_last_is_shown() -> None:
    assert placed([0, 40, 40, 40, 80]) == ([(0, 0), (40, 3), (80, 4)], 0)


@pytest.mark.parametrize("ahead", [90, 170, 310])
def test_a_frame_that_runs_ahead_is_shown_in_its_place(ahead: int) -> None:
    shown, dropped = placed([0, 40, ahead, 120, 160, 200, 240, 280, 320])
    assert shown == sorted(shown)
    assert (ahead, 2) in shown
    assert dropped == 0


def test_a_frame_that_runs_ahead_of_all_others_is_dropped() -> None:
    assert placed([0, 40, 3600 * SECOND, 120, 160]) == ([(0, 0), (40, 1), (120, 3), (160, 4)], 1)


def test_a_frame_that_comes_too_late_is_returned_late() -> None:
    assert placed([0, 40, 80, 20, 160, 200])[0] == [(0, 0), (40, 1), (80, 2), (20, 3), (160, 4), (200, 5)]


def test_where_times_start_again_the_frames_follow() -> None:
    assert placed([0, 40, 80, 0, 40, 80, 120])[0] == [(FRAME * i, i) for i in range(7)]


def test_whatever_the_times_every_frame_is_shown_or_counted() -> None:
    rng = random.Random(4)
    for _ in range(300):
        times = [rng.choice([None, rng.randrange(-200, 2000)]) for _ in range(rng.randrange(1, 40))]
        shown, dropped = placed(list(times))
        hidden = len(times) - len(shown) - dropped  # by others at the same time
        assert hidden >= 0
        assert len({number for _, number in shown}) == len(shown)
        if all(time is not None for time in times) and len(set(times)) == len(times) and times == sorted(times):
            assert hidden == 0


def test_frames_in_order_are_returned_in_order() -> None:
    shown, _ = placed([FRAME * i for i in range(20)])
    assert all(a < b for a, b in pairwise(shown))


def test_a_last_frame_of_unknown_duration_lasts_as_long_as_the_one_before() -> None:
    assert display_duration(7, gap_before=3, nominal=2) == 7
    assert display_duration(0, gap_before=3, nominal=2) == 3
    assert display_duration(0, gap_before=None, nominal=2) == 2
