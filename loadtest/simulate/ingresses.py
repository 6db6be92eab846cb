"""The ingresses: slots and queues for videos, download, sampling, and the order of a video's chunks."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.simulate.clock import Clock
from loadtest.simulate.fleet import Fleet, Replica
from loadtest.simulate.service_times import Draw
from loadtest.simulate.station import Station

# In addition to those in the ingress's queue: one that is being delivered, and one that waits to enter the queue.
_OUTSIDE_QUEUE = 2


@dataclass(frozen=True, slots=True)
class IngressLimits:
    """Settings of the ingress, with its defaults."""

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


class _Ingress:
    """The videos at one ingress."""

    __slots__ = ("queue", "running")

    def __init__(self) -> None:
        self.running: set[Video] = set()
        self.queue: deque[Video] = deque()


class Ingresses:
    """Requests go to the ingresses in turn, as with round_robin over a headless Service."""

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
        self._window = limits.chunks_ahead + _OUTSIDE_QUEUE
        self._ingresses: dict[Replica, _Ingress] = {}
        self._open: list[Replica] = []
        self._turn = 0
        self._encoders: Station[Chunk]
        self._decoders: Station[Video]
        # Admitted videos without a chunk, of all ingresses.
        self.without_chunk = 0
        # Videos at ingresses that are not draining.
        self.present = 0
        self.waiting = 0
        self.interrupted = 0

    def connect(self, encoders: Station[Chunk], decoders: Station[Video]) -> None:
        self._encoders, self._decoders = encoders, decoders

    @property
    def queue(self) -> int:
        """The gauge of the ingress: waiting and running requests; a draining ingress reports 0."""
        return self.present

    @property
    def encoder_queue(self) -> int:
        """The gauge of the encoder, which includes admitted videos without a chunk."""
        return self._encoders.queue + self.without_chunk

    def request(self, video: Video) -> None:
        if not self._open:
            self._on_refused(video)
            return
        self._turn = (self._turn + 1) % len(self._open)
        replica = self._open[self._turn]
        ingress = self._ingresses[replica]
        if len(ingress.running) < self._limits.max_videos:
            self.present += 1
            self._admit(video, replica, ingress)
        elif len(ingress.queue) < self._limits.max_waiting:
            self.present += 1
            self.waiting += 1
            ingress.queue.append(video)
        else:
            self._on_refused(video)

    def add(self, replica: Replica) -> None:
        self._ingresses[replica] = _Ingress()
        self._open.append(replica)

    def drain(self, replica: Replica) -> None:
        ingress = self._ingresses.get(replica)
        if ingress is None:  # not discovered yet
            self._fleet.left(replica)
            return
        self._open.remove(replica)
        self.present -= len(ingress.running) + len(ingress.queue)
        self._leave_if_empty(replica, ingress)

    def kill(self, replica: Replica) -> None:
        """Its videos continue at other ingresses, from their resume tokens, at the tail of the queue."""
        ingress = self._ingresses.pop(replica)
        self.waiting -= len(ingress.queue)
        for video in (*ingress.running, *ingress.queue):
            self.interrupted += 1
            video.cut_off = True
            if video in ingress.running and not video.sampled:
                self.without_chunk -= 1
            # A video whose answer is outstanding repeats its last chunk.
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

    def _admit(self, video: Video, replica: Replica, ingress: _Ingress) -> None:
        ingress.running.add(video)
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
        ingress = self._ingresses[replica]
        ingress.running.remove(video)
        if not replica.draining:
            self.present -= 1
        if ingress.queue:
            self.waiting -= 1
            self._admit(ingress.queue.popleft(), replica, ingress)
        elif replica.draining:
            self._leave_if_empty(replica, ingress)
        self._on_done(video)

    def _leave_if_empty(self, replica: Replica, ingress: _Ingress) -> None:
        if not ingress.running and not ingress.queue:
            del self._ingresses[replica]
            self._fleet.left(replica)
