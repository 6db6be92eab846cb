"""What something usually takes, learnt from what it took."""

# RFC 6298, which estimates round trips so: weights of the newest observation, and how many deviations above the mean
# are still usual.
_OF_MEAN, _OF_DEVIATION, _DEVIATIONS = 1 / 8, 1 / 4, 4


class LatencyEstimate:
    """Moving mean and deviation, in seconds."""

    def __init__(self) -> None:
        self._mean: float | None = None
        self._deviation = 0.0

    @property
    def mean(self) -> float | None:
        """None while nothing is known."""
        return self._mean

    @property
    def most(self) -> float | None:
        """Hardly ever is it more; None while nothing is known."""
        return None if self._mean is None else self._mean + _DEVIATIONS * self._deviation

    def observe(self, seconds: float) -> None:
        if self._mean is None:
            self._mean, self._deviation = seconds, seconds / 2
        else:
            self._deviation += _OF_DEVIATION * (abs(seconds - self._mean) - self._deviation)
            self._mean += _OF_MEAN * (seconds - self._mean)
