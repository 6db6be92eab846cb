"""When each picture is on display: the container's clock made one that never starts again, and a place on it for each
decoded frame.

Times are ticks of the stream's time base. Nothing here opens media.
"""

from bisect import insort
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")

JUMP_SECONDS = 10  # a clock without a global timeline that runs ahead by more has been set
_STEP_BACK_SECONDS = 0.1  # a decoding clock that runs back by more has started again
_REORDERED_SECONDS = 1  # presentation times run back by up to this much in decoding order
_PACKETS_AFTER_BREAK = 16  # that tell whether the clock stays, and what is presented first
_MAX_TICKS_STATED_AS_ONE = 2  # between frames: libavformat makes up a duration of one tick
MAX_FRAMES_AHEAD = 8  # frames kept until the others have caught up with them


@dataclass(frozen=True, slots=True)
class Packet:
    """What the container says about one packet; times are ticks."""

    pts: int | None
    dts: int | None
    duration: int
    presented: bool  # False: it is there to be decoded, but an edit list hides its frame
    entry_point: bool  # a decoder that has seen no packet before can start here
    damaged: bool = False  # the container noticed that something is missing
    size: int = 0
    payload: Any = None

    def moved(self, ticks: int) -> "Packet":
        pts = None if self.pts is None else self.pts + ticks
        return replace(self, pts=pts, dts=None if self.dts is None else self.dts + ticks)


def display_duration(duration: int, gap_before: int | None, nominal: int) -> int:
    """Ticks that the last frame stays on display: as stated, else like the frame before it, else as the rate says."""
    if duration > 0:
        return duration
    return gap_before if gap_before is not None and gap_before > 0 else nominal


class Clock:
    """Moves the times of packets whose clock has started again or was set, so that they follow those before them.

    As the ffmpeg program does for formats without a `global_clock`, such as MPEG-TS: a clock that steps back, or jumps
    ahead by over 10 s, goes on at the end of what came before. Where times are declared, as in MP4 and Matroska, a jump
    ahead is a pause, and a single packet out of line is left to Timeline; a clock that steps back and stays there is
    that of another video joined to the first. With `edits`, packets that are not presented are those that an edit list
    leaves out or starts again from, and their times say nothing about the clock.
    """

    def __init__(self, *, ticks_per_second: float, global_clock: bool, edits: bool = False) -> None:
        self.breaks = 0
        self._second = ticks_per_second
        self._global = global_clock
        self._edits = edits
        self._offset = 0
        self._decoded_until: int | None = None  # the dts that should come next, by the container's clock
        self._decoded_before: int | None = None  # the same before the last packet
        self._last_duration = 0
        self._latest_pts: int | None = None  # by the container's clock
        self._latest_dts: int | None = None  # of all, whatever the clock
        self._end: int | None = None  # of what is presented so far, on the timeline
        self._has_every_pts = True  # since the last break

    def follow(self, packets: Iterable[Packet]) -> Iterator[Packet]:
        """The packets in decoding order, with their times on one timeline."""
        source = iter(packets)
        upcoming: deque[Packet] = deque()
        while True:
            packet = upcoming.popleft() if upcoming else next(source, None)
            if packet is None:
                return
            if self._edits and not packet.presented:
                yield packet
                continue
            if self._is_break(packet):
                missing = _PACKETS_AFTER_BREAK - len(upcoming)
                upcoming.extend(islice(source, max(missing, 0)))
                self._go_on_after_break([packet, *islice(upcoming, _PACKETS_AFTER_BREAK)])
            yield self._placed(packet)

    def _is_break(self, packet: Packet) -> bool:
        if packet.dts is not None and self._decoded_until is not None:
            ahead = packet.dts - self._decoded_until
            step_back = ahead + self._last_duration < -_STEP_BACK_SECONDS * self._second
        elif packet.pts is not None and self._latest_pts is not None:
            ahead = packet.pts - self._latest_pts
            step_back = ahead < -_REORDERED_SECONDS * self._second
        else:
            return False
        if step_back and self._global and self._is_in_line(packet, self._decoded_before):
            return False  # the packet before was out of line
        return step_back or (not self._global and ahead > JUMP_SECONDS * self._second)

    def _go_on_after_break(self, following: list[Packet]) -> None:
        if self._global and any(self._is_in_line(packet, self._decoded_until) for packet in following[1:4]):
            return  # one packet is out of line
        self.breaks += 1
        first = following[0]
        times: list[int] = []
        for packet in following:  # up to where everything presented before the first picture is known
            if times and packet.dts is not None and packet.dts >= min(times):
                break
            if packet.pts is not None:
                times.append(packet.pts)
        if first.dts is not None and self._decoded_until is not None and not (self._has_every_pts and times):
            self._offset += self._decoded_until - first.dts
        elif times and self._end is not None:
            self._offset = self._end - min(times)
        self._decoded_until = self._decoded_before = self._latest_pts = None
        self._has_every_pts = True

    def _is_in_line(self, packet: Packet, decoded_until: int | None) -> bool:
        return packet.dts is not None and decoded_until is not None and packet.dts >= decoded_until

    def _placed(self, packet: Packet) -> Packet:
        # Of samples whose clock has started again, libavformat marks as hidden what is not later than those before.
        presented = packet.presented or (
            self.breaks > 0 and packet.dts is not None and packet.dts <= (self._latest_dts or 0)
        )
        self._decoded_before = self._decoded_until
        if packet.dts is not None:
            self._decoded_until = packet.dts + packet.duration
            self._latest_dts = packet.dts if self._latest_dts is None else max(self._latest_dts, packet.dts)
        elif self._decoded_until is not None:
            self._decoded_until += packet.duration
        self._last_duration = packet.duration
        if packet.pts is not None:
            self._latest_pts = packet.pts if self._latest_pts is None else max(self._latest_pts, packet.pts)
        self._has_every_pts &= packet.pts is not None or not packet.presented
        placed = packet.moved(self._offset) if self._offset else packet
        if presented and placed.pts is not None:
            end = placed.pts + placed.duration
            self._end = end if self._end is None else max(self._end, end)
        return placed if presented == packet.presented else replace(placed, presented=presented)


