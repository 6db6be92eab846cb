"""What people see while a sweep runs: a table that lives on a terminal, a line now and then elsewhere."""

import math
from collections import Counter, deque
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtest.sweep import percentiles
from loadtest.sweep.levels import Level
from loadtest.sweep.load import Length, clock
from loadtest.sweep.record import Request

_RECENT_SECONDS = 5.0
_LINE_EVERY_SECONDS = 10.0
_REFRESHES_PER_SECOND = 4


class Progress:
    """Of one level at a time."""

    def __init__(self, console: Console, levels: int) -> None:
        self._console = console
        self._levels = levels
        self._number = 0
        self._level: Level | None = None
        self._length = Length(0)
        self._begun = clock()
        self._said = -math.inf
        self._in_flight = 0
        self._counts: Counter[str] = Counter()
        self._latencies = percentiles.histogram(())
        self._recent: deque[float] = deque()
        self._live = Live(
            console=console,
            get_renderable=self._table,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def begin(self, level: Level, length: Length) -> None:
        self._number += 1
        self._level, self._length = level, length
        self._begun = clock()
        # The first answer is told at once.
        self._said = -math.inf
        self._counts.clear()
        self._latencies = percentiles.histogram(())
        self._recent.clear()

    def hear(self, request: Request, in_flight: int) -> None:
        now = clock()
        self._in_flight = in_flight
        self._counts[request.status] += 1
        if request.is_ok:
            self._latencies.record_value(max(1, round(request.latency_ms * 1000)))
            self._recent.append(now)
        if not self._console.is_terminal and now - self._said >= _LINE_EVERY_SECONDS:
            self._said = now
            self.say(self._line())

    def _rate(self) -> float:
        now = clock()
        while self._recent and self._recent[0] < now - _RECENT_SECONDS:
            self._recent.popleft()
        return len(self._recent) / max(0.5, min(_RECENT_SECONDS, now - self._begun))

    def _elapsed(self) -> float:
        """Of the time in which requests are sent."""
        return min(clock() - self._begun, self._length.seconds)

    def _line(self) -> str:
        assert self._level is not None
        return (
            f"{self._level.name}, {self._elapsed():.0f} of {self._length.seconds:.0f} s: "
            f"{self._outcomes()}, {self._rate():.1f} a second, {self._latency()}"
        )

    def _outcomes(self) -> str:
        failures = [f"{count} {status}" for status, count in self._counts.most_common() if status != "OK"]
        return ", ".join([f"{self._counts['OK']} answered", *failures])

    def _latency(self) -> str:
        found = percentiles.statistics(self._latencies, ("p50", "p95"))
        return f"P50 {found['p50']:.0f} ms, P95 {found['p95']:.0f} ms" if found else "no answer yet"

    def _table(self) -> RenderableType:
        if self._level is None:
            return Text("starting", "dim")
        elapsed = self._elapsed()
        rows = Table.grid(padding=(0, 3, 0, 0))
        rows.add_row(
            Text(f"{self._number} of {self._levels}", "dim"),
            Text(self._level.name, "bold"),
            ProgressBar(total=self._length.seconds, completed=elapsed, width=30),
            Text(f"{elapsed:.0f} of {self._length.seconds:.0f} s", "dim"),
        )
        figures = f"{self._outcomes()} · {self._in_flight} in flight · {self._rate():.1f} a second · {self._latency()}"
        return Group(rows, Text(figures))
