"""One pass through a video: decoded frames are put in order, checked against the plan and given to the wanted times."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame

from services.ingress.sampling.cut_detector import FoundCut
from services.ingress.sampling.frame_difference import FrameChange, FrameDifference, Thumbnail, difference
from services.ingress.sampling.group_decoders import DecodedPicture, GroupDecoders
from services.ingress.sampling.limits import SamplingLimits
from services.ingress.sampling.look_ahead import LookAhead
from services.ingress.sampling.pixels import Pixels, UprightResizer
from services.ingress.sampling.plan import PlanInvalid, PlannedChunk, SamplingPlan, TimesInDecodingOrder
from services.ingress.sampling.sampled_chunk import LargestChange, Span
from services.ingress.sampling.shot_detector import ShotDetector
from services.ingress.sampling.timeline import Shown, Timeline
from services.ingress.sampling.transition_detector import FoundTransition
from services.ingress.sampling.video_file import VideoFile, not_a_video
from videoanalysis.errors import InvalidInput
from videoanalysis.v1.error_reason_pb2 import ErrorReason

Picture = VideoFrame | DecodedPicture


@dataclass(frozen=True, slots=True)
class Sample:
    """A frame for a wanted time."""

    start: int
    time: Fraction
    pixels: Pixels
    thumbnail: Thumbnail
    change: LargestChange | None

    def resembles(self, other: "Sample", max_difference: float) -> bool:
        """Whether the pictures are the same, or their thumbnails differ by less than `max_difference`."""
        if self.start == other.start or difference(self.thumbnail, other.thumbnail) < max_difference:
            return True
        middle = len(self.pixels) // 2  # mostly tells, at little cost
        return np.array_equal(self.pixels[middle], other.pixels[middle]) and np.array_equal(self.pixels, other.pixels)


@dataclass(frozen=True, slots=True)
class SampledSpan:
    """A chunk as one pass finds it."""

    span: Span
    samples: list[Sample]
    cuts: list[FoundCut]
    transitions: list[FoundTransition]
    frames_decoded: int  # since the chunk before


class DecodePass:
    """One pass through the file, from its start.

    With several `decoders`, `open_decoders` opens them once it is known that groups of pictures are short enough.
    """

    def __init__(
        self,
        video: VideoFile,
        packets: LookAhead,
        plan: SamplingPlan,
        resize: UprightResizer,
        limits: SamplingLimits,
        *,
        use_pts: bool,
        decoders: int,
        open_decoders: Callable[[int], GroupDecoders],
        shots: ShotDetector | None,
    ) -> None:
        self.video = video
        self.plan = plan
        self.chunks = self._chunks()
        self.video_duration: Fraction | None = None  # measured, at the end
        self._packets = packets
        self._resize = resize
        self._limits = limits
        self._use_pts = use_pts
        self._decoders = decoders
        self._open_decoders = open_decoders
        self._groups: GroupDecoders | None = None
        self._timeline: Timeline[Picture] = Timeline(
            nominal_duration=video.nominal_frame_duration, ticks_per_second=float(1 / video.time_base)
        )
        self._latest_pts: int | None = None
        self._difference = FrameDifference()
        self._shots = shots
        self._has_sampled = False
        self._late_frames_dropped = 0

    def close(self) -> None:
        self.chunks.close()
        if self._groups is not None:
            self._groups.close()
        self.video.close()

    @property
    def decode_failures(self) -> int:
        return self.video.decode_failures + (self._groups.decode_failures if self._groups is not None else 0)

    @property
    def frames_decoded(self) -> int:
        return self._groups.frames_decoded if self._groups is not None else self.video.frames_decoded

    @property
    def frames_dropped(self) -> int:
        return self._timeline.dropped + self._late_frames_dropped

    def _chunks(self) -> Generator[SampledSpan, None, None]:
        """The chunks as they become certain; PlanInvalid comes before any that might be wrong."""
        plan = self.plan
        plan.begin()
        self._check_threads()
        shown: Shown[Picture] | None = None
        thumbnail: Thumbnail | None = None  # of it
        for following in self._timed_frames():
            start = following.start
            if plan.is_too_late(start):
                raise self._limits.too_long()
            if shown is not None and start <= shown.start:
                self._place_late(following)
                continue
            left_out = shown is not None and plan.leaves_out(shown.start, start)
            plan.presented(start)
            self._check_threads()
            if shown is not None:
                self._sample(shown, thumbnail, until=start)
            thumbnail = self._thumbnail(following.picture)
            change = self._difference.add(thumbnail, start, left_out=left_out)
            if self._shots is not None:
                self._shots.add(start, thumbnail, change, left_out=left_out)
            shown = following
            while plan.pending and plan.pending[0].is_certain(presented=start) and self._has_settled(plan.pending[0]):
                chunk = plan.pending.popleft()
                yield self._sampled_span(chunk, is_last=self._ends_there(chunk))
            if plan.is_complete:
                self.video_duration = plan.end
                return

        if shown is None:
            if plan.trusted:
                raise PlanInvalid("no frame came")
            raise not_a_video()
        end = plan.end_of_video(shown.end)
        if plan.is_too_late(end):
            raise self._limits.too_long()
        self.video_duration = plan.seconds(end)
        if self.video_duration <= plan.start:
            raise _starts_too_late(plan.start, self.video_duration)
        plan.cover(end)
        plan.confirm_end(self.video_duration)
        self._sample(shown, thumbnail, until=None)
        for chunk in plan.pending:
            yield self._sampled_span(chunk, is_last=chunk is plan.pending[-1])

    def _check_threads(self) -> None:
        if self.video.threads > 1 and not self.plan.trusted:
            raise PlanInvalid("every frame is to be decoded, which several threads do in other ways if it is damaged")

    def _has_settled(self, chunk: PlannedChunk) -> bool:
        return self._shots is None or self._ends_there(chunk) or self._shots.is_settled(self._end_tick(chunk))

    def _ends_there(self, chunk: PlannedChunk) -> bool:
        """Whether the part of the video that is sampled ends with it, before the video does."""
        return self.plan.end is not None and chunk.span.start + chunk.span.duration >= self.plan.end

    def _end_tick(self, chunk: PlannedChunk) -> int:
        return self.plan.first_tick_from(chunk.span.start + chunk.span.duration)

    def _sampled_span(self, chunk: PlannedChunk, *, is_last: bool) -> SampledSpan:
        cuts: list[FoundCut] = []
        transitions: list[FoundTransition] = []
        frames = 0
        if self._shots is not None:
            # A cut lies between two frames of what is analysed; the first frame of a range is none.
            start = self.plan.first_tick_from(chunk.span.start) + (chunk.span.start == self.plan.start)
            cuts, transitions, frames = self._shots.pop(start, self._end_tick(chunk), is_last=is_last)
        return SampledSpan(chunk.span, chunk.samples, cuts, transitions, frames)

    def _sample(self, shown: Shown[Picture], thumbnail: Thumbnail | None, until: int | None) -> None:
        """Give the frame `shown` to every wanted time before the tick `until`, or to all that are left."""
        sample = None
        for chunk in self.plan.pending:
            due = chunk.due(until)
            if due > 0 and sample is None:
                sample = replace(self._sampled(shown, thumbnail), change=self._pop_change())
                chunk.samples.append(sample)
                sample, due = replace(sample, change=None), due - 1
            chunk.samples += [sample] * due

    def _sampled(self, shown: Shown[Picture], thumbnail: Thumbnail | None = None) -> Sample:
        return Sample(
            shown.start,
            self.plan.seconds(shown.start),
            self._pixels(shown.picture),
            self._thumbnail(shown.picture) if thumbnail is None else thumbnail,
            change=None,
        )

    def _thumbnail(self, picture: Picture) -> Thumbnail:
        return picture.thumbnail if isinstance(picture, DecodedPicture) else self._difference.thumbnail(picture)

    def _pixels(self, picture: Picture) -> Pixels:
        if not isinstance(picture, DecodedPicture):
            return self._resize(picture).copy()
        if picture.pixels is None:
            raise PlanInvalid("a frame is on display that was not foreseen then")
        return picture.pixels

    def _place_late(self, late: Shown[Picture]) -> None:
        """Give a frame that comes after later ones to the wanted times at which it is on display."""
        pending = self.plan.pending
        if not pending or self.plan.seconds(late.start) < pending[0].span.start:
            self._late_frames_dropped += 1
            return
        sample = None
        for chunk in pending:
            for place, (tick, other) in enumerate(zip(chunk.ticks, chunk.samples, strict=False)):
                if other.start <= late.start <= tick:
                    sample = sample or self._sampled(late)
                    chunk.samples[place] = replace(sample, change=other.change)

    def _pop_change(self) -> LargestChange | None:
        """The largest change since the frame sampled last; what came before the first sample is not known."""
        change = self._difference.pop_largest()
        is_first, self._has_sampled = not self._has_sampled, True
        if change is None or is_first:
            return None
        return largest_change(self.plan, change)

    def _timed_frames(self) -> Iterator[Shown[Picture]]:
        """The frames with their places on the timeline: all of them, or of a trusted plan those that are needed."""
        frames = self._frames_of_groups if self._has_short_groups() else self._decoded_frames
        for frame in frames():
            pts = frame.pts if self._use_pts else None
            if self.plan.awaits_frames:
                if pts is None or frame.is_corrupt or frame.interlaced_frame:  # a field may be a packet of its own
                    raise PlanInvalid("a frame that may be incomplete")
                self.plan.arrived(pts)
            if pts is not None and self._latest_pts is not None and pts < self._latest_pts:
                if not self._packets.reordered:
                    raise TimesInDecodingOrder("frames have the times of the order in which they are decoded")
            elif pts is not None:
                self._latest_pts = pts
            yield from self._timeline.add(frame, pts, frame.dts, frame.duration)
        yield from self._timeline.finish()

    def _decoded_frames(self) -> Iterator[VideoFrame]:
        plan = self.plan
        entry: int | None = None  # pts of the frame that must come first, once decoding has started afresh
        while (packet := self._packets.take()) is not None:
            wanted = not plan.trusted or plan.wants(packet) or packet.entry_point
            for frame in self.video.decode(packet, wanted=wanted):
                if entry is not None and not (frame.pts == entry and frame.key_frame):
                    raise PlanInvalid("decoding cannot start at this packet")
                entry = None
                yield frame
            if self.video.decode_failures and plan.awaits_frames:
                raise PlanInvalid("a packet was refused")
            if (unneeded := plan.droppable()) > 0:
                yield from self.video.drain()
                self.video.start_afresh()
                for _ in range(unneeded):
                    self._packets.take()
                entry = self._packets.upcoming[0].pts if self._packets.upcoming else None
        yield from self.video.drain()
        if self.video.decode_failures and plan.awaits_frames:
            raise PlanInvalid("a packet was refused")

    def _has_short_groups(self) -> bool:
        """Whether each decoder finds a group of its own in the packets read so far, those of a chunk at least."""
        return self.plan.trusted and 1 < self._decoders <= self._packets.entry_points_ahead

    def _frames_of_groups(self) -> Iterator[DecodedPicture]:
        """As `_decoded_frames`, by several decoders at once, while the plan is trusted."""
        self._groups = groups = self._open_decoders(self._decoders)
        ended = False
        while not (ended and groups.is_empty):
            # Pictures that are there do not wait for packets that may still have to be fetched.
            if not ended and groups.has_room and (self.plan.is_needed_soon() or not groups.has_results):
                ended = not self._decode_next_in(groups)
                continue
            yield from groups.next_pictures()
            if self.decode_failures:
                raise PlanInvalid("a packet was refused")

    def _decode_next_in(self, groups: GroupDecoders) -> bool:
        """Hand the next packet to the decoder of its group; False if there is none."""
        plan = self.plan
        if (packet := self._packets.take()) is None:
            groups.end_group()
            return False
        wanted = plan.wants(packet)
        if groups.is_long and plan.begins_group(packet):
            groups.end_group()
        groups.decode(packet, wanted=wanted or packet.entry_point, sampled=plan.is_sampled(packet))
        if (unneeded := plan.droppable()) > 0:
            groups.end_group()
            for _ in range(unneeded):
                self._packets.take()
        if not plan.trusted:
            raise PlanInvalid("the packets cannot be relied on from here on")
        return True


def largest_change(plan: SamplingPlan, change: FrameChange) -> LargestChange:
    return LargestChange(plan.seconds(change.before), plan.seconds(change.at), change.exact, change.confidence)


def _starts_too_late(start: Fraction, duration: Fraction) -> InvalidInput:
    return InvalidInput(
        f"start_seconds: {float(start):g} is not before the end of the video, at {float(duration):g}",
        reason=ErrorReason.RANGE_BEYOND_END,
        field="start_seconds",
    )
