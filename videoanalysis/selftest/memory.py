"""The memory of a process and its children together, measured while something runs."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_INTERVAL_SECONDS = 0.02
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Peak:
    """The most resident memory at any one time, in bytes, as found every 20 ms; shared pages count in each process."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._pid = pid

    def look(self) -> None:
        self.bytes = max(self.bytes, sum(map(_resident, (self._pid, *_children(self._pid)))))


@asynccontextmanager
async def measured(pid: int | None) -> AsyncIterator[Peak | None]:
    """While entered; None without a process, which may be on another machine."""
    if pid is None:
        yield None
        return
    peak = Peak(pid)

    async def look() -> None:
        while True:
            peak.look()
            await asyncio.sleep(_INTERVAL_SECONDS)

    looking = asyncio.create_task(look())
    try:
        yield peak
    finally:
        peak.look()
        looking.cancel()


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _resident(pid: int) -> int:
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return 0  # it has ended
