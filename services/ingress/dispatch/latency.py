"""Estimates how long a service takes from its answers, and the timeout of an attempt."""

from collections import deque

from videoanalysis.latency import LatencyEstimate

_MARGIN = 2.0
# A replica whose machine pauses briefly is not hung.
_MIN_TIMEOUT_SECONDS = 2.0
_REMEMBERED = 32


class LatencyEstimator:
    """Seconds for each unit of work.

    The timeout of an attempt is far above the mean, and doubles with each attempt that reaches it until one succeeds:
    if all replicas have become slow, work continues. It is `max_seconds` until there are samples, and never exceeds it.
    """

    def __init__(self, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._estimate = LatencyEstimate()
        self._backoff = 1.0
        self._latest: deque[float] = deque(maxlen=_REMEMBERED)

    def mean(self, units: float = 1) -> float:
        """Seconds that `units` take, 0 before the first sample."""
        return (self._estimate.mean or 0.0) * units

    def attempt_timeout(self, units: float = 1) -> float:
        """Seconds after which an attempt at `units` times out."""
        longest = self._estimate.upper_bound
        if longest is None:
            return self._max_seconds
        return min(max(_MIN_TIMEOUT_SECONDS, _MARGIN * longest * units) * self._backoff, self._max_seconds)

    def exceeds_deadline(self, seconds: float, units: float = 1) -> bool:
        """Whether even the fastest of the latest attempts would have taken longer than `seconds` for `units`.

        Removes that sample then: refused work adds no samples, so the estimate could not recover otherwise.
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
