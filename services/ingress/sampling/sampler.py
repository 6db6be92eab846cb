"""Frames of a video at evenly spaced times, chunk by chunk.

For each wanted time it is the frame on display then, exactly as a full decode would show it. Most pictures that no
wanted frame needs are never decoded: the times of the packets tell beforehand which frames will be wanted. That is a
promise of the container only, so every frame that arrives is checked against it before a chunk is handed out. At the
first contradiction the video is read again from its start, decoding everything, for the chunks not yet handed out.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor
from types import TracebackType
from typing import Self

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from services.ingress.sampling.cut_detector import FoundCut, is_clear
from services.ingress.sampling.cut_refiner import CutRefiner
from services.ingress.sampling.frame_difference import FrameChange, FrameDifference, Thumbnail, difference
from services.ingress.sampling.group_decoders import DecodedPicture, GroupDecoders
from services.ingress.sampling.media_reader import MediaFile
from services.ingress.sampling.memory import PictureFormat, decoders
from services.ingress.sampling.pixels import Pixels, UprightResizer
from services.ingress.sampling.plan import (
    Cut,
    LargestChange,
    LookAhead,
    PlanInvalid,
    PlannedChunk,
    SampledChunk,
    SamplingPlan,
    Span,
    TimesInDecodingOrder,
    Transition,
)
from services.ingress.sampling.shot_detector import ShotDetector
from services.ingress.sampling.timeline import MAX_FRAMES_AHEAD, Shown, Timeline
from services.ingress.sampling.transition_detector import FoundTransition
from services.ingress.sampling.video_file import VideoFile, not_a_video, refused
from videoanalysis.errors import InvalidInput
from videoanalysis.v1.error_reason_pb2 import ErrorReason

Picture = VideoFrame | DecodedPicture

MAX_SEARCH_SHARE = Fraction(8, 100)
_MIN_FRAMES_REFINED = 32  # in a chunk, however short


@dataclass(frozen=True, slots=True)
class SamplingLimits:
    """What a video may ask of us."""

    max_pixels: int = 8192 * 4320  # of any one frame
    max_duration_seconds: float = 6 * 3600.0
    max_packets: int = 4_000_000
    max_bytes_ahead: int = 128 * 2**20  # of packets to plan with, about 1.2 chunks; beyond, every frame is decoded


class Sampler:
    """The chunks of one video file, in order, from `first_chunk` on; a context manager.

    They divide the time from `start` to `end`, or to the end of the video. What lies before is passed over, by a jump
    in the file where its container allows one; what lies behind is not read.

    With a `tolerance` in seconds, frames that are cheap to decode stand for wanted times that they are near enough to.
    Of frames in a row that are the same, or differ by less than `reuse_difference` of the full range on thumbnails, a
    chunk hands out the first. `frames_searched` were decoded before, by others, in search of the cuts of earlier
    chunks; `decode_all` if those had to decode every frame in the end.

    `on_packet` is called for every packet that is read or decoded, as a sign of progress. `threads` decode while
    nothing is amiss; a video that must be decoded whole has one, since only then is what damaged pictures show the same
    in every run.
    """

    def __init__(
        self,
        media: str | MediaFile,
        *,
        frames_per_chunk: int,
        chunk_duration: Fraction,
        image_size: int,
        limits: SamplingLimits,
        first_chunk: int = 0,
        tolerance: Fraction = Fraction(0),
        reuse_difference: float = 0.0,
        frames_searched: int = 0,
        decode_all: bool = False,
        threads: int = 1,
        start: Fraction = Fraction(0),
        end: Fraction | None = None,
        on_packet: Callable[[], None] = lambda: None,
        detect_cuts: bool = False,
    ) -> None:
        self._media = media
        self._on_packet = on_packet
        self._start = start
        self._end = end
        self._tolerance = tolerance
        self._threads = threads
        self._detect_cuts = detect_cuts
        self._refined_frames = 0  # decoded to find cuts to the frame
        self._reuse_difference = reuse_difference
        self._frames_per_chunk = frames_per_chunk
        self._chunk_duration = chunk_duration
        self._resize = UprightResizer(image_size)
        self._limits = limits
        self._next_index = first_chunk
        self._discarded_frames = 0
        self._searched_before = frames_searched
        self._search = CutRefiner(media, max_pixels=limits.max_pixels, on_packet=on_packet)
        self._use_pts = True
        self._pass = self._new_pass(trusted=not decode_all)
        self.claimed_duration_seconds = self._pass.video.claimed_duration_seconds
        """What the container says, right or wrong; None if it says nothing."""
        if (self.claimed_duration_seconds or 0.0) > limits.max_duration_seconds and self._is_too_long():
            self.close()
            raise _too_long(limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._pass.close()
        self._search.close()

    @property
    def picture_format(self) -> PictureFormat:
        return self._pass.video.picture_format

    @property
    def duration(self) -> Fraction:
        """Of the video in seconds, up to the end of its last frame or to `end`; known once there are no more chunks."""
        if self._pass.video_duration is None:
            raise ValueError("the duration is known only at the end of the video")
        return self._pass.video_duration

    @property
    def decode_failures(self) -> int:
        """Packets that the decoder was given and refused; the frame before them stayed on display."""
        return self._pass.decode_failures

    @property
    def frames_dropped(self) -> int:
        """Decoded frames whose times give them no place on the timeline."""
        return self._pass.frames_dropped

    @property
    def frames_decoded(self) -> int:
        return self._discarded_frames + self._pass.frames_decoded + self._search.frames_decoded

    @property
    def frames_searched(self) -> int:
        """Decoded in search of the largest changes, of all chunks so far."""
        return self._searched_before + self._search.frames_decoded - self._refined_frames

    def next_chunk(self, out: NDArray[np.uint8]) -> SampledChunk | None:
        """Fill the first rows of `out`, uint8 [frames_per_chunk, image_size, image_size, 3] in RGB.

        None after the last chunk.
        """
        while True:
            try:
                sampled = next(self._pass.chunks, None)
                break
            except PlanInvalid as contradiction:
                self._start_over(contradiction)
        if sampled is None:
            return None
        self._next_index += 1
        span, samples = sampled.span, sampled.samples
        handed_out: list[Sample] = []
        indices = []
        for sample in samples:
            if not handed_out or not sample.resembles(handed_out[-1], self._reuse_difference):
                out[len(handed_out)] = sample.pixels
                handed_out.append(sample)
            indices.append(len(handed_out) - 1)
        return SampledChunk(
            span.index,
            span.start,
            span.duration,
            tuple(sample.time for sample in samples),
            tuple(indices),
            tuple(sample.change for sample in samples),
            self._to_the_frame(sampled),
            tuple(_transition(self._pass.plan, found) for found in sampled.transitions),
            all_decoded=not self._pass.plan.trusted,
        )

    def _to_the_frame(self, sampled: "SampledSpan") -> tuple[Cut, ...]:
        """The cuts of a chunk, each between two neighbouring frames if decoding a few again shows it.

        How many depends on no other chunk, so that a resumed video has the same cuts.
        """
        plan = self._pass.plan
        allowed = max(_MIN_FRAMES_REFINED, floor(MAX_SEARCH_SHARE * sampled.frames_decoded))
        can_refine = plan.trusted and not plan.tolerates and not self._pass.video.clock.breaks
        cuts = []
        for cut in sampled.cuts:
            change = FrameChange(cut.before, cut.at, cut.exact, cut.strength, confidence=1)
            if can_refine and not cut.exact:
                before = self._search.frames_decoded
                change = self._search.refine(change, allowed)
                decoded = self._search.frames_decoded - before
                self._refined_frames += decoded
                allowed -= decoded
            if is_clear(change):
                time, previous = plan.seconds(change.at), plan.seconds(change.before)
                cuts.append(Cut(time, previous, round(change.size, 4), change.exact))
        return tuple(cuts)

    def refine_cut(self, cut: LargestChange) -> LargestChange:
        """A chunk's `cut` between two neighbouring frames, if those left out between can be decoded at little cost.

        All such searches together decode at most MAX_SEARCH_SHARE as many frames as the packets promise up to the
        chunk after that of the cut: so they find the same however far sampling is ahead, and wherever it was resumed.
        """
        plan = self._pass.plan
        if cut.exact or not plan.trusted or plan.tolerates or self._pass.video.clock.breaks:
            return cut
        allowed = floor(MAX_SEARCH_SHARE * plan.promised_until(cut.at)) - self.frames_searched
        change = FrameChange(plan.tick(cut.before), plan.tick(cut.at), cut.exact, 0.0, cut.confidence)
        return _largest_change(plan, self._search.refine(change, allowed))

    def _start_over(self, contradiction: PlanInvalid) -> None:
        """Walk through the whole video again for the chunks not yet delivered, leaving nothing out this time."""
        failed = self._pass
        if failed.plan.duration_was_given:
            raise RuntimeError("the video decoded differently the second time") from contradiction
        failed.close()
        self._use_pts = self._use_pts and not isinstance(contradiction, TimesInDecodingOrder)
        self._discarded_frames += failed.frames_decoded
        # A decoder of several threads may lose the last frames where one of them is damaged.
        is_exact = not failed.plan.trusted and failed.video.threads == 1
        measured = failed.video_duration if is_exact else None
        self._pass = self._new_pass(trusted=False, video_duration=measured)

    def _new_pass(self, *, trusted: bool, video_duration: Fraction | None = None) -> "DecodePass":
        video = VideoFile(
            self._media,
            max_pixels=self._limits.max_pixels,
            max_packets=self._limits.max_packets,
            threads=self._threads if trusted else 1,
            on_packet=self._on_packet,
        )
        packets = LookAhead(
            video.packets(),
            nominal_duration=video.nominal_frame_duration,
            max_bytes=self._limits.max_bytes_ahead,
            is_reference=video.is_reference if trusted and self._tolerance else None,
        )
        plan = SamplingPlan(
            packets,
            trusted=trusted,
            time_base=video.time_base,
            chunk_duration=self._chunk_duration,
            frames_per_chunk=self._frames_per_chunk,
            max_duration=Fraction(self._limits.max_duration_seconds),
            tolerance=self._tolerance,
            first_chunk=self._next_index,
            video_duration=video_duration,
            start=self._start,
            end=self._end,
            packets_from=video.packets_from if trusted and self._can_seek(video) else None,
            keep_shots=self._detect_cuts,
        )
        return DecodePass(
            video,
            packets,
            plan,
            self._resize,
            self._limits,
            use_pts=self._use_pts,
            decoders=decoders(video.picture_format, video.threads),
            open_decoders=self._open_decoders,
            shots=ShotDetector(float(1 / video.time_base)) if self._detect_cuts else None,
        )

    def _open_decoders(self, count: int) -> GroupDecoders:
        with ExitStack() as stack:
            opened = [
                stack.enter_context(
                    VideoFile(
                        self._media,
                        max_pixels=self._limits.max_pixels,
                        max_packets=self._limits.max_packets,
                        threads=self._threads // count,
                    )
                )
                for _ in range(count)
            ]
            stack.pop_all()
        return GroupDecoders(opened, image_size=self._resize.size, on_result=self._on_packet)

    def _can_seek(self, video: VideoFile) -> bool:
        """Whether what comes before the range need not be read again and again: its place in the file is known."""
        if video.has_one_clock or not self._start:
            return video.has_one_clock
        with VideoFile(
            self._media,
            max_pixels=self._limits.max_pixels,
            max_packets=self._limits.max_packets,
            on_packet=self._on_packet,
        ) as scanned:
            entry_points = scanned.find_entry_points(self._start)
        if not video.seeks_by_time:
            video.entry_points = entry_points
        return entry_points is not None

    def _is_too_long(self) -> bool:
        """Whether by the packets' times, too, the video exceeds the limit: its last one, or more than a few."""
        first: int | None = None
        is_beyond, beyond = False, 0
        with VideoFile(
            self._media,
            max_pixels=self._limits.max_pixels,
            max_packets=self._limits.max_packets,
            on_packet=self._on_packet,
        ) as video:
            allowed = self._limits.max_duration_seconds / float(video.time_base)
            for packet in video.packets():
                time = packet.pts if packet.pts is not None else packet.dts
                if time is not None:
                    first = time if first is None else first
                    is_beyond = time - first > allowed
                    beyond += is_beyond
                if beyond > MAX_FRAMES_AHEAD:
                    break
        return is_beyond


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
                raise _too_long(self._limits)
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
            raise _too_long(self._limits)
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
        return _largest_change(self.plan, change)

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


def _largest_change(plan: SamplingPlan, change: FrameChange) -> LargestChange:
    return LargestChange(plan.seconds(change.before), plan.seconds(change.at), change.exact, change.confidence)


def _transition(plan: SamplingPlan, found: FoundTransition) -> Transition:
    return Transition(plan.seconds(found.start), plan.seconds(found.end), found.kind)


def _starts_too_late(start: Fraction, duration: Fraction) -> InvalidInput:
    return InvalidInput(
        f"start_seconds: {float(start):g} is not before the end of the video, at {float(duration):g}",
        reason=ErrorReason.RANGE_BEYOND_END,
        field="start_seconds",
    )


def _too_long(limits: SamplingLimits) -> InvalidInput:
    return refused(ErrorReason.VIDEO_OVER_LIMIT, f"The video is longer than {limits.max_duration_seconds:g} seconds.")
