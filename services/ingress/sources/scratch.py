"""Files on the scratch disk for downloads, together within a budget of bytes."""

import errno
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO

from services.ingress.admission import ByteBudget
from services.ingress.sources.media import too_large
from videoanalysis.errors import Overloaded
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_RETRY_SECONDS = 10.0  # by then a video that uses the disk may be done


class ScratchSpace:
    """Downloads of at most `max_object_bytes` each and of `budget` together, in `directory` (default: the system's)."""

    def __init__(self, budget: ByteBudget, directory: Path | None, max_object_bytes: int) -> None:
        self.max_object_bytes = max_object_bytes
        self._budget = budget
        self._directory = directory

    def check_size(self, size: int) -> None:
        if size > self.max_object_bytes:
            raise too_large(self.max_object_bytes)

    @asynccontextmanager
    async def file(self, size: int | None) -> AsyncIterator[BinaryIO]:
        """A new file for a download of `size` bytes, the largest size allowed if None; waits for the budget.

        The file has no name, so that nothing is left on disk however the process ends.
        """
        async with self._budget.reserve(self.max_object_bytes if size is None else size):
            # Closing the file writes what is still buffered, which may fail too.
            with disk_errors(), tempfile.TemporaryFile(dir=self._directory) as file:
                yield file


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raise Overloaded for a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise Overloaded(
            "the scratch disk is full", reason=ErrorReason.SCRATCH_FULL, retry_after_seconds=_RETRY_SECONDS
        ) from error
