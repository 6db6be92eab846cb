"""Shared memory for one chunk of frames, written by a sampling process and read by the ingress."""

import fcntl
import mmap
import os
from collections.abc import Callable, Iterator

from services.ingress.admission import ByteBudget

# A child that shrank the memory under us would have the kernel kill us with SIGBUS on the next read.
_FIXED_SIZE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class FrameBuffer:
    """`size` bytes of anonymous memory that another process can map through `fd`. Close it in the end.

    It counts against the memory of the container, and not, as other shared memory would, against its /dev/shm.
    """

    def __init__(self, size: int, budget: ByteBudget) -> None:
        self.size = size
        self._budget = budget
        self._closed = False
        self.fd = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, size)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _FIXED_SIZE)
            self._memory = mmap.mmap(self.fd, size, prot=mmap.PROT_READ)
        except BaseException:
            os.close(self.fd)
            raise

    @classmethod
    async def allocate(cls, size: int, budget: ByteBudget) -> "FrameBuffer":
        """Waits until `budget` has room for it; ValueError if it never will."""
        await budget.acquire(size)
        try:
            return cls(size, budget)
        except BaseException:
            budget.release(size)
            raise

    def pieces(
        self, piece_bytes: int, size: int | None = None, head: Callable[[int], bytes] = lambda _: b""
    ) -> Iterator[bytes]:
        """The content, or its first `size` bytes, in order, as copies, each behind the `head` for its length."""
        end = self.size if size is None else size
        for start in range(0, end, piece_bytes):
            # No view outlives this, or the memory could not be closed.
            with memoryview(self._memory) as memory, memory[start : min(start + piece_bytes, end)] as piece:
                copy = b"".join((head(len(piece)), piece))
            yield copy

    def close(self) -> None:
        """Give the memory back; further calls do nothing."""
        if not self._closed:
            self._closed = True
            self._memory.close()
            os.close(self.fd)
            self._budget.release(self.size)
