"""How long a service takes, learnt from its answers, and when an attempt at it should be given up."""

from collections import deque

from videoanalysis.latency import LatencyEstimate

_MARGIN = 2.0
# A pause of the machine is no hang.
_MIN_TIMEOUT_SECONDS = 2.0
_REMEMBERED = 32


class LatencyEstimator:
    """Seconds for each unit of work.

    The timeout of an attempt lies far above the usual time and doubles with each attempt that reaches it until one
    succeeds: where all replicas have become slow, work goes on. It never exceeds `max_seconds`, which it is at first.
    """

    def __init__(self, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._estimate = LatencyEstimate()
        self._backoff = 1.0
        self._latest: deque[float] = deque(maxlen=_REMEMBERED)

    def mean(self, units: float = 1) -> float:
        """Seconds that `units` take, 0 while nothing is known."""
        return (self._estimate.mean or 0.0) * units

    def attempt_timeout(self, units: float = 1) -> float:
        """Seconds after which an attempt at `units` is given up."""
        longest = self._estimate.upper_bound
        if longest is None:
            return self._max_seconds
        return min(max(_MIN_TIMEOUT_SECONDS, _MARGIN * longest * units) * self._backoff, self._max_seconds)

    def exceeds_deadline(self, seconds: float, units: float = 1) -> bool:
        """Whether even the fastest of the latest attempts would not have done `units` in `seconds`.

        That attempt is then forgotten: a caller that does not try cannot learn that times have changed.
        """
        fastest = min(self._latest, default=0.0)
        if seconds >= fastest * units:
            return False
        self._latest.remove(fastest)
        return True

    def observe(self, seconds: float, units: float = 1) -> None:
        self._estimate.observe(seconds / units)
        self._latest.append(seconds / units)
        self._backoff = 1.0

    def on_timeout(self) -> None:
        """An attempt reached its timeout."""
        if self.attempt_timeout() < self._max_seconds:
            self._backoff *= 2
