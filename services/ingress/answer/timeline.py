"""The time of one request, divided among the stages."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import pairwise

from opentelemetry.trace import Span

from videoanalysis import tracing
from videoanalysis.v1.analysis_pb2 import StageTiming, Timing


class Part(Enum):
    """The stage and the field of its StageTiming."""

    DOWNLOAD_QUEUE = "download", "queue_seconds"
    DOWNLOAD_COMPUTE = "download", "compute_seconds"
    SAMPLE_QUEUE = "sample", "queue_seconds"
    SAMPLE_COMPUTE = "sample", "compute_seconds"
    ENCODE_QUEUE = "encode", "queue_seconds"
    ENCODE_COMPUTE = "encode", "compute_seconds"
    DECODE_QUEUE = "decode", "queue_seconds"
    DECODE_COMPUTE = "decode", "compute_seconds"

    @property
    def span_name(self) -> str:
        stage, phase = self.value
        return stage if phase == "compute_seconds" else f"{stage} queue"


class Trace:
    """The parts that one chunk has entered, and when. Its calls belong to its `span`."""

    def __init__(self, part: Part, clock: Callable[[], float], span: Span) -> None:
        self._clock = clock
        self.span = span
        self.entries: list[tuple[float, Part]] = [(clock(), part)]

    @property
    def part(self) -> Part:
        return self.entries[-1][1]

    def enter(self, part: Part, ago: float = 0.0) -> None:
        """The chunk entered `part` now, or `ago` seconds before, but not before it entered its last part."""
        self.entries.append((max(self.entries[-1][0], self._clock() - ago), part))

    def stays(self, now: float) -> Iterator[tuple[Part, float, float]]:
        """Every part so far, with the times at which the chunk entered and left it."""
        for (entered, part), (left, _) in pairwise([*self.entries, (now, self.part)]):
            yield part, entered, left


class Timeline:
    """Attributes each instant to the part in which the next undelivered chunk was then.

    Stages overlap, so their own durations add up to more than the request took; these parts add up to exactly that.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = self._attributed_until = clock()
        self._seconds: defaultdict[Part, float] = defaultdict(float)
        # Spans have times of the Unix epoch.
        self._epoch_ns = time.time_ns() - round(1e9 * self._start)
        self._undelivered: list[Trace] = []

    def trace(self, part: Part) -> Trace:
        trace = Trace(part, self._clock, tracing.start("chunk", self._ns(self._clock())))
        self._undelivered.append(trace)
        return trace

    def delivered(self, trace: Trace) -> None:
        """The chunk of `trace`, the next in order, is delivered: attributes the time since the one before it."""
        now = self._clock()
        self._attribute(trace, now, self._seconds)
        self._attributed_until = now
        while trace in self._undelivered:
            # Traces before it are from before a restart of the video.
            self._end_span(self._undelivered.pop(0), now)

    def close(self) -> None:
        """Ends the spans of chunks that were not delivered."""
        for trace in self._undelivered:
            self._end_span(trace, self._clock())

    def _attribute(self, trace: Trace, now: float, seconds: dict[Part, float]) -> None:
        for part, entered, left in trace.stays(now):
            seconds[part] += max(0.0, left - max(entered, self._attributed_until))

    def so_far(self) -> dict[str, float]:
        """Seconds by part until now, with those of the chunk that is awaited, for the log."""
        seconds = self._seconds.copy()
        if self._undelivered:
            self._attribute(self._undelivered[0], self._clock(), seconds)
        return {f"{part.value[0]}_{part.value[1].removesuffix('_seconds')}": round(s, 4) for part, s in seconds.items()}

    def _end_span(self, trace: Trace, now: float) -> None:
        if trace.span.is_recording():
            for part, entered, left in trace.stays(now):
                tracing.start(part.span_name, self._ns(entered), trace.span).end(self._ns(left))
        trace.span.end(self._ns(now))

    def _ns(self, seconds: float) -> int:
        return self._epoch_ns + round(1e9 * seconds)

    def timing(self) -> Timing:
        """The time until now; what belongs to no part is unattributed."""
        total = self._clock() - self._start
        timing = Timing(total_seconds=total, unattributed_seconds=max(0.0, total - sum(self._seconds.values())))
        for part, seconds in self._seconds.items():
            stage, phase = part.value
            stage_timing: StageTiming = getattr(timing, stage)
            setattr(stage_timing, phase, seconds)
        return timing
