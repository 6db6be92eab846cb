"""Estimates how long a video holds a slot from the videos so far."""

import heapq
from collections import deque
from collections.abc import Iterable

# Weight of the newest video in the running means.
_NEWEST = 0.2
# Number of latest videos of which the shortest time is kept.
_RECENT = 32


class ServiceTimes:
    """Service times in seconds, without the time in which callers did not read."""

    def __init__(self) -> None:
        self.mean_seconds = 0.0
        self._mean_video_seconds = 0.0
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def observe(self, service_seconds: float, video_seconds: float) -> None:
        weight = _NEWEST if self._recent else 1.0
        self.mean_seconds += weight * (service_seconds - self.mean_seconds)
        self._mean_video_seconds += weight * (video_seconds - self._mean_video_seconds)
        self._recent.append(service_seconds)

    @property
    def shortest_seconds(self) -> float:
        """The shortest time of the latest videos: a lower bound for a video whose duration is unknown."""
        return min(self._recent, default=0.0)

    def of(self, video_seconds: float) -> float:
        """The expected time for a video of `video_seconds` (0: unknown); 0 before the first video has ended."""
        if not video_seconds or not self._mean_video_seconds:
            return self.mean_seconds
        return self.mean_seconds * video_seconds / self._mean_video_seconds

    def until_start(self, remaining_seconds: Iterable[float], slots: int, ahead: int) -> float:
        """Seconds until a request starts on one of `slots` slots.

        Those in use are free after `remaining_seconds`; `ahead` requests of unknown duration start before it.
        """
        free_at = sorted(remaining_seconds)
        free_at = [0.0] * (slots - len(free_at)) + free_at
        for _ in range(ahead):
            heapq.heapreplace(free_at, free_at[0] + self.mean_seconds)
        return free_at[0]
