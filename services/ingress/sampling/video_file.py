"""Untrusted video files: opened without touching anything else, decoded within limits."""

import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from math import ceil
from types import TracebackType
from typing import Self, cast

import av
from av.container import InputContainer
from av.packet import Packet as MediaPacket
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.ingress.sampling import coded_pictures
from services.ingress.sampling.media_reader import MediaFile
from services.ingress.sampling.memory import PictureFormat
from services.ingress.sampling.timeline import JUMP_SECONDS, Clock, Packet
from videoanalysis.errors import InvalidInput
from videoanalysis.v1.error_reason_pb2 import ErrorReason

# Self-contained formats only. Playlists, scripts and image sequences, which name other files, must never be here.
FORMATS = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "mpegts", "mpeg", "avi", "flv", "asf", "ogg"),
    *("mxf", "ivf", "obu", "h264", "hevc", "mpegvideo"),  # the last four: streams without a container
    *("gif", "mp3"),  # mp3: so that a sound file is told what it lacks
)
MAX_FAILURES_IN_A_ROW = 8
MAX_FAILURE_SHARE = Fraction(5, 100)
FAILURE_SHARE_COUNTS_FROM = 100  # packets

_READ_BYTES = 128 << 10
_HEADER_BYTES = 4 << 10  # of a packet: parameter sets and messages, up to the header of the picture

# Where skip_frame NONREF leaves out exactly the pictures that no other one refers to.
_CODECS_WITH_SKIPPABLE_FRAMES = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})
# Their decoders report no error for some damage, and what they show of it differs between one thread and several.
_CODECS_WITH_ONE_THREAD = frozenset({"vp8"})
_TIMES_MAY_JUMP = 0x0200  # AVFMT_TS_DISCONT
_CLOCK_TIME = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)$")
_THEORA_HEADER, _THEORA_COMMENTS = b"\x80", b"\x81"
_MIN_BITS_PER_SECOND = 1000  # of a claim that is plausible
_NEAR_ZERO_SECONDS = 1.0  # where a clock that was not set may start
_MAX_PACKET_BYTES = 64 << 20
# Back to the last entry point before a time, in steps that double, up to ten hours.
_SEEK_STEP_SECONDS = 2
_MAX_SEEKS = 16
_PACKETS_COMPARED = 16  # at the entry point of a file without an index
_MAX_PACKETS_BEFORE_ENTRY = 1000  # in one page of Ogg
_EBML_HEADER = b"\x1a\x45\xdf\xa3"
_NOT_MOVING = Disposition.attached_pic | Disposition.timed_thumbnails


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """Where decoding can start in a file without an index."""

    pts: int
    position: int  # bytes
    packets: list[
        tuple[int, int, int, int]
    ]  # pts, dts, duration and size: of the first ones before the next such point


def refused(reason: ErrorReason, message: str) -> InvalidInput:
    return InvalidInput(message, reason=reason, field="video_uri")


def not_a_video() -> InvalidInput:
    return refused(ErrorReason.NOT_A_VIDEO, "The object is not a video that can be decoded.")


def _not_a_format() -> InvalidInput:
    message = (
        "The object is not a video of a format that is read: MP4, MOV, Matroska, WebM, MPEG-TS, MPEG-PS, AVI, FLV, "
        "ASF, Ogg, MXF, IVF, GIF, or a stream of H.264, HEVC, AV1 or MPEG-2 alone."
    )
    return refused(ErrorReason.NOT_A_VIDEO, message)


def _damaged() -> InvalidInput:
    return refused(ErrorReason.TOO_MANY_DECODE_FAILURES, "The video is damaged: too much of it cannot be decoded.")


