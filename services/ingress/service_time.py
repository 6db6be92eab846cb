"""How long a service takes, learnt from its answers, and when one that has not come will not come any more."""

from collections import deque

# RFC 6298: weights of the newest observation, and how many deviations above the mean are still usual.
_OF_MEAN, _OF_DEVIATION, _DEVIATIONS = 1 / 8, 1 / 4, 4
_MARGIN = 2.0
# A pause of the machine is no hang.
_LEAST_SECONDS = 2.0
_REMEMBERED = 32


class ServiceTime:
    """Seconds for each unit of work, as RFC 6298 estimates round trips.

    The time limit of an attempt is far above what is usual, and doubles with each attempt that runs into it until one
    succeeds: so where all have become slow, work goes on. It is never above `most_seconds`, and just that at first.
    """

    def __init__(self, most_seconds: float) -> None:
        self._most_seconds = most_seconds
        self._mean: float | None = None
        self._deviation = 0.0
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

    def limit(self, units: float = 1) -> float:
        """Seconds after which an attempt at `units` is given up."""
        if self._mean is None:
            return self._most_seconds
        usual = (self._mean + _DEVIATIONS * self._deviation) * units
        return min(max(_LEAST_SECONDS, _MARGIN * usual) * self._patience, self._most_seconds)

    def observe(self, seconds: float, units: float = 1) -> None:
        each = seconds / units
        if self._mean is None:
            self._mean, self._deviation = each, each / 2
        else:
            self._deviation += _OF_DEVIATION * (abs(each - self._mean) - self._deviation)
            self._mean += _OF_MEAN * (each - self._mean)
        self._patience = 1.0
        self._latest.append(each)

    def ran_out(self) -> None:
        """An attempt has run into its limit."""
        if self._mean is not None and self.limit() < self._most_seconds:
            self._patience *= 2
