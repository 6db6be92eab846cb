"""The progress of a sweep: a bar on a terminal, a line every ten seconds elsewhere."""

import math
from collections import Counter, deque
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from loadtest.sweep import percentiles
from loadtest.sweep.levels import Level
from loadtest.sweep.load import Length, clock
from loadtest.sweep.record import Request

_RATE_SECONDS = 5.0
_LINE_SECONDS = 10.0


class Progress:
    """Of one level at a time."""

    def __init__(self, console: Console, levels: int) -> None:
        self._console = console
        self._levels = levels
        self._number = 0
        columns = (TextColumn("{task.description}"), BarColumn(30), TextColumn("{task.fields[figures]}"))
        self._bar = Bar(*columns, console=console, transient=True, disable=not console.is_interactive)
        self._task = self._bar.add_task("starting", figures="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, level: Level, length: Length) -> None:
        self._number += 1
        self._level, self._length, self._begun = level, length, clock()
        # The first answer is reported at once.
        self._reported = -math.inf
        self._counts: Counter[str] = Counter()
        self._latencies = percentiles.histogram(())
        self._recent: deque[float] = deque()
        self._bar.reset(
            self._task,
            total=length.seconds,
            description=f"{self._number} of {self._levels}: {level.name}",
            figures="no answer yet",
        )

    def add(self, request: Request, in_flight: int) -> None:
        now = clock()
        self._counts[request.status] += 1
        if request.is_ok:
            percentiles.record(self._latencies, request.latency_ms)
            self._recent.append(now)
        if self._console.is_interactive:
            figures = f"{self._figures(now)}, {in_flight} in flight"
            self._bar.update(self._task, completed=now - self._begun, figures=figures)
        elif now - self._reported >= _LINE_SECONDS:
            self._reported = now
            elapsed = min(now - self._begun, self._length.seconds)
            line = f"{self._level.name}, {elapsed:.0f} of {self._length.seconds:.0f} s: {self._figures(now)}"
            self._console.print(line, markup=False, highlight=False)

    def _figures(self, now: float) -> str:
        failures = [f"{count} {status}" for status, count in self._counts.most_common() if status != "OK"]
        while self._recent and self._recent[0] < now - _RATE_SECONDS:
            self._recent.popleft()
        rate = len(self._recent) / max(0.5, min(_RATE_SECONDS, now - self._begun))
        found = percentiles.statistics(self._latencies, ("p50", "p95"))
        latency = f"P50 {found['p50']:.0f} ms, P95 {found['p95']:.0f} ms" if found else "no answer yet"
        return ", ".join([f"{self._counts['OK']} answered", *failures, f"{rate:.1f} a second", latency])
