"""Where the time of one request went."""

import time
from collections import defaultdict
from collections.abc import Callable
from enum import Enum

from videoanalysis.v1.analysis_pb2 import StageTiming, Timing


class Part(Enum):
    DOWNLOAD_QUEUE = "download", "queue_seconds"
    DOWNLOAD_COMPUTE = "download", "compute_seconds"
    SAMPLE_QUEUE = "sample", "queue_seconds"
    SAMPLE_COMPUTE = "sample", "compute_seconds"
    ENCODE_QUEUE = "encode", "queue_seconds"
    ENCODE_COMPUTE = "encode", "compute_seconds"
    DECODE_QUEUE = "decode", "queue_seconds"
    DECODE_COMPUTE = "decode", "compute_seconds"


class Trace:
    """Which part one chunk was in, and since when."""

    def __init__(self, part: Part, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.entries: list[tuple[float, Part]] = [(clock(), part)]

    def enter(self, part: Part, ago: float = 0.0) -> None:
        """The chunk is in `part` now, or has been for `ago` seconds, as far as that is after its last step."""
        self.entries.append((max(self.entries[-1][0], self._clock() - ago), part))


class Timeline:
    """Adds up the parts: each instant belongs to the part in which the next undelivered chunk was then.

    Stages overlap, so their own times add up to more than the request took; these parts add up to just that.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = self._attributed_until = clock()
        self._seconds: defaultdict[Part, float] = defaultdict(float)

    def trace(self, part: Part) -> Trace:
        return Trace(part, self._clock)

    def delivered(self, trace: Trace) -> None:
        """The chunk of `trace`, the next in order, has left: what passed since the one before is its."""
        now = self._clock()
        ends = [entered for entered, _ in trace.entries[1:]] + [now]
        for (entered, part), end in zip(trace.entries, ends, strict=True):
            self._seconds[part] += max(0.0, end - max(entered, self._attributed_until))
        self._attributed_until = now

    def timing(self) -> Timing:
        """What has passed until now; what no part accounts for is unattributed."""
        total = self._clock() - self._start
        timing = Timing(total_seconds=total, unattributed_seconds=max(0.0, total - sum(self._seconds.values())))
        for part, seconds in self._seconds.items():
            stage, phase = part.value
            stage_timing: StageTiming = getattr(timing, stage)
            setattr(stage_timing, phase, seconds)
        return timing
