import asyncio
from collections.abc import Callable

_POLL_SECONDS = 0.005


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for `condition`; raises TimeoutError after about `seconds`."""
    for _ in range(round(seconds / _POLL_SECONDS)):
        if condition():
            return
        await asyncio.sleep(_POLL_SECONDS)
    raise TimeoutError
