"""Waits for a cluster, never for ever."""

import time
from collections.abc import Callable


class TimedOut(Exception):
    """Says what was waited for, and how it stood last."""


def wait_until(
    what: str,
    look: Callable[[], tuple[bool, str]],
    seconds: float,
    *,
    every: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """How it stood when `look` said that it is so; raises TimedOut after `seconds`. It looks at least once."""
    deadline = clock() + seconds
    while True:
        is_so, state = look()
        if is_so:
            return state
        if clock() >= deadline:
            raise TimedOut(f"{what}: not within {seconds:.0f} s; last seen: {state}")
        sleep(every)
