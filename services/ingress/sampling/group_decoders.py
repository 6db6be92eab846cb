"""Several groups of pictures decoded at once, each by one decoder on a thread of its own.

A group starts where decoding can start afresh, so its pictures are the same whichever decoder shows them. What is kept
of a decoded picture is small, so that those of later groups can wait until the earlier ones have come out.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread

from av.video.frame import VideoFrame

from services.ingress.sampling.frame_difference import FrameDifference, Thumbnail
from services.ingress.sampling.memory import FRAMES_AHEAD_BYTES
from services.ingress.sampling.pixels import Pixels, UprightResizer
from services.ingress.sampling.plan import PlanInvalid
from services.ingress.sampling.timeline import Packet
from services.ingress.sampling.video_file import VideoFile

# In flight: packets that are to be decoded, or whose frames have not come out.
_MOST_PACKETS = 900
_MOST_BYTES = 32 << 20
_LEAST_PACKETS_OF_A_GROUP = 12  # shorter groups are joined


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """What sampling needs of a decoded frame; its `pixels`, at the size of the samples, only if they were asked for."""

    pts: int | None
    dts: int | None
    duration: int
    key_frame: bool
    is_corrupt: bool
    interlaced_frame: bool
    thumbnail: Thumbnail
    pixels: Pixels | None


@dataclass(frozen=True, slots=True)
class _Job:
    packet: Packet
    wanted: bool
    sampled: bool  # its pixels are asked for


@dataclass(frozen=True, slots=True)
class _Result:
    frames: list[DecodedPicture]
    failures: int  # to decode


class _Group:
    """`jobs` ends with None; a result comes for each of its items. Its first picture must have the pts `entry`."""

    def __init__(self, entry: int | None) -> None:
        self.entry = entry
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self.results: SimpleQueue[_Result | Exception] = SimpleQueue()
        self.sent: deque[_Job | None] = deque()  # without a result so far
        self.packets = 0


class GroupDecoders:
    """Packets go in in decoding order, and the pictures come out in order of presentation.

    `decoders` are of this alone, and closed with it. `on_result` is called for every packet that has been decoded.
    """

    def __init__(self, decoders: Sequence[VideoFile], *, image_size: int, on_result: Callable[[], None]) -> None:
        self.decode_failures = self.frames_decoded = 0  # of what has come out
        self._decoders = decoders
        self._image_size = image_size
        self._on_result = on_result
        self._most_sampled = max(1, FRAMES_AHEAD_BYTES // (3 * image_size**2))
        self._groups: SimpleQueue[_Group | None] = SimpleQueue()
        self._in_flight: deque[_Group] = deque()  # in order; only the last one may go on
        self._packets = self._bytes = self._sampled = 0  # in flight
        self._has_begun = False
        self._is_open = False  # whether the last group goes on
        self._stopped = False
        self._threads = [Thread(target=self._work, args=(decoder,), daemon=True) for decoder in decoders]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stopped = True
        for group in self._in_flight:
            group.jobs.put(None)
        for _ in self._threads:
            self._groups.put(None)
        for thread in self._threads:
            thread.join()
        for decoder in self._decoders:
            decoder.close()

    @property
    def has_room(self) -> bool:
        """Whether another packet may go in before more comes out."""
        return (
            self._packets < _MOST_PACKETS
            and self._bytes < _MOST_BYTES
            and self._sampled < self._most_sampled
            and (self._is_open or len(self._in_flight) <= len(self._decoders))
        )

    @property
    def has_results(self) -> bool:
        """Whether pictures come without another packet."""
        return bool(self._in_flight and self._in_flight[0].sent)

    @property
    def is_long(self) -> bool:
        """Whether the group that goes on is long enough to be ended."""
        return self._is_open and self._in_flight[-1].packets >= _LEAST_PACKETS_OF_A_GROUP

    @property
    def is_empty(self) -> bool:
        return not self._in_flight

    def decode(self, packet: Packet, *, wanted: bool, sampled: bool) -> None:
        """The next packet of its group, or the first of the next group.

        If it is not `wanted` and no other picture refers to it, it is left out. Its picture has pixels if `sampled`.
        """
        if not self._is_open:
            self._is_open = True
            # The video may begin with pictures that cannot be decoded.
            self._in_flight.append(_Group(packet.pts if self._has_begun else None))
            self._has_begun = True
            self._groups.put(self._in_flight[-1])
        self._in_flight[-1].packets += 1
        self._send(_Job(packet, wanted, sampled))
        self._count(packet.size, sampled, 1)

    def end_group(self) -> None:
        if self._is_open:
            self._send(None)
            self._is_open = False

    def next_pictures(self) -> list[DecodedPicture]:
        """Those that the next packet brings out.

        Raises what its decoder did, and PlanInvalid if decoding cannot start where the group begins.
        """
        group = self._in_flight[0]
        result = group.results.get()
        self._on_result()
        if isinstance(result, Exception):
            raise result
        self.decode_failures += result.failures
        self.frames_decoded += len(result.frames)
        if (job := group.sent.popleft()) is None:
            self._in_flight.popleft()
        else:
            self._count(-job.packet.size, job.sampled, -1)
        if result.frames and group.entry is not None:
            first, entry = result.frames[0], group.entry
            if not (first.pts == entry and first.key_frame):
                raise PlanInvalid("decoding cannot start at this packet")
            group.entry = None
        return result.frames

    def _send(self, job: _Job | None) -> None:
        group = self._in_flight[-1]
        group.sent.append(job)
        group.jobs.put(job)

    def _count(self, size: int, sampled: bool, by: int) -> None:
        self._packets += by
        self._bytes += size
        self._sampled += by * sampled

    # ---- on the threads

    def _work(self, decoder: VideoFile) -> None:
        describe = _Describer(self._image_size)
        while (group := self._groups.get()) is not None:
            try:
                self._decode_group(group, decoder, describe)
            except Exception as error:  # for the thread that reads
                group.results.put(error)

    def _decode_group(self, group: _Group, decoder: VideoFile, describe: "_Describer") -> None:
        sampled: set[int | None] = set()
        while not self._stopped:
            job = group.jobs.get()
            failures = decoder.decode_failures
            if job is None:
                frames = decoder.drain()
            else:
                if job.sampled:
                    sampled.add(job.packet.pts)
                frames = decoder.decode(job.packet, wanted=job.wanted)
            pictures = [describe(frame, sampled=frame.pts in sampled) for frame in frames]
            group.results.put(_Result(pictures, decoder.decode_failures - failures))
            if job is None:
                break
        decoder.start_afresh()


class _Describer:
    def __init__(self, image_size: int) -> None:
        self._thumbnail: Callable[[VideoFrame], Thumbnail] = FrameDifference().thumbnail
        self._resize = UprightResizer(image_size)

    def __call__(self, frame: VideoFrame, *, sampled: bool) -> DecodedPicture:
        return DecodedPicture(
            frame.pts,
            frame.dts,
            frame.duration,
            frame.key_frame,
            frame.is_corrupt,
            frame.interlaced_frame,
            self._thumbnail(frame),
            self._resize(frame).copy() if sampled else None,
        )
