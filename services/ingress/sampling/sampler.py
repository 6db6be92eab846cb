"""Frames of a video at evenly spaced times, chunk by chunk.

For each wanted time it is the frame on display then, exactly as a full decode would show it. Most pictures that no
wanted frame needs are never decoded: the times of the packets tell beforehand which frames will be wanted. That is a
promise of the container only, so every frame that arrives is checked against it before a chunk is handed out. At the
first contradiction the video is read again from its start, decoding everything, for the chunks not yet handed out.
"""

from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction
from math import floor
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from services.ingress.sampling.cut_detector import is_clear
from services.ingress.sampling.cut_refiner import CutRefiner
from services.ingress.sampling.decode_pass import DecodePass, Sample, SampledSpan, largest_change
from services.ingress.sampling.frame_difference import FrameChange
from services.ingress.sampling.group_decoders import GroupDecoders
from services.ingress.sampling.limits import SamplingLimits
from services.ingress.sampling.look_ahead import LookAhead
from services.ingress.sampling.media_reader import MediaFile
from services.ingress.sampling.memory import PictureFormat, decoders
from services.ingress.sampling.pixels import UprightResizer
from services.ingress.sampling.plan import PlanInvalid, SamplingPlan, TimesInDecodingOrder
from services.ingress.sampling.sampled_chunk import Cut, LargestChange, SampledChunk, Transition
from services.ingress.sampling.shot_detector import ShotDetector
from services.ingress.sampling.timeline import MAX_FRAMES_AHEAD
from services.ingress.sampling.transition_detector import FoundTransition
from services.ingress.sampling.video_file import VideoFile

MAX_SEARCH_SHARE = Fraction(8, 100)
_MIN_FRAMES_REFINED = 32  # in a chunk, however short


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
            raise limits.too_long()

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
        return largest_change(plan, self._search.refine(change, allowed))

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


def _transition(plan: SamplingPlan, found: FoundTransition) -> Transition:
    return Transition(plan.seconds(found.start), plan.seconds(found.end), found.kind)
