"""Repeats a call until the service that answers it is ready."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from videoanalysis.errors import Unavailable

_Result = TypeVar("_Result")
_PAUSE_SECONDS = 1.0

Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        min=0,
        help="Seconds to wait for what is not ready yet, such as a service that starts.",
        show_default="0",
    ),
]


async def until_ready(
    call: Callable[[], Awaitable[_Result]],
    seconds: float,
    show: Callable[[str], None],
    *,
    pause_seconds: float = _PAUSE_SECONDS,
) -> _Result:
    """The result of `call`, which is repeated for up to `seconds` while it raises Unavailable.

    `show` gets a line for each reason. Raises the last error when the time is over, without another pause.
    """
    deadline = time.monotonic() + seconds
    shown = ""
    while True:
        try:
            return await call()
        except Unavailable as error:
            if time.monotonic() + pause_seconds >= deadline:
                raise
            if str(error) != shown:
                shown = str(error)
                show(f"waiting up to {deadline - time.monotonic():.0f} s: {shown}")
        await asyncio.sleep(pause_seconds)
