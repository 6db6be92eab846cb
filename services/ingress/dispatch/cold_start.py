"""How long a service takes to scale up from no replica."""

import time
from collections.abc import Callable

from videoanalysis.latency import LatencyEstimate


class ColdStart:
    """Measures the time from the first call that finds no replica to the first replica; predicts the next start."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._estimate = LatencyEstimate()
        self._began_at: float | None = None

    @property
    def is_under_way(self) -> bool:
        return self._began_at is not None

    def begin(self) -> None:
        """A replica is needed and there is none."""
        if self._began_at is None:
            self._began_at = self._clock()

    def end(self) -> None:
        """There is a replica."""
        if self._began_at is not None:
            self._estimate.observe(self._clock() - self._began_at)
            self._began_at = None

    def remaining(self) -> float:
        """Expected seconds until the first replica; 0 if there was no earlier start, or if that time has passed."""
        if self._began_at is None or self._estimate.mean is None:
            return 0.0
        return max(0.0, self._began_at + self._estimate.mean - self._clock())
