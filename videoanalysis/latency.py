"""Estimates how long an operation takes from how long it took before."""

# RFC 6298, which estimates round-trip times: weights of the newest sample, and the deviations that the upper bound is
# above the mean.
_MEAN_WEIGHT, _DEVIATION_WEIGHT, _DEVIATIONS = 1 / 8, 1 / 4, 4


class LatencyEstimate:
    """Moving mean and mean deviation, in seconds. Both properties are None before the first sample."""

    def __init__(self) -> None:
        self._mean: float | None = None
        self._deviation = 0.0

    @property
    def mean(self) -> float | None:
        return self._mean

    @property
    def upper_bound(self) -> float | None:
        """Four deviations above the mean; few samples exceed it."""
        return None if self._mean is None else self._mean + _DEVIATIONS * self._deviation

    def observe(self, seconds: float) -> None:
        if self._mean is None:
            self._mean, self._deviation = seconds, seconds / 2
        else:
            self._deviation += _DEVIATION_WEIGHT * (abs(seconds - self._mean) - self._deviation)
            self._mean += _MEAN_WEIGHT * (seconds - self._mean)
