"""Frames of a video at evenly spaced times, chunk by chunk.

For each wanted time it is the frame on display then, exactly as a full decode would show it. Most pictures that no
wanted frame needs are never decoded: the times of the packets tell beforehand which frames will be wanted. That is a
promise of the container only, so every frame that arrives is checked against it before a chunk is handed out. At the
first contradiction the video is read again from its start, decoding everything, for the chunks not yet handed out.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor
from types import TracebackType
from typing import Self

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from services.ingress.sampling.cut_refiner import CutRefiner
from services.ingress.sampling.frame_difference import FrameDifference, Step
from services.ingress.sampling.pixels import Pixels, UprightResizer
from services.ingress.sampling.plan import (
    Cut,
    LookAhead,
    PlanInvalid,
    SampledChunk,
    SamplingPlan,
    Span,
    displayed_for,
)
from services.ingress.sampling.video_file import VideoFile, not_a_video, refused
from videoanalysis.errors import InvalidInput
from videoanalysis.v1.error_reason_pb2 import ErrorReason

MAX_SEARCH_SHARE = Fraction(8, 100)


@dataclass(frozen=True, slots=True)
class SamplingLimits:
    """What a video may ask of us."""

    max_pixels: int = 8192 * 4320  # of any one frame
    max_duration_seconds: float = 6 * 3600.0
    max_packets: int = 4_000_000
    max_bytes_ahead: int = 128 * 2**20  # of packets to plan with, about 1.2 chunks; beyond, every frame is decoded


class Sampler:
    """The chunks of one video file, in order, from `first_chunk` on; a context manager.

    `frames_searched` were decoded before, by others, in search of the cuts of earlier chunks; `decode_all` if those had
    to decode every frame in the end.
    """

    def __init__(
        self,
        path: str,
        *,
        frames_per_chunk: int,
        chunk_duration: Fraction,
        image_size: int,
        limits: SamplingLimits,
        first_chunk: int = 0,
        frames_searched: int = 0,
        decode_all: bool = False,
    ) -> None:
        self._path = path
        self._frames_per_chunk = frames_per_chunk
        self._chunk_duration = chunk_duration
        self._resize = UprightResizer(image_size)
        self._limits = limits
        self._next_index = first_chunk
        self._decoded_in_vain = 0
        self._searched_before = frames_searched
        self._search = CutRefiner(path, max_pixels=limits.max_pixels)
        self._walk = self._new_walk(trusted=not decode_all)
        self.claimed_duration_seconds = self._walk.video.claimed_duration_seconds
        """What the container says, right or wrong; None if it says nothing."""
        if (self.claimed_duration_seconds or 0.0) > limits.max_duration_seconds:
            self.close()
            raise _too_long(limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._walk.close()
        self._search.close()

    @property
    def duration(self) -> Fraction:
        """Of the video in seconds, up to the end of its last frame; known once `next_chunk` has returned None."""
        if self._walk.video_duration is None:
            raise ValueError("the duration is known only at the end of the video")
        return self._walk.video_duration

    @property
    def decode_failures(self) -> int:
        """Packets that the decoder was given and refused; the frame before them stayed on display."""
        return self._walk.video.decode_failures

    @property
    def frames_decoded(self) -> int:
        return self._decoded_in_vain + self._walk.video.frames_decoded + self._search.frames_decoded

    @property
    def frames_searched(self) -> int:
        """Decoded in search of cuts, of all chunks so far."""
        return self._searched_before + self._search.frames_decoded

    def next_chunk(self, out: NDArray[np.uint8]) -> SampledChunk | None:
        """Fill `out`, uint8 [frames_per_chunk, image_size, image_size, 3] in RGB; None after the last chunk."""
        while True:
            try:
                sampled = next(self._walk.chunks, None)
                break
            except PlanInvalid as contradiction:
                self._start_over(contradiction)
        if sampled is None:
            return None
        self._next_index += 1
        span, samples = sampled
        for i, sample in enumerate(samples):
            out[i] = sample.pixels
        return SampledChunk(
            span.index,
            span.start,
            span.duration,
            tuple(sample.time for sample in samples),
            tuple(sample.cut for sample in samples),
            all_decoded=not self._walk.plan.trusted,
        )

    def narrow(self, cut: Cut) -> Cut:
        """A chunk's `cut` between two neighbouring frames, if those left out between can be decoded at little cost.

        All such searches together decode at most MAX_SEARCH_SHARE as many frames as the video has, by its own claim
        or by its packets so far.
        """
        plan = self._walk.plan
        if cut.exact or not plan.trusted:
            return cut
        claimed = Fraction(self.claimed_duration_seconds or 0) / self._walk.nominal_frame_seconds
        frames = max(claimed, Fraction(self._walk.frames_promised))
        allowed = floor(MAX_SEARCH_SHARE * frames) - self.frames_searched
        step = Step(plan.tick(cut.before), plan.tick(cut.at), cut.exact, cut.confidence)
        return _cut(plan, self._search.narrow(step, allowed))

    def _start_over(self, contradiction: PlanInvalid) -> None:
        """Walk through the whole video again for the chunks not yet delivered, leaving nothing out this time."""
        failed = self._walk
        if failed.plan.duration_was_given:
            raise RuntimeError("the video decoded differently the second time") from contradiction
        failed.close()
        self._decoded_in_vain += failed.video.frames_decoded
        measured = None if failed.plan.trusted else failed.video_duration
        self._walk = self._new_walk(trusted=False, video_duration=measured)

    def _new_walk(self, *, trusted: bool, video_duration: Fraction | None = None) -> "DecodePass":
        video = VideoFile(self._path, max_pixels=self._limits.max_pixels, max_packets=self._limits.max_packets)
        packets = LookAhead(
            video.packets(), nominal_duration=video.nominal_frame_duration, max_bytes=self._limits.max_bytes_ahead
        )
        plan = SamplingPlan(
            packets,
            trusted=trusted,
            time_base=video.time_base,
            chunk_duration=self._chunk_duration,
            frames_per_chunk=self._frames_per_chunk,
            max_duration=Fraction(self._limits.max_duration_seconds),
            first_chunk=self._next_index,
            video_duration=video_duration,
        )
        return DecodePass(video, packets, plan, self._resize, self._limits)


@dataclass(frozen=True, slots=True)
class _Sample:
    time: Fraction
    pixels: Pixels
    cut: Cut | None


@dataclass(frozen=True, slots=True)
class _Shown:
    """The frame on display."""

    frame: VideoFrame
    pts: int
    end: int  # the tick until which it is on display if it is the last


class DecodePass:
    """One walk through the file, from its start."""

    def __init__(
        self, video: VideoFile, packets: LookAhead, plan: SamplingPlan, resize: UprightResizer, limits: SamplingLimits
    ) -> None:
        self.video = video
        self.plan = plan
        self.chunks = self._chunks()
        self.video_duration: Fraction | None = None  # measured, at the end
        self._packets = packets
        self._resize = resize
        self._limits = limits
        self._steps = FrameDifference()
        self._has_sampled = False

    def close(self) -> None:
        self.chunks.close()
        self.video.close()

    @property
    def nominal_frame_seconds(self) -> Fraction:
        return self.video.nominal_frame_duration * self.video.time_base

    @property
    def frames_promised(self) -> int:
        """By the packets read so far."""
        return self._packets.promised

    def _chunks(self) -> Generator[tuple[Span, list[_Sample]], None, None]:
        """The chunks as they become certain; PlanInvalid comes before any that might be wrong."""
        plan = self.plan
        shown: _Shown | None = None
        for frame, pts in self._planned_frames() if plan.trusted else self._all_frames():
            if plan.is_too_late(pts):
                raise _too_long(self._limits)
            plan.cover(pts)
            left_out = shown is not None and plan.leaves_out(shown.pts, pts)
            plan.arrived(pts)
            if shown is not None:
                self._sample(shown, until=pts)
            self._steps.see(frame, pts, left_out=left_out)
            shown = self._shown(frame, pts, after=shown)
            while plan.pending and plan.pending[0].is_certain(presented=pts):
                chunk = plan.pending.popleft()
                yield chunk.span, chunk.samples

        if shown is None:
            if plan.trusted:
                raise PlanInvalid("no frame came")
            raise not_a_video()
        if plan.is_too_late(shown.end):
            raise _too_long(self._limits)
        self.video_duration = plan.seconds(shown.end)
        plan.cover(shown.end)
        plan.confirm_end(self.video_duration)
        self._sample(shown, until=None)
        for chunk in plan.pending:
            yield chunk.span, chunk.samples

    def _shown(self, frame: VideoFrame, pts: int, after: _Shown | None) -> _Shown:
        gap = pts - after.pts if after is not None else None
        return _Shown(frame, pts, pts + displayed_for(frame.duration, gap, self.video.nominal_frame_duration))

    def _sample(self, shown: _Shown, until: int | None) -> None:
        """Give the frame `shown` to every wanted time before the tick `until`, or to all that are left."""
        sample = None
        for chunk in self.plan.pending:
            due = chunk.due(until)
            if due > 0 and sample is None:
                sample = _Sample(self.plan.seconds(shown.pts), self._resize(shown.frame).copy(), self._take_cut())
                chunk.samples.append(sample)
                sample, due = replace(sample, cut=None), due - 1
            chunk.samples += [sample] * due

    def _take_cut(self) -> Cut | None:
        """The sharpest step from the frame sampled last; what came before this walk's first sample is not known."""
        step = self._steps.take()
        is_first, self._has_sampled = not self._has_sampled, True
        if step is None or is_first:
            return None
        return _cut(self.plan, step)

    def _all_frames(self) -> Iterator[tuple[VideoFrame, int]]:
        """Every frame that is ever on display: one without a time, or not later than the one before, never is."""
        last: int | None = None
        for frame in self._decode_everything():
            if frame.pts is None or (last is not None and frame.pts <= last):
                continue
            if last is None:
                self.plan.begin(frame.pts)
            last = frame.pts
            yield frame, frame.pts

    def _decode_everything(self) -> Iterator[VideoFrame]:
        while (packet := self._packets.take()) is not None:
            yield from self.video.decode(packet)
        yield from self.video.drain()

    def _planned_frames(self) -> Iterator[tuple[VideoFrame, int]]:
        """The wanted frames, and those that come along."""
        self.plan.begin(self.plan.foreseen_origin())
        for frame in self._decode_planned():
            if frame.pts is None or frame.is_corrupt or frame.interlaced_frame:  # a field may be a packet of its own
                raise PlanInvalid("a frame that may be incomplete")
            yield frame, frame.pts

    def _decode_planned(self) -> Iterator[VideoFrame]:
        entry: int | None = None  # pts of the frame that must come first, once decoding has started afresh
        while (packet := self._packets.take()) is not None:
            for frame in self.video.decode(packet, wanted=self.plan.wants(packet) or packet.entry_point):
                if entry is not None and not (frame.pts == entry and frame.key_frame):
                    raise PlanInvalid("decoding cannot start at this packet")
                entry = None
                yield frame
            if (unneeded := self.plan.droppable()) > 0:
                yield from self.video.drain()
                self.video.start_afresh()
                for _ in range(unneeded):
                    self._packets.take()
                entry = self._packets.upcoming[0].pts
            if self.video.decode_failures:
                raise PlanInvalid("a packet was refused")
        yield from self.video.drain()


def _cut(plan: SamplingPlan, step: Step) -> Cut:
    return Cut(plan.seconds(step.before), plan.seconds(step.at), step.exact, step.confidence)


def _too_long(limits: SamplingLimits) -> InvalidInput:
    return refused(ErrorReason.VIDEO_OVER_LIMIT, f"The video is longer than {limits.max_duration_seconds:g} seconds.")
