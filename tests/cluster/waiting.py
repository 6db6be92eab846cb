"""Waits for a condition in the cluster, with a time limit."""

import time
from collections.abc import Callable


class TimedOut(Exception):
    """Names the condition and the last observed state."""


def wait_until(
    what: str,
    look: Callable[[], tuple[bool, str]],
    seconds: float,
    *,
    every: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Returns the state once `look` is true, checked at least once; raises TimedOut after `seconds`."""
    deadline = clock() + seconds
    while True:
        is_so, state = look()
        if is_so:
            return state
        if clock() >= deadline:
            raise TimedOut(f"{what}: not within {seconds:.0f} s; last seen: {state}")
        sleep(every)
