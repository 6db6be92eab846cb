"""The calls that the load generator reported."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

_ERRORS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Call:
    """Times are seconds of Unix time; `error` is empty if it succeeded."""

    began: float
    ended: float
    error: str
    model: str
    retries: int


@dataclass(frozen=True, slots=True)
class Calls:
    calls: tuple[Call, ...]

    @classmethod
    def parse(cls, log: str) -> Self:
        """Parses the log of the load generator; incomplete lines and other output are ignored."""
        return cls(tuple(call for line in log.splitlines() if (call := _call(line)) is not None))

    def since(self, began: float) -> Self:
        """Those that ended after it."""
        return type(self)(tuple(call for call in self.calls if call.ended >= began))

    @property
    def failed(self) -> list[Call]:
        return [call for call in self.calls if call.error]

    @property
    def models(self) -> set[str]:
        return {call.model for call in self.calls if not call.error}

    def summary(self) -> str:
        """12 calls, none failed; 3 repeated by the client"""
        repeated = sum(1 for call in self.calls if call.retries)
        failed = self.failed
        text = f"{len(self.calls)} calls, {f'{len(failed)} failed' if failed else 'none failed'}"
        if repeated:
            text += f", {repeated} repeated by the client"
        if failed:
            kinds = Counter(call.error for call in failed).most_common(_ERRORS_SHOWN)
            text += ": " + "; ".join(f"{number} × {error}" for error, number in kinds)
        return text


def interruption(samples: Iterable[tuple[float, float]], ended: float, tail_seconds: float = 5.0) -> str:
    """Describes where a gauge was 0 although a call was in progress; empty if nowhere.

    `samples` are times and sums from when the draining began; the call `ended` then. In its last `tail_seconds` the
    gauge may be 0 for good, since the end of a call is the decoder's; a 0 before another number is always wrong.
    """
    during = [(at, value) for at, value in samples if at <= ended]
    if len(during) < 3:
        return f"only {len(during)} samples of the gauge while the call was in progress: too few to judge"
    last_work = max((index for index, (_, value) in enumerate(during) if value > 0), default=-1)
    if last_work < 0:
        return f"the gauge was 0 in all {len(during)} samples"
    zeros = sum(1 for _, value in during[:last_work] if value <= 0)
    if zeros:
        return f"the gauge was 0 in {zeros} of {len(during)} samples, and then not"
    silent = ended - during[last_work][0]
    if silent > tail_seconds:
        return f"the gauge was 0 for the last {silent:.1f} s of the call"
    return ""


def _call(line: str) -> Call | None:
    try:
        call = json.loads(line)
        return Call(call["began"], call["ended"], call["error"], call["model"], len(call["retries"]))
    except (ValueError, LookupError, TypeError):
        return None
