"""The way of a video through an ingress: a place, its bytes, chunk after chunk to the encoders and decoders."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.simulate.clock import Clock
from loadtest.simulate.fleet import Fleet, Replica
from loadtest.simulate.service_times import Draw
from loadtest.simulate.station import Station

# Beside those in the ingress's queue: one that is being delivered, and one that waits to be put there.
_BESIDE_QUEUE = 2


@dataclass(frozen=True, slots=True)
class IngressLimits:
    """The settings of the ingress that matter here, with its defaults."""

    max_videos: int = 4
    max_waiting: int = 256
    chunks_ahead: int = 4


class Video:
    """`arrived` and `admitted` are times in seconds."""

    __slots__ = (
        "admitted", "arrived", "chunks", "cut_off", "decoding", "delivered", "encoded", "ingress", "sampled",
        "sampling",
    )  # fmt: skip

    def __init__(self, arrived: float, chunks: int) -> None:
        self.arrived = arrived
        self.admitted = 0.0
        self.chunks = chunks
        self.ingress: Replica
        self.sampled = 0
        self.delivered = 0
        self.encoded: set[int] = set()
        self.sampling = self.decoding = self.cut_off = False


Chunk = tuple[Video, int]


class _Desk:
    """What one ingress has."""

    __slots__ = ("line", "running")

    def __init__(self) -> None:
        self.running: set[Video] = set()
        self.line: deque[Video] = deque()


class Ingresses:
    """Requests go to the ingresses in turn, as a client with round_robin over a headless service sends them."""

    def __init__(
        self,
        clock: Clock,
        fleet: Fleet,
        limits: IngressLimits,
        *,
        download: Draw,
        sample: Draw,
        answer: Draw,
        on_done: Callable[[Video], None],
        on_refused: Callable[[Video], None],
    ) -> None:
        self._clock = clock
        self._fleet = fleet
        self._limits = limits
        self._download = download
        self._sample = sample
        self._answer = answer
        self._on_done = on_done
        self._on_refused = on_refused
        self._window = limits.chunks_ahead + _BESIDE_QUEUE
        self._desks: dict[Replica, _Desk] = {}
        self._open: list[Replica] = []
        self._turn = 0
        self._encoders: Station[Chunk]
        self._decoders: Station[Video]
        # Of all ingresses, and of those alone that are not draining.
        self.without_chunk = 0
        self.present = 0
        self.waiting = 0
        self.interrupted = 0

    def connect(self, encoders: Station[Chunk], decoders: Station[Video]) -> None:
        self._encoders, self._decoders = encoders, decoders

    @property
    def queue(self) -> int:
        """The gauge of the ingress: requests that wait or run, where it is not draining."""
        return self.present

    @property
    def encoder_queue(self) -> int:
        """The gauge of the encoders, of which an admitted video that has no chunk yet is a part."""
        return self._encoders.queue + self.without_chunk

    def request(self, video: Video) -> None:
        if not self._open:
            self._on_refused(video)
            return
        self._turn = (self._turn + 1) % len(self._open)
        replica = self._open[self._turn]
        desk = self._desks[replica]
        if len(desk.running) < self._limits.max_videos:
            self.present += 1
            self._admit(video, replica, desk)
        elif len(desk.line) < self._limits.max_waiting:
            self.present += 1
            self.waiting += 1
            desk.line.append(video)
        else:
            self._on_refused(video)

    def add(self, replica: Replica) -> None:
        self._desks[replica] = _Desk()
        self._open.append(replica)

    def drain(self, replica: Replica) -> None:
        desk = self._desks.get(replica)
        if desk is None:  # nobody knew of it yet
            self._fleet.left(replica)
            return
        self._open.remove(replica)
        self.present -= len(desk.running) + len(desk.line)
        self._leave_if_empty(replica, desk)

    def kill(self, replica: Replica) -> None:
        """Its callers go on elsewhere: with what is left of a video, by its resume token, or from the line's end."""
        desk = self._desks.pop(replica)
        self.waiting -= len(desk.line)
        for video in (*desk.running, *desk.line):
            self.interrupted += 1
            video.cut_off = True
            if video in desk.running and not video.sampled:
                self.without_chunk -= 1
            # One that has all its chunks lacks its answer, which comes with the last of them.
            self.request(Video(video.arrived, max(1, video.chunks - video.delivered)))

    def encoded(self, chunk: Chunk) -> None:
        video, index = chunk
        if video.cut_off:
            return
        video.encoded.add(index)
        if index == video.delivered and not video.decoding:
            self._decode(video)

    def decoded(self, video: Video) -> None:
        if video.cut_off:
            return
        video.decoding = False
        video.encoded.discard(video.delivered)
        video.delivered += 1
        if video.delivered == video.chunks:
            self._clock.after(self._answer(), self._answered, video)
            return
        if video.delivered in video.encoded:
            self._decode(video)
        if not video.sampling:
            self._sample_next(video)

    def _admit(self, video: Video, replica: Replica, desk: _Desk) -> None:
        desk.running.add(video)
        video.ingress = replica
        video.admitted = self._clock.now
        self.without_chunk += 1
        video.sampling = True
        self._clock.after(self._download() + self._sample(), self._sampled, video)

    def _sample_next(self, video: Video) -> None:
        if video.sampled < video.chunks and video.sampled - video.delivered < self._window:
            video.sampling = True
            self._clock.after(self._sample(), self._sampled, video)

    def _sampled(self, video: Video) -> None:
        if video.cut_off:
            return
        if not video.sampled:
            self.without_chunk -= 1
        index = video.sampled
        video.sampled = index + 1
        video.sampling = False
        self._encoders.submit((video, index))
        self._sample_next(video)

    def _decode(self, video: Video) -> None:
        video.decoding = True
        self._decoders.submit(video)

    def _answered(self, video: Video) -> None:
        if video.cut_off:
            return
        replica = video.ingress
        desk = self._desks[replica]
        desk.running.remove(video)
        if not replica.draining:
            self.present -= 1
        if desk.line:
            self.waiting -= 1
            self._admit(desk.line.popleft(), replica, desk)
        elif replica.draining:
            self._leave_if_empty(replica, desk)
        self._on_done(video)

    def _leave_if_empty(self, replica: Replica, desk: _Desk) -> None:
        if not desk.running and not desk.line:
            del self._desks[replica]
            self._fleet.left(replica)
