"""Wraps a video's media so that waiting for its bytes counts as download time of the chunk that is being sampled."""

from services.ingress.answer import Part, Trace
from services.ingress.sampling import Media


class TimedMedia:
    def __init__(self, media: Media) -> None:
        self.trace: Trace | None = None
        """Of the chunk that is being sampled."""
        self._media = media

    @property
    def fd(self) -> int:
        return self._media.fd

    @property
    def size(self) -> int:
        return self._media.size

    @property
    def complete(self) -> bool:
        return self._media.complete

    @property
    def bytes_fetched(self) -> int:
        return self._media.bytes_fetched

    async def fetch(self, start: int, end: int) -> int:
        if self.trace is None:
            return await self._media.fetch(start, end)
        trace, part = self.trace, self.trace.part
        trace.enter(Part.DOWNLOAD_COMPUTE)
        try:
            return await self._media.fetch(start, end)
        finally:
            trace.enter(part)
