"""Whose chunk is offered to the encoders next."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from services.ingress.admission.fair_queue import FairQueue, Share

# At most one halving in this time: the refusals of one crowded moment count once.
_EASE_SECONDS = 0.1
_FIRST_WINDOW = 4.0


class DispatchQueue:
    """A fair line in front of the encoders: a few chunks are offered at a time, the others wait here with their bytes.

    What is on offer waits at encoders, first come first served, beyond all fairness; so it is no more than keeps them
    busy. How much that is depends on how many other ingresses there are, which nobody tells us: as TCP finds its share
    of a link, the window grows with each chunk that is taken up and halves when encoders refuse. It is never above
    `most()`. How many chunks can wait is bounded by whoever holds their bytes.
    """

    def __init__(self, most: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._line: FairQueue[asyncio.Future[None]] = FairQueue()
        self._window = _FIRST_WINDOW
        self._eased_at = -_EASE_SECONDS
        self.offered = 0

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def window(self) -> int:
        """How many may be on offer at a time."""
        return max(1, min(int(self._window), self._most()))

    @asynccontextmanager
    async def turn(self, share: Share) -> AsyncGenerator["Turn"]:
        """Waits until a chunk of `share` may be offered."""
        if self.offered < self.window:
            self.offered += 1
        else:
            await self._wait(share)
        turn = Turn(self)
        try:
            yield turn
        finally:
            turn.end()

    async def _wait(self, share: Share) -> None:
        mine = asyncio.get_running_loop().create_future()
        self._line.push(share, mine)
        try:
            await mine
        except BaseException:
            if mine.cancelled():
                self._line.discard(share, mine)
            else:  # its turn had come already
                self.leave()
            raise

    def leave(self) -> None:
        self.offered -= 1
        while self.offered < self.window and (following := self._line.pop()) is not None:
            _, turn = following
            # One that was cancelled a moment ago has not left the line yet.
            if not turn.done():
                self.offered += 1
                turn.set_result(None)

    def widen(self) -> None:
        self._window = min(self._window + 1 / self._window, max(_FIRST_WINDOW, self._most()))

    def narrow(self) -> None:
        if (now := self._clock()) >= self._eased_at + _EASE_SECONDS:
            self._window, self._eased_at = max(1.0, self._window / 2), now


class Turn:
    """The right to offer one chunk, until an encoder has taken it up or it is given up."""

    def __init__(self, line: DispatchQueue) -> None:
        self._line = line
        self._is_over = False

    def admitted(self) -> None:
        if not self._is_over:
            self._line.widen()
        self.end()

    def refused(self) -> None:
        self._line.narrow()

    def end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._line.leave()
