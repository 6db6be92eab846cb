"""Repeats a call until the service that answers it is ready."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from videoanalysis.errors import Unavailable
from videoanalysis.v1.error_reason_pb2 import ErrorReason

_Result = TypeVar("_Result")
_PAUSE_SECONDS = 1.0
# So that a log shows that the wait goes on.
_LINE_SECONDS = 30.0

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

    `show` gets a line for each reason, and another one every 30 s. Raises the last error when the time is over, without
    another pause.
    """
    deadline = time.monotonic() + seconds
    shown: tuple[ErrorReason, float] | None = None
    while True:
        try:
            return await call()
        except Unavailable as error:
            now = time.monotonic()
            if now + pause_seconds >= deadline:
                raise
            # Not by message: those of gRPC name one address or another.
            if shown is None or error.reason != shown[0] or now >= shown[1] + _LINE_SECONDS:
                shown = (error.reason, now)
                show(f"waiting up to {deadline - now:.0f} s: {error}")
        await asyncio.sleep(pause_seconds)
