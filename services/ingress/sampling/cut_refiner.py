"""Locates a cut among frames that sampling left out, by decoding the few around it."""

from collections.abc import Callable
from itertools import islice, pairwise
from types import TracebackType
from typing import Self

import av

from services.ingress.sampling.frame_difference import FrameChange, FrameDifference, Thumbnail, difference, is_mixture
from services.ingress.sampling.media_reader import MediaFile
from services.ingress.sampling.timeline import Packet
from services.ingress.sampling.video_file import VideoFile
from videoanalysis.errors import InvalidInput

# Containers without an index, such as transport streams, are entered somewhere near; a second try begins earlier.
_HEAD_STARTS_SECONDS = (0, 3)
_MAX_PACKETS_READ = 2000


class CutRefiner:
    """Reads the file independently of the sampler."""

    def __init__(
        self, media: str | MediaFile, *, max_pixels: int, on_packet: Callable[[], None] = lambda: None
    ) -> None:
        self._media = media
        self._max_pixels = max_pixels
        self._on_packet = on_packet
        self._video: VideoFile | None = None
        self._decoded_before = 0  # by the files that are closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._video is not None:
            self._decoded_before += self._video.frames_decoded
            self._video.close()
            self._video = None

    @property
    def frames_decoded(self) -> int:
        return self._decoded_before + (self._video.frames_decoded if self._video is not None else 0)

    def refine(self, change: FrameChange, max_frames: int) -> FrameChange:
        """The largest change between neighbouring frames within `change`.

        `change` itself if that takes over `max_frames`, or if decoding cannot start near it, or does not bring out the
        frames at its ends.
        """
        try:
            if self._video is None:
                self._video = VideoFile(
                    self._media, max_pixels=self._max_pixels, max_packets=1 << 62, on_packet=self._on_packet
                )
            return self._refine(self._video, change, max_frames)
        except (av.FFmpegError, InvalidInput):
            self.close()
            return change

    def _refine(self, video: VideoFile, change: FrameChange, max_frames: int) -> FrameChange:
        packets = self._around(video, change, max_frames)
        if not packets:
            return change
        resize = FrameDifference()
        seen: list[int] = []
        thumbnails: list[Thumbnail] = []
        for packet in [*packets, None]:
            wanted = packet is not None and packet.pts is not None and change.before <= packet.pts <= change.at
            frames = video.drain() if packet is None else video.decode(packet, wanted=wanted or packet is packets[0])
            for frame in frames:
                if frame.pts is not None and change.before <= frame.pts <= change.at:
                    thumbnails.append(resize.thumbnail(frame))
                    seen.append(frame.pts)
        if len(seen) < 2 or seen[0] != change.before or seen[-1] != change.at:
            return change
        return _largest_change(seen, thumbnails) or change

    def _around(self, video: VideoFile, change: FrameChange, max_frames: int) -> list[Packet]:
        """What must be decoded to see every frame of `change`; nothing if that cannot be told, or is too much."""
        for head_start in _HEAD_STARTS_SECONDS:
            video.seek(change.before - round(head_start / video.time_base))
            packets: list[Packet] = []
            for packet in islice(video.packets(), _MAX_PACKETS_READ):
                if packet.dts is None or packet.dts > change.at:
                    break
                if packet.entry_point and packet.pts is not None and packet.pts <= change.before:
                    packets = [packet]
                elif packets:
                    packets.append(packet)
            if packets:
                return packets if len(packets) <= max_frames else []
        return []


def _largest_change(times: list[int], thumbnails: list[Thumbnail]) -> FrameChange | None:
    """None if all are the same. The two changes to a mixture of two frames and from it count as one."""
    changes = [difference(one, other) for one, other in pairwise(thumbnails)]
    place = max(range(len(changes)), key=changes.__getitem__)
    if changes[place] == 0:
        return None
    same = {place}
    for first in (place - 1, place):
        if 0 <= first < len(changes) - 1 and is_mixture(*thumbnails[first : first + 3]):
            same |= {first, first + 1}
    second = max((change for number, change in enumerate(changes) if number not in same), default=0.0)
    return FrameChange(times[place], times[place + 1], True, changes[place], 1 - second / changes[place])
