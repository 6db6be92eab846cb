"""How much work waits for each of the three services or is in progress there; they are scaled by it."""

from collections.abc import Generator
from contextlib import contextmanager


class Demand:
    """Three counts, exact at all times: each is a context that ends however its work ends.

    Changed on the event loop alone; read from any thread.

    `ingress`: requests that wait for a slot or hold one; 0 while draining, since no other replica can take them over.
    `encoder`: chunks that wait for an encoder or are at one, EncodeTexts calls, and videos in progress that have no
    chunk yet, so that an encoder is there when the first one is.
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
        """From now on requests in progress no longer count as demand for ingresses; chunks and calls still count."""
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
        """A video that holds a slot."""
        video = VideoDemand(self)
        try:
            yield video
        finally:
            video.end()

    @contextmanager
    def texts(self) -> Generator[None]:
        """A call that encodes texts."""
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
    """Demand of one video for encoders: one for the video itself until its first chunk, then one for each chunk."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self._has_chunk = True
        self.begin()

    def begin(self) -> None:
        """Before the first chunk, also after a restart: the video itself counts until there is one."""
        if self._has_chunk:
            self._has_chunk = False
            self._demand.encoder += 1

    def end(self) -> None:
        if not self._has_chunk:
            self._has_chunk = True
            self._demand.encoder -= 1

    @contextmanager
    def chunk(self) -> Generator[None]:
        """From when a chunk is sampled until it is encoded. The first one replaces the count of the video."""
        if self._has_chunk:
            self._demand.encoder += 1
        self._has_chunk = True
        try:
            yield
        finally:
            self._demand.encoder -= 1
