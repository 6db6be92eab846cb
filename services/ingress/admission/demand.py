"""How much work there is for each of the three services: what they are scaled by."""

from collections.abc import Generator
from contextlib import contextmanager


class Demand:
    """Three numbers, exact at all times, whose holders let go of them however they end.

    Changed on the event loop alone; read from any thread.

    `ingress`: requests that wait for their turn or have it; 0 once we drain, since no replica could take them over.
    `encoder`: chunks that wait for an encoder or are at one, videos in progress whose first chunk is still to come, so
    that there is an encoder when it does, and EncodeTexts calls.
    `decoder`: calls that wait for a decoder or are at one.
    """

    def __init__(self) -> None:
        self.encoder = 0
        self.decoder = 0
        self._requests = 0
        self._is_draining = False

    @property
    def ingress(self) -> int:
        return 0 if self._is_draining else self._requests

    def drain(self) -> None:
        """From now on, what is in progress here is no reason for another ingress; for encoders and decoders it is."""
        self._is_draining = True

    @contextmanager
    def request(self) -> Generator[None]:
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    @contextmanager
    def video(self) -> Generator["VideoDemand"]:
        """A video that has got its turn."""
        video = VideoDemand(self)
        try:
            yield video
        finally:
            video.end()

    @contextmanager
    def texts(self) -> Generator[None]:
        """Texts that are to be encoded."""
        self.encoder += 1
        try:
            yield
        finally:
            self.encoder -= 1

    @contextmanager
    def decoder_call(self) -> Generator[None]:
        self.decoder += 1
        try:
            yield
        finally:
            self.decoder -= 1


class VideoDemand:
    """What one video asks of the encoders: first for itself, then for each of its chunks."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self._has_chunk = True
        self.begin()

    def begin(self) -> None:
        """The first chunk is still to come, or to come again: the video counts until it does."""
        if self._has_chunk:
            self._has_chunk = False
            self._demand.encoder += 1

    def end(self) -> None:
        if not self._has_chunk:
            self._has_chunk = True
            self._demand.encoder -= 1

    @contextmanager
    def chunk(self) -> Generator[None]:
        """From when it is sampled until it is encoded. The first one takes over what the video counted."""
        if self._has_chunk:
            self._demand.encoder += 1
        self._has_chunk = True
        try:
            yield
        finally:
            self._demand.encoder -= 1
