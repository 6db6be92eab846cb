"""How long a service takes, learnt from its answers, and when one that has not come will not come any more."""

from collections import deque

from videoanalysis.latency import LatencyEstimate

_MARGIN = 2.0
# A pause of the machine is no hang.
_LEAST_SECONDS = 2.0
_REMEMBERED = 32


class LatencyEstimator:
    """Seconds for each unit of work.

    The time limit of an attempt is far above what is usual, and doubles with each attempt that runs into it until one
    succeeds: so where all have become slow, work goes on. It is never above `most_seconds`, and just that at first.
    """

    def __init__(self, most_seconds: float) -> None:
        self._most_seconds = most_seconds
        self._usual = LatencyEstimate()
        self._patience = 1.0
        self._latest: deque[float] = deque(maxlen=_REMEMBERED)

    def is_hopeless(self, seconds: float, units: float = 1) -> bool:
        """Whether not even the fastest of the latest attempts would have done `units` in `seconds`.

        That one is then forgotten: who is told so does not try, and could never show that times have changed.
        """
        fastest = min(self._latest, default=0.0)
        if seconds >= fastest * units:
            return False
        self._latest.remove(fastest)
        return True

    def usual(self, units: float = 1) -> float:
        """Seconds that `units` take, 0 while nothing is known."""
        return (self._usual.mean or 0.0) * units

    def limit(self, units: float = 1) -> float:
        """Seconds after which an attempt at `units` is given up."""
        usual = self._usual.upper_bound
        if usual is None:
            return self._most_seconds
        return min(max(_LEAST_SECONDS, _MARGIN * usual * units) * self._patience, self._most_seconds)

    def observe(self, seconds: float, units: float = 1) -> None:
        self._usual.observe(seconds / units)
        self._latest.append(seconds / units)
        self._patience = 1.0

    def ran_out(self) -> None:
        """An attempt has run into its limit."""
        if self.limit() < self._most_seconds:
            self._patience *= 2