class VideoFile:
    """The best video stream of a file, as FFmpeg ranks them; cover pictures do not count.

    More than one of `threads` decode several pictures at once, for 10 to 15 % more CPU time in all.

    Packets come out of `packets`, their times on one timeline, go into `decode`, and the frames come back in
    presentation order. A lack of memory is a MemoryError everywhere, never a damaged packet or an early end.
    """

    def __init__(
        self,
        media: str | MediaFile,
        *,
        max_pixels: int,
        max_packets: int,
        threads: int = 1,
        on_packet: Callable[[], None] = lambda: None,
    ) -> None:
        self.decode_failures = 0
        self.frames_decoded = 0
        self._packets_given = 0
        self._failures_in_a_row = 0
        self._max_pixels = max_pixels
        self._max_packets = max_packets
        self._on_packet = on_packet
        self.threads = threads
        self.entry_points: list[EntryPoint] | None = None
        """As `find_entry_points` returns them, by pts; None where the demuxer is relied on to find them."""
        self._options = {
            "format_whitelist": ",".join(FORMATS),
            "protocol_whitelist": "file",
            "fflags": "-genpts",  # which PyAV sets: times made up in decoding order
            "max_pixels": str(max_pixels),  # for the decoders that look into the file while it is opened
        }
        self._open = ExitStack()
        self._part: InputContainer | None = None  # of several joined files, if not the first
        if isinstance(media, str):
            fd = os.open(media, os.O_RDONLY | os.O_CLOEXEC)
            self._open.callback(os.close, fd)
            media = MediaFile(fd, os.fstat(fd).st_size, None)
        self._media = media
        try:
            self._container = self._open.enter_context(self._opened_container())
            self._stream = self._best_stream()
            self._context = self._stream.codec_context
            self._open_decoder()
        except MemoryError:
            self.close()
            raise
        except av.FFmpegError as error:
            self.close()
            raise not_a_video() from error
        except BaseException:
            self.close()
            raise

        _discard_all_but(self._stream, self._container)
        assert self._stream.time_base is not None
        self.time_base = self._stream.time_base
        rate = self._stream.average_rate
        self.nominal_frame_duration = max(1, round(1 / (rate * self.time_base))) if rate else 1
        """Ticks, by the container's average rate."""
        self.clock = self._new_clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._part is not None:
            self._part.close()
        self._open.close()

    def _opened_container(self) -> InputContainer:
        try:
            return self._open_container(0)
        except MemoryError:
            raise
        except av.FFmpegError as error:
            raise _not_a_format() from error

    def _open_container(self, start: int) -> InputContainer:
        """Of the bytes from `start` on."""
        return av.open(
            self._media.open(start),
            mode="r",
            options=self._options,
            metadata_errors="replace",
            buffer_size=_READ_BYTES,
        )

    @property
    def claimed_duration_seconds(self) -> float | None:
        """What the container says of the stream, right or wrong; None if it says nothing that is plausible."""
        end = self._claimed_end_seconds()
        if end is not None and 8 * self._container.size < _MIN_BITS_PER_SECOND * end:
            return None
        start = float((self._stream.start_time or 0) * self.time_base)
        # Formats that estimate their duration give its length, others the time of its end.
        return end - start if end is not None and not self._is_spliced() and _NEAR_ZERO_SECONDS < start < end else end

    def _claimed_end_seconds(self) -> float | None:
        if self._stream.duration is not None:
            return float(self._stream.duration * self.time_base)
        if (match := _CLOCK_TIME.match(self._stream.metadata.get("DURATION", ""))) is not None:  # Matroska
            hours, minutes, seconds = map(float, match.groups())
            return 3600 * hours + 60 * minutes + seconds
        return self._container.duration / av.time_base if self._container.duration is not None else None

    def _is_spliced(self) -> bool:
        """Whether the format has no global timeline, so that its clock may jump."""
        return bool(self._container.format.flags & _TIMES_MAY_JUMP)

    def _is_fragmented(self) -> bool:
        """Whether the file is a movie whose pictures are all in fragments, which may be those of several joined ones.

        Its edit list is but a start.
        """
        return "mov" in self._container.format.name.split(",") and self._stream.frames == 0

    def _new_clock(self) -> Clock:
        return Clock(
            ticks_per_second=float(1 / self.time_base),
            global_clock=not self._is_spliced(),
            edits=not self._is_fragmented(),
        )

    @property
    def picture_format(self) -> PictureFormat:
        """As the container or the first packets say; a later picture may differ."""
        pixels = self._context.format
        bits = pixels.padded_bits_per_pixel if pixels is not None else 0
        return PictureFormat(self._context.codec.name, self._context.width, self._context.height, (bits or 32) / 8)

    def _best_stream(self) -> VideoStream:
        streams = [stream for stream in self._container.streams.video if not stream.disposition & _NOT_MOVING]
        if not streams:
            raise refused(ErrorReason.NO_VIDEO_STREAM, "The object has no video stream.")
        best = self._container.streams.best("video")
        return next((stream for stream in streams if best is not None and stream.index == best.index), streams[0])

    def _open_decoder(self) -> None:
        if self._context is None:  # no decoder for this codec
            raise not_a_video()
        self._check_size(self._context.width, self._context.height)
        if self._context.codec.name in _CODECS_WITH_ONE_THREAD:
            self.threads = 1
        self._context.thread_count = self.threads
        self._context.thread_type = "FRAME" if self.threads > 1 else "NONE"
        self._context.options = {"max_pixels": str(self._max_pixels)}
        self._can_skip = self._context.codec.name in _CODECS_WITH_SKIPPABLE_FRAMES
        try:
            self._context.open()  # before anything is skipped: some decoders read that setting only here
        except MemoryError:
            raise
        except av.FFmpegError as error:
            raise (self._too_large_to_look_at() or not_a_video()) from error

    def _too_large_to_look_at(self) -> InvalidInput | None:
        """The likely reason why nothing can be decoded, if not even the size of the pictures is known."""
        if self._context.width:
            return None
        message = f"No picture can be decoded: the video is damaged or has pictures of over {self._max_pixels} pixels."
        return refused(ErrorReason.VIDEO_OVER_LIMIT, message)

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise refused(
                ErrorReason.VIDEO_OVER_LIMIT,
                f"The video's pictures have {width} x {height} pixels, over {self._max_pixels}.",
            )

    # ---- packets

    def packets(self) -> Iterator[Packet]:
        """The packets of the stream in decoding order, up to the end or to where the container breaks off."""
        self.clock = self._new_clock()
        return self.clock.follow(self._demuxed())

    def _demuxed(self) -> Iterator[Packet]:
        demuxed: Iterator[MediaPacket[VideoStream]] | None = self._container.demux(self._stream)
        count = part = position = 0  # `position` is that of the last packet in the part that starts at `part`
        while demuxed is not None:
            try:
                packet = next(demuxed, None)
            except MemoryError:
                self._check_memory()
                self.decode_failures += 1  # a packet of a size that cannot be
                return
            except (av.FFmpegError, IndexError):  # PyAV: IndexError at the end if streams have appeared since the start
                return
            if packet is None:
                part, position = part + position, 0
                if (next_part := self._next_part(part)) is None:
                    return
                part = next_part
                demuxed = self._demux_part(part)
                continue
            position = max(position, packet.pos or 0)
            if packet.size == 0:  # to a decoder it would mean the end
                continue
            if packet.has_sidedata("encryption_info"):
                raise refused(ErrorReason.NOT_A_VIDEO, "The video is encrypted.")
            count += 1
            self._on_packet()
            if count > self._max_packets:
                raise refused(ErrorReason.VIDEO_OVER_LIMIT, f"The video has more than {self._max_packets} packets.")
            if self._context.codec.name == "theora" and (kind := bytes(memoryview(packet)[:1])) >= _THEORA_HEADER:
                if kind != _THEORA_COMMENTS:  # which its decoder does not take
                    yield Packet(None, None, 0, presented=False, entry_point=False, payload=packet)
                continue  # with the next part of a chained file
            yield Packet(
                pts=packet.pts,
                dts=packet.dts,
                duration=packet.duration or 0,
                presented=not packet.is_discard,
                entry_point=packet.is_keyframe and self._is_entry_point(packet),
                damaged=packet.is_corrupt,
                size=packet.size,
                payload=packet,
            )

    def _next_part(self, position: int) -> int | None:
        """Where the next of several joined Matroska files starts: libavformat reads two and takes those for the end."""
        is_matroska = "matroska" in self._container.format.name
        return self._media.find(_EBML_HEADER, position + 1) if is_matroska else None

    def _demux_part(self, start: int) -> "Iterator[MediaPacket[VideoStream]] | None":
        """The packets of a part; None, counted as a failure to decode, if its pictures are not of the same kind."""
        if self._part is not None:
            self._part.close()
            self._part = None
        stream = None
        with suppress(av.FFmpegError):
            self._part = self._open_container(start)
            same = (one for one in self._part.streams.video if one.index == self._stream.index)
            stream = next((one for one in same if _kind(one) == _kind(self._stream)), None)
        if self._part is None or stream is None:
            self.decode_failures += 1
            return None
        _discard_all_but(stream, self._part)
        return self._part.demux(stream)

    def _check_memory(self) -> None:
        """Raises MemoryError if a packet as large as any in this file would not find memory."""
        bytearray(min(max(self._container.size, 0), _MAX_PACKET_BYTES))

    def seek(self, pts: int) -> None:
        """Go to the last packet before `pts` at which decoding can start, as far as the container can tell."""
        self._container.seek(pts, stream=self._stream)
        self.start_afresh()

    @property
    def has_one_clock(self) -> bool:
        """Whether times after a jump in the file are those of the whole."""
        return not self._is_spliced() and not self._is_fragmented()

    @property
    def seeks_by_time(self) -> bool:
        """Whether the demuxer finds times in the file by itself, if its clock does not start again."""
        return not self._is_spliced()

    def find_entry_points(self, seconds: Fraction) -> list[EntryPoint] | None:
        """Reads the packets up to `seconds` after the first one, without decoding any; for a file just opened.

        None unless every packet has times that show that the clock neither jumps nor starts again: only then is a
        place in the file known to be a place on the timeline.
        """
        found: list[EntryPoint] = []
        jump = round(JUMP_SECONDS / self.time_base)
        before = end = None
        try:
            for count, packet in enumerate(self._container.demux(self._stream)):
                if packet.size == 0:
                    continue
                self._on_packet()
                pts, dts = packet.pts, packet.dts
                if count > self._max_packets or packet.is_corrupt or pts is None or dts is None or dts > pts:
                    return None
                if before is None or end is None:
                    end = pts + ceil((seconds + JUMP_SECONDS) / self.time_base)
                elif not before < dts <= before + jump:
                    return None
                elif dts > end:
                    break
                before = dts
                if packet.is_keyframe and packet.pos is not None and self._is_entry_point(packet):
                    found.append(EntryPoint(pts, packet.pos, []))
                if found and len(found[-1].packets) < _PACKETS_COMPARED:
                    found[-1].packets.append((pts, dts, packet.duration or 0, packet.size))
        except (av.FFmpegError, IndexError, MemoryError):
            return None
        return found

    def packets_from(self, pts: int) -> Iterator[Packet] | None:
        """From the last entry point at or before `pts` on, without those presented before it; None if none is found."""
        if self.clock.breaks:
            return None
        if self.entry_points is not None:
            return self._packets_from_entry_point(pts)
        target, step = pts, round(_SEEK_STEP_SECONDS / self.time_base)
        for _ in range(_MAX_SEEKS):
            try:
                self.seek(target)
            except av.FFmpegError:
                break
            packets = self.packets()
            entry = next(packets, None)
            if entry is not None and entry.entry_point and entry.pts is not None and entry.pts <= pts:
                return chain([entry], _not_before(entry.pts, packets))
            target, step = target - step, 2 * step
        return None

    def _packets_from_entry_point(self, pts: int) -> Iterator[Packet] | None:
        """None also if the packets are not the same as when all were read: where a file has few timestamps, what a
        packet's are may depend on those before it."""
        known = self.entry_points or []
        place = bisect_right(known, pts, key=lambda entry: entry.pts) - 1
        if place < 0:
            return None
        try:
            self._container.seek(known[place].position, stream=self._stream, unsupported_byte_offset=True)
        except av.FFmpegError:
            return None
        self.start_afresh()
        entry, packets = known[place], self.packets()
        for packet in islice(packets, _MAX_PACKETS_BEFORE_ENTRY):
            if packet.pts == entry.pts:
                first = [packet, *islice(packets, len(entry.packets) - 1)]
                found = [(one.pts, one.dts, one.duration, one.size) for one in first]
                return _not_before(entry.pts, chain(first, packets)) if found == entry.packets else None
        return None

    def _is_entry_point(self, packet: "MediaPacket[VideoStream]") -> bool:
        """Whether pictures after this key picture never refer to one before it; H.264 promises that only of IDR."""
        return self._context.codec.name != "h264" or coded_pictures.has_idr_slice(
            bytes(packet), self._context.extradata or b""
        )

    def is_reference(self, packet: Packet) -> bool:
        """Whether other pictures may refer to this one, so that it is decoded even if it is not wanted."""
        if not self._can_skip:
            return True
        content = bytes(memoryview(packet.payload)[:_HEADER_BYTES])
        return coded_pictures.is_reference(self._context.codec.name, content, self._context.extradata or b"")

    # ---- frames

    def decode(self, packet: Packet, *, wanted: bool = True) -> list[VideoFrame]:
        """The frames that `packet` brings out. If its own is not `wanted` and no other refers to it, it is left out."""
        self._context.skip_frame = "DEFAULT" if wanted or not self._can_skip else "NONREF"
        self._packets_given += 1
        self._on_packet()
        try:
            frames = self._context.decode(_to_decoder(packet))
        except av.FFmpegError as error:
            self._count_failure(error)
            return []
        self._failures_in_a_row = 0
        return self._checked(frames)

    def drain(self) -> list[VideoFrame]:
        """The frames that are still to come."""
        try:
            return self._checked(self._context.decode(None))
        except av.FFmpegError as error:
            self._count_failure(error)
            return []

    def start_afresh(self) -> None:
        """Forget all packets decoded so far; the next one must be an entry point."""
        self._context.flush_buffers()

    def _count_failure(self, error: av.FFmpegError) -> None:
        if isinstance(error, MemoryError):
            raise error
        self.decode_failures += 1
        self._failures_in_a_row += 1
        share = Fraction(self.decode_failures, max(self._packets_given, 1))
        if self._failures_in_a_row > MAX_FAILURES_IN_A_ROW or (
            self._packets_given >= FAILURE_SHARE_COUNTS_FROM and share > MAX_FAILURE_SHARE
        ):
            raise (self._too_large_to_look_at() or _damaged()) from error

    def _checked(self, frames: list[VideoFrame]) -> list[VideoFrame]:
        self.frames_decoded += len(frames)
        for frame in frames:
            self._check_size(frame.width, frame.height)
        return frames


def _discard_all_but(wanted: VideoStream, container: InputContainer) -> None:
    for stream in container.streams:
        if stream.index != wanted.index:
            stream.discard = Discard.all


def _kind(stream: VideoStream) -> tuple[object, ...]:
    """What packets must have in common for one decoder."""
    context = stream.codec_context
    return context.codec.name, context.width, context.height, context.extradata, stream.time_base


def _not_before(pts: int, packets: Iterable[Packet]) -> Iterator[Packet]:
    """`packets` without those that lead up to the entry point at `pts`: they may need pictures before it."""
    return (packet for packet in packets if packet.pts is None or packet.pts >= pts)


def _to_decoder(packet: Packet) -> "MediaPacket[VideoStream]":
    media: MediaPacket[VideoStream] = packet.payload
    if packet.presented and media.is_discard:  # a mark that cannot be taken off
        copy = cast("MediaPacket[VideoStream]", MediaPacket(bytes(media)))
        copy.duration, copy.is_keyframe, copy.time_base = media.duration, media.is_keyframe, media.time_base
        media = copy
    media.pts, media.dts = packet.pts, packet.dts
    return media
