"""How long it takes until there is somebody, where there is nobody."""

import time
from collections.abc import Callable

from videoanalysis.latency import LatencyEstimate


class ColdStart:
    """From the first need of a replica, while there are none, to the first that is there; learnt from those before."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._usual = LatencyEstimate()
        self._began_at: float | None = None

    @property
    def is_under_way(self) -> bool:
        return self._began_at is not None

    def begin(self) -> None:
        """Somebody is needed and nobody is there."""
        if self._began_at is None:
            self._began_at = self._clock()

    def end(self) -> None:
        """Somebody is there."""
        if self._began_at is not None:
            self._usual.observe(self._clock() - self._began_at)
            self._began_at = None

    def remaining(self) -> float:
        """Seconds that are likely left; 0 where that is unknown, or should be over."""
        if self._began_at is None or self._usual.mean is None:
            return 0.0
        return max(0.0, self._began_at + self._usual.mean - self._clock())