@dataclass(frozen=True, slots=True)
class Shown(Generic[_T]):
    """A frame and its place on the timeline."""

    picture: _T
    start: int
    end: int  # until which it is on display if it is the last


class Timeline(Generic[_T]):
    """Gives frames, as the decoder brings them out, their place on the timeline.

    That is their pts, else the decoder's best guess, else the end of the frame before, or the distance of the frames
    before it where a duration of one tick is all that is stated. They are returned in order of presentation, each when
    the next is known. Of several at one time only the last is. One that runs ahead of the others is returned in its
    place among them; one that comes too late is returned late, with a start that is not after those before it. One that
    runs ahead of all others has no place and is counted as dropped.
    """

    def __init__(self, *, nominal_duration: int, ticks_per_second: float) -> None:
        self.dropped = 0
        self._nominal_duration = nominal_duration
        self._second = ticks_per_second
        self._offset = 0
        self._last: Shown[_T] | None = None  # returned in order
        self._held: Shown[_T] | None = None  # until the next is known
        self._late: Shown[_T] | None = None  # alone, or the first after the times have started again
        self._ahead: list[Shown[_T]] = []  # by start
        self._gap = 0  # between the last two

    def add(self, picture: _T, pts: int | None, dts: int | None, duration: int) -> Iterator[Shown[_T]]:
        before = self._late or self._held or self._last
        has_no_time = pts is None and dts is None and duration == 1
        if before is not None and has_no_time and self._gap > _MAX_TICKS_STATED_AS_ONE:
            dts, duration = before.start + self._gap - self._offset, self._gap
        start = self._start(pts, dts, before)
        gap = start - before.start if before is not None else None
        self._gap = gap or 0
        shown = Shown(picture, start, start + display_duration(duration, gap, self._nominal_duration))
        if self._held is None:
            self._held = shown
            return
        if self._late is not None:
            late, self._late = self._late, None
            if shown.start > self._held.start:
                yield from self._release()
                yield late
            else:  # two in a row: the times have started again
                move = self._held.end - late.start
                self._offset += move
                yield from self._release()
                self._held, shown = _moved(late, move), _moved(shown, move)
        if self._held is None or shown.start == self._held.start:
            self._held = shown
        elif shown.start > self._held.start:
            yield from self._release()
            self._held = shown
        elif self._last is None or shown.start > self._last.start:
            self._keep_ahead(self._held)
            self._held = shown
        else:
            self._late = shown

    def finish(self) -> Iterator[Shown[_T]]:
        """What is still held."""
        yield from self._release()
        if self._late is not None:
            yield self._late
        for shown in self._ahead:
            if self._last is not None and shown.start > self._last.end + JUMP_SECONDS * self._second:
                self.dropped += 1
            else:
                self._last = shown
                yield shown

    def _start(self, pts: int | None, dts: int | None, before: Shown[_T] | None) -> int:
        if pts is not None:
            return pts + self._offset
        if dts is not None and (before is None or before.start < dts + self._offset):
            return dts + self._offset
        return before.end if before is not None else 0

    def _release(self) -> Iterator[Shown[_T]]:
        if self._held is None:
            return
        shown, self._held = self._held, None
        while self._ahead and self._ahead[0].start < shown.start:
            self._last = self._ahead.pop(0)
            yield self._last
        self._last = shown
        yield shown

    def _keep_ahead(self, shown: Shown[_T]) -> None:
        if len(self._ahead) == MAX_FRAMES_AHEAD:
            self.dropped += 1
            return
        insort(self._ahead, shown, key=lambda kept: kept.start)


def _moved(shown: Shown[_T], ticks: int) -> Shown[_T]:
    return Shown(shown.picture, shown.start + ticks, shown.end + ticks)
