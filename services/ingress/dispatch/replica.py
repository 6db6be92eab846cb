"""One encoder or decoder among many, as its caller sees it."""

import time
from collections.abc import Callable

import grpc

from videoanalysis import channels
from videoanalysis.latency import LatencyEstimate

# A replica that failed is asked last for so long, one that hangs twice as long each time.
_AVOID_SECONDS, _AVOID_AT_MOST_SECONDS = 1.0, 30.0
# A replica that lacks what is needed is not asked for it again for so long, while another one may have it.
_REMEMBER_LACK_SECONDS = 2.0
# One that takes so many times as long as the fastest is slow.
_SLOW = 1.4


class Replica:
    """One address with a channel of its own, so that a call goes where we send it."""

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.address = address
        self._clock = clock
        self.channel = channels.connect(address, while_ready=True)
        self.in_flight = 0  # attempts, those that wait for admission included
        self._usual = LatencyEstimate()  # for a unit of work
        self._admitted_at = 0.0
        self._admitted_units = 0.0
        self._done_at = 0.0
        self._has_others = False
        self._avoided_until = 0.0
        self._avoid_seconds = _AVOID_SECONDS
        self._full_until = 0.0
        self._lacks_until: dict[str, float] = {}  # By digest.
        self._retired = False

    def begin(self) -> None:
        """An attempt begins: it counts as in flight, and the channel stays open for it until its `end`."""
        self.in_flight += 1

    async def end(self) -> None:
        self.in_flight -= 1
        await self._close_if_done()

    def admitted(self, units: float) -> None:
        """It has taken up work of ours."""
        self._admitted_at, self._admitted_units = self._clock(), units

    def done(self, seconds: float, units: float, others: int) -> None:
        """It has done work of ours, which took it so long, and so much work of others is there.

        What the work waited is not part of it: that says nothing of its speed.
        """
        self._usual.observe(seconds / units)
        self._done_at = self._clock()
        self._has_others = others > 0

    @property
    def usual_seconds(self) -> float | None:
        """For a unit of work, None while nothing is known."""
        return self._usual.mean

    def busy_until(self, fastest: float) -> tuple[int, float, bool, bool, float]:
        """Smaller for one that is likely to be free sooner, where the fastest takes so many seconds for a unit of work.

        Of those that do nothing for us the slow ones come last, and before them those that had work of others when we
        heard of them: the longer that is ago, the less it tells. So callers that know nothing of each other soon keep
        to encoders of their own, as long as there are enough.
        """
        usual = self._usual.mean
        if usual is None:
            return self.in_flight, 0.0, False, False, 0.0
        ends_at = self._admitted_at + self._admitted_units * usual
        ends_in = max(0.0, ends_at - self._clock()) if self.in_flight else 0.0
        return self.in_flight, ends_in, usual > _SLOW * fastest, self._has_others, -self._done_at

    async def retire(self) -> None:
        """Close the channel once the attempts in flight are over."""
        self._retired = True
        await self._close_if_done()

    async def _close_if_done(self) -> None:
        if self._retired and not self.in_flight:
            await self.channel.close()

    def succeeded(self) -> None:
        self._avoid_seconds = _AVOID_SECONDS

    def failed(self) -> None:
        """It is away, or has lost what it had taken up."""
        self._avoided_until = max(self._avoided_until, self._clock() + _AVOID_SECONDS)

    def hung(self) -> None:
        """It did not answer in time; to find out whether it still hangs costs as much again."""
        self._avoided_until = self._clock() + self._avoid_seconds
        self._avoid_seconds = min(2 * self._avoid_seconds, _AVOID_AT_MOST_SECONDS)

    def is_avoided(self) -> bool:
        """Whether it failed lately, or is known to be away or draining."""
        away = self.channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE
        return away or self._avoided_until > self._clock()

    def was_full(self, retry_after_seconds: float) -> None:
        self._full_until = self._clock() + retry_after_seconds

    def is_full(self) -> bool:
        """Whether it said a moment ago that it has no room, and when to come back."""
        return self._full_until > self._clock()

    def remember_lack(self, digest: str) -> None:
        now = self._clock()
        self._lacks_until = {lacking: until for lacking, until in self._lacks_until.items() if until > now}
        self._lacks_until[digest] = now + _REMEMBER_LACK_SECONDS

    def lacks(self, digest: str) -> bool:
        """Whether it said a moment ago that it has no such model, or version of a text bank."""
        return self._lacks_until.get(digest, 0.0) > self._clock()
