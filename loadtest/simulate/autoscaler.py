"""KEDA and the HPA of one service, each on its own round."""

from collections.abc import Callable

from loadtest.simulate.autoscaling import Autoscaling
from loadtest.simulate.hpa import SYNC_SECONDS, Hpa
from loadtest.simulate.keda import Keda


class Autoscaler:
    def __init__(self, rule: Autoscaling) -> None:
        self.rule = rule
        self._keda = Keda(rule)
        self._hpa = Hpa(rule)

    def poll(self, now: float, reading: float | None, current: int) -> int:
        """KEDA's round, every `polling_seconds`. A reading of None is a source that failed."""
        return self._keda.poll(now, reading, current)

    def sync(self, now: float, reading: float | None, current: int) -> int:
        """The HPA's round, every sync period. It reads by KEDA's adapter, but not of a workload at zero."""
        return self._hpa.sync(now, self._keda.metric(reading, current) if current else None, current)


def course(
    rule: Autoscaling,
    reading: Callable[[float], float | None],
    *,
    until: float,
    start: int,
    first_poll: float = 0.0,
    first_sync: float = 0.0,
    sync_seconds: float = SYNC_SECONDS,
) -> list[tuple[float, int]]:
    """The times in seconds at which the count changes, and what to: a function of time and readings alone."""
    autoscaler = Autoscaler(rule)
    count, changes = start, [(0.0, start)]
    polls, syncs = _ticks(first_poll, rule.polling_seconds, until), _ticks(first_sync, sync_seconds, until)
    for now, decide in sorted(
        [*((at, autoscaler.poll) for at in polls), *((at, autoscaler.sync) for at in syncs)], key=_when
    ):
        wanted = decide(now, reading(now), count)
        if wanted != count:
            count = wanted
            changes.append((now, count))
    return changes


def _ticks(first: float, every: float, until: float) -> list[float]:
    return [first + number * every for number in range(int((until - first) / every) + 1)]


def _when(tick: tuple[float, Callable[..., int]]) -> float:
    return tick[0]
