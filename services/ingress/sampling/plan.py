"""Which frames of a video are wanted: exact arithmetic over timestamps, without any media library.

Times in seconds are Fractions on the video's own timeline, which starts at its first presented frame. A tick is a
timestamp as the container counts it: an integer in the stream's time base, with an origin of its own.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice, takewhile
from math import ceil, floor
from typing import Any

from services.ingress.sampling.look_ahead import LookAhead, contains
from services.ingress.sampling.sampled_chunk import MIN_CHUNK_SECONDS, Span, span_at
from services.ingress.sampling.timeline import Packet


class PlanInvalid(Exception):
    """The video is not what its packets promised."""


class TimesInDecodingOrder(PlanInvalid):
    """The pts of frames run back although those of packets do not: they were made up for another order."""


@dataclass(slots=True)
class PlannedChunk:
    """A chunk on its way: `samples` receives one for each of `ticks`, in order."""

    span: Span
    ticks: list[int]
    certain_from: int | None  # a frame presented at or after this tick proves the span; None: only the end does
    samples: list[Any] = field(default_factory=list)

    def due(self, until: int | None) -> int:
        """How many of the ticks without a sample lie before `until`, or before the end."""
        passed = len(self.ticks) if until is None else bisect_left(self.ticks, until)
        return max(passed - len(self.samples), 0)

    def is_certain(self, presented: int) -> bool:
        return self.certain_from is not None and presented >= self.certain_from


class SamplingPlan:
    """The chunks of a video, and which packets they need, foreseen from packet times.

    `trusted` plans also say which packets can be left out. That is right only if every packet has a time of its own and
    yields just its own frame. A plan that meets packets of another kind is no longer trusted from there on; frames that
    contradict it raise PlanInvalid. Plans that are not trusted merely foresee where the video ends.

    Chunk 0 starts at `start`, and the last one ends at `end` or with the video. The time before `start` is planned as
    chunks with negative indices, of which nothing is wanted. `packets_from` goes to the last entry point at or before a
    tick and returns the packets from there on, None if there is none; without it packets are passed over one by one.

    With a `tolerance` a frame that is decoded on its own, or else one that others refer to, stands for a wanted time
    that it is near enough to, and the video ends where the packets say. Plans that are not trusted decode every frame
    anyway and tolerate nothing.

    Unless they tolerate, plans that `keep_shots` leave out no frames but those to which no other refers, from the first
    chunk on: no shot is passed over.
    """

    def __init__(
        self,
        packets: LookAhead,
        *,
        trusted: bool,
        time_base: Fraction,
        chunk_duration: Fraction,
        frames_per_chunk: int,
        max_duration: Fraction,
        tolerance: Fraction = Fraction(0),
        first_chunk: int = 0,
        video_duration: Fraction | None = None,
        start: Fraction = Fraction(0),
        end: Fraction | None = None,
        packets_from: Callable[[int], Iterable[Packet] | None] | None = None,
        keep_shots: bool = False,
    ) -> None:
        self.trusted = trusted
        self.start = start
        self.end = end
        self._packets_from = packets_from
        self._tolerance_seconds = tolerance
        self._tolerance = floor(tolerance / time_base)
        self.pending: deque[PlannedChunk] = deque()
        self._packets = packets
        self._time_base = time_base
        self._chunk_duration = chunk_duration
        self._frames_per_chunk = frames_per_chunk
        self._max_ticks = floor(max_duration / time_base)
        self._first_chunk = first_chunk
        self._keep_shots = keep_shots
        self._next_chunk = self._index_at(Fraction(0))
        self._promised_until: dict[int, int] = {}  # frames, up to where each chunk is proven
        self._video_duration = video_duration  # None: to be foreseen
        self._origin = 0  # pts of the first presented frame
        self._origin_known = False
        self._first_tick = 0  # of the first chunk that is handed out
        self._likely_cut: int | None = None  # the last one that was decoded
        self._origin_moved = 0  # from where the packets say
        self._ends_before_video = False  # the last chunk is planned, and more of the video follows
        self._planned_until: int | None = None  # frames before this tick are planned; None: all are
        self._wanted: list[int] = []  # pts that must still arrive, ascending
        self._arrived: int | None = None  # pts of the last frame that did
        self._needed_for = 0  # so many of the next packets are known to lead to a wanted one

    @property
    def duration_was_given(self) -> bool:
        return self._video_duration is not None

    def begin(self) -> None:
        """Start the timeline where the packets say that the first frame is presented, if they can be trusted."""
        origin = self._packets.first() if self.trusted else None
        is_decoded_first = self._first_chunk == 0 and self.start == 0 and not self.tolerates
        if origin is None or not (is_decoded_first or self._packets.starts_at_entry_point):
            self.trusted = False
            return
        self._begin_at(origin)
        entry = self._skip_to_start() if self.start > 0 else None
        self.cover(origin if entry is None else entry)
        if entry is not None and not self.trusted:
            raise PlanInvalid("where the video begins can be told only from its first frame")
        self._origin_known = self.trusted

    def _begin_at(self, origin: int) -> None:
        self._origin = origin
        self._first_tick = self.tick(self._chunk_start(self._first_chunk))
        self._go_to(Fraction(0))
        self.pending.clear()

    def _go_to(self, time: Fraction) -> None:
        """Nothing from the chunk of `time` on is planned."""
        self._next_chunk = self._index_at(time)
        self._planned_until = self.tick(self._chunk_start(self._next_chunk))

    def _skip_to_start(self) -> int | None:
        """Go on with the packets from the last entry point before `start`: its tick; None if they are passed over."""
        if self._packets_from is None or not self._packets.regular:
            return None
        if (packets := self._packets_from(self.tick(self.start))) is None:
            raise PlanInvalid("no entry point before the range")
        self._packets.skip_to(packets)
        if (entry := self._packets.first()) is not None:
            self._go_to(self.seconds(entry))
        return entry

    @property
    def is_complete(self) -> bool:
        """Whether every chunk has been taken although the video goes on."""
        return self._ends_before_video and not self.pending

    def presented(self, pts: int) -> None:
        """The next frame is presented, in order."""
        if not self._origin_known:
            self._origin_known = True
            self._origin_moved = pts - self._packets.presented[0] if self._packets.presented else 0
            self._begin_at(pts)
        self.cover(pts)
        self._packets.forget_before(pts)

    def seconds(self, tick: int) -> Fraction:
        return (tick - self._origin) * self._time_base

    def tick(self, time: Fraction) -> int:
        """The last tick at or before `time`: a frame is presented by then if its pts is not greater."""
        return self._origin + floor(time / self._time_base)

    def _index_at(self, time: Fraction) -> int:
        """Of the chunk that `time` lies in, if it is before `start`; otherwise 0."""
        return min(0, floor((time - self.start) / self._chunk_duration))

    def _chunk_start(self, index: int) -> Fraction:
        return self.start + index * self._chunk_duration

    def _span_at(self, index: int, end: Fraction) -> Span | None:
        return span_at(index, self._chunk_duration, end, self.start)

    def first_tick_from(self, time: Fraction) -> int:
        """The first tick at or after `time`."""
        return self._origin + ceil(time / self._time_base)

    def is_too_late(self, pts: int) -> bool:
        """Whether the video is longer than allowed if a frame is presented then."""
        return pts - self._origin > self._max_ticks

    # ---- chunks

    def cover(self, pts: int) -> None:
        """Plan every chunk that starts at or before `pts`."""
        while self._is_beyond_plan(pts):
            self._plan_chunk()

    def _plan_chunk(self) -> None:
        start = self._chunk_start(self._next_chunk)
        end = start + self._chunk_duration
        proof = end + MIN_CHUNK_SECONDS  # a frame presented then proves the span
        is_last = self.end is not None and self._span_at(self._next_chunk + 1, self.end) is None
        if self.end is not None and is_last:
            proof = end = self.end
        certain_from: int | None = (proven := self._origin + ceil(proof / self._time_base))
        video_duration = self._foresee_duration(max(proven, self.tick(end) + self._tolerance + 1))
        ends = [known for known in (video_duration, self.end) if known is not None]
        self._promised_until[self._next_chunk] = self._packets.promised_before(proven)
        span: Span | None = Span(self._next_chunk, start, self._chunk_duration)
        if ends:
            span = self._span_at(self._next_chunk, min(ends))
            is_last = self._span_at(self._next_chunk + 1, min(ends)) is None
        if video_duration is not None and is_last:
            certain_from = None
        self._planned_until = None if is_last else self.tick(end) - (self._tolerance if self.trusted else 0)
        if span is None:
            return
        self._next_chunk += 1
        ticks: list[int] = []
        if span.index >= self._first_chunk:
            times = span.wanted_times(self._frames_per_chunk)
            ticks = [self.tick(time) for time in times]
            if self.tolerates:
                ticks = self._frames_near(times)
                certain_from = None if certain_from is None else max(certain_from, ticks[-1] + 1)
            self.pending.append(PlannedChunk(span, ticks, certain_from))
            self._ends_before_video = is_last and certain_from is not None
        if self.tolerates:
            self._want(ticks)
        elif self.trusted and certain_from is None:
            ending = [pts for pts in self._packets.presented[-2:] if pts >= self.tick(start)]  # measures the end
            self._want([*map(self._packets.frame_at, ticks), *ending])
        elif self.trusted and certain_from is not None and self._next_chunk >= self._first_chunk:
            # What the next chunk begins with is known, and one frame must prove that there is one.
            shown = map(self._packets.frame_at, [*ticks, self.tick(end)])
            self._want([*shown, self._packets.first_from(certain_from)])

    def promised_until(self, time: Fraction) -> int:
        """Frames that the packets promise up to where the chunk after that of `time`, if any, is proven.

        That chunk is planned before the one of `time` is certain.
        """
        index = floor((time - self.start) / self._chunk_duration)
        return self._promised_until.get(index + 1) or self._promised_until.get(index, 0)

    @property
    def tolerates(self) -> bool:
        """Whether frames near a wanted time are taken in place of the one on display then."""
        return self.trusted and self._tolerance > 0

    @property
    def _keeps_shots(self) -> bool:
        return self._keep_shots and not self.tolerates

    def _frames_near(self, times: list[Fraction]) -> list[int]:
        """For each time, in order, a frame within the tolerance that is cheap to decode, or else the one on display."""
        frames: list[int] = []
        for time in times:
            earliest, latest = time - self._tolerance_seconds, time + self._tolerance_seconds
            frame = self._packets.cheap_frame_near(self.tick(time), self.first_tick_from(earliest), self.tick(latest))
            frames.append(max(frame, *frames[-1:]) if frames else frame)
        return frames

    def end_of_video(self, measured: int) -> int:
        """Where the display of the last frame ends, of which the decoder has shown as much as `measured`."""
        end = self._packets.end() if self.tolerates else None
        return measured if end is None else max(measured, end)

    def _foresee_duration(self, enough: int) -> Fraction | None:
        """The video's duration; None if it goes on at least to the tick `enough`."""
        if self._video_duration is not None:
            return self._video_duration
        foreseen = self._packets.read_until(enough)
        # Otherwise packets are damaged or their times not in order, or they are too large to hold.
        self.trusted = self.trusted and foreseen and self._packets.regular
        end = self._packets.end()
        return self.seconds(end + self._origin_moved) if self._packets.ended and end is not None else None

    def _want(self, frames: list[int]) -> None:
        wanted = {*self._wanted, *frames}
        self._wanted = sorted(pts for pts in wanted if self._arrived is None or pts > self._arrived)

    def confirm_end(self, video_duration: Fraction) -> None:
        """Raises unless the pending chunks are the last of a video of that duration, and nothing is missing."""
        end = video_duration if self.end is None else min(video_duration, self.end)
        spans = [self._span_at(chunk.span.index, end) for chunk in self.pending]
        beyond = self._span_at(self._next_chunk, end)
        if self._wanted or beyond is not None or spans != [chunk.span for chunk in self.pending]:
            raise PlanInvalid("the video ends elsewhere than foreseen")

    # ---- packets and frames, in a trusted plan

    def wants(self, packet: Packet) -> bool:
        """Whether the frame of `packet`, the next in decoding order, is wanted."""
        if packet.pts is None or self.is_too_late(packet.pts):
            self.trusted = False
        else:
            self.cover(packet.pts)
        self._needed_for -= 1
        return not self.trusted or self._is_near_likely_cut(packet) or self._is_wanted(packet)

    def _is_near_likely_cut(self, packet: Packet) -> bool:
        """Whether the picture is shown just before one that looks like a cut: then it may be the cut itself.

        Decoded now, it costs less than a search from the last entry point later.
        """
        if packet.pts is None or self.tolerates:
            return False
        if self._packets.is_likely_cut(packet.pts):
            self._likely_cut = packet.pts
        return self._likely_cut is not None and packet.pts <= self._likely_cut

    def _is_wanted(self, packet: Packet) -> bool:
        return packet.pts is not None and contains(self._wanted, packet.pts)

    def is_needed_soon(self) -> bool:
        """Whether the next packet is of the chunk that is sampled now or of the one after it."""
        upcoming = self._packets.upcoming
        planned = bool(upcoming) and upcoming[0].pts is not None and not self._is_beyond_plan(upcoming[0].pts)
        return planned or len(self.pending) < 2

    def _is_beyond_plan(self, pts: int) -> bool:
        return self._planned_until is not None and pts >= self._planned_until

    def is_sampled(self, packet: Packet) -> bool:
        """Whether the frame of `packet` is wanted for itself, rather than for a change next to it."""
        return self._is_wanted(packet)

    def begins_group(self, packet: Packet) -> bool:
        """Whether `packet`, which was just taken, and all after it can be decoded without any before it."""
        return packet.entry_point and packet.pts is not None and not self._has_leading_frames(packet.pts, -1)

    def droppable(self) -> int:
        """How many of the next packets no wanted frame needs, up to one where decoding can start afresh."""
        if self._needed_for > 0 or not self.trusted:
            return 0
        if self.tolerates:
            self._plan_up_to_next_wanted()
            if not self.trusted:
                return 0
            upcoming = self._packets.upcoming
            if self._planned_until is None and self._packets.ended and not any(map(self._is_wanted, upcoming)):
                return len(upcoming)
        droppable = seen = 0
        keep_from = self._first_tick if self._keeps_shots else None
        for packet in self._packets.upcoming:
            if packet.pts is None or self._is_beyond_plan(packet.pts):
                break
            if seen > 0 and packet.entry_point and not self._has_leading_frames(packet.pts, seen):
                droppable = seen
            if keep_from is not None and packet.pts >= keep_from:
                break
            if self._is_wanted(packet) or (not self.tolerates and self._packets.is_likely_cut(packet.pts)):
                break
            seen += 1
        self._needed_for = 0 if droppable else seen + 1
        return droppable

    def _plan_up_to_next_wanted(self) -> None:
        while self.trusted and self._planned_until is not None:
            for packet in self._packets.upcoming:
                if packet.pts is None or self._is_wanted(packet):
                    return
                if packet.pts >= self._planned_until:
                    break
            else:
                return
            self._plan_chunk()

    def _has_leading_frames(self, entry_pts: int, position: int) -> bool:
        """Whether packets after the entry point at `position` are presented before it: they may need older ones."""
        following = islice(self._packets.upcoming, position + 1, None)
        reordered = takewhile(lambda packet: packet.dts is None or packet.dts < entry_pts, following)
        return any(packet.pts is None or packet.pts < entry_pts for packet in reordered)

    def leaves_out(self, after: int, before: int) -> bool:
        """Whether frames presented between those two, which have arrived or are just arriving, do not arrive."""
        presented = self._packets.presented
        return self.trusted and bisect_right(presented, after) < bisect_left(presented, before)

    def arrived(self, pts: int) -> None:
        """The decoder brought out the frame of that time."""
        in_order = self._arrived is None or pts > self._arrived
        foreseen = not self.trusted or contains(self._packets.presented, pts)
        if not (in_order and foreseen) or (self._wanted and self._wanted[0] < pts):
            raise PlanInvalid("a frame is missing, or comes unforeseen")
        if self._wanted and self._wanted[0] == pts:
            del self._wanted[0]
        self._arrived = pts

    @property
    def awaits_frames(self) -> bool:
        """Whether frames that were foreseen must still arrive, even if the plan is no longer trusted."""
        return self.trusted or bool(self._wanted)
