"""The service that a command calls: one at an address, or a local stack that is started for the command."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import grpc

from videoanalysis.call_metadata import Token
from videoanalysis.cli import options, runner, terminal
from videoanalysis.client import RETRY_TIMEOUT_SECONDS, AsyncClient
from videoanalysis.errors import DeadlineExceeded, Unavailable, Unimplemented

if TYPE_CHECKING:
    from videoanalysis.stack.stack import Stack

_Result = TypeVar("_Result")
# What a command does with a client of the service.
Work = Callable[[AsyncClient], Awaitable[_Result]]


class RemoteService:
    def __init__(
        self,
        address: str,
        credentials: grpc.ChannelCredentials | None,
        token: Token | None,
        retry_timeout_seconds: float,
    ) -> None:
        self.address = address
        self._credentials = credentials
        self._token = token
        self._retry_timeout_seconds = retry_timeout_seconds

    def run(self, work: Work[_Result]) -> _Result:
        async def call() -> _Result:
            async with AsyncClient(
                self.address,
                credentials=self._credentials,
                token=self._token,
                retry_timeout_seconds=self._retry_timeout_seconds,
            ) as client:
                return await work(client)

        return runner.run(call())


class LocalService:
    """Started for the work and stopped after it."""

    address = "the local stack"

    def __init__(self, stack: "Stack", activity: terminal.Activity) -> None:
        self.stack = stack
        self._activity = activity

    def run(self, work: Work[_Result]) -> _Result:
        from videoanalysis.stack.stack import StackError

        async def started() -> _Result:
            async with AsyncExitStack() as entered:
                with self._activity:
                    await entered.enter_async_context(self.stack)
                client = await entered.enter_async_context(AsyncClient(self.stack.address))
                result = await self.stack.guard(_awaited(work(client)))
                with self._activity:
                    self._activity.show_step("stopping")
                    await entered.aclose()
            return result

        return runner.run(started(), StackError)


async def _awaited(work: Awaitable[_Result]) -> _Result:
    return await work


@contextmanager
def errors_named(address: str) -> Iterator[None]:
    """Surrounds a call: adds the remedy to errors of gRPC itself and of the time limit."""
    try:
        yield
    except Unimplemented as error:
        raise Unimplemented(f"{address} is no ingress of this release: {error.message}", reason=error.reason) from error
    except (Unavailable, DeadlineExceeded) as error:
        if error.reason != error.default_reason:
            raise
        named = (
            Unavailable(f"no answer from {address}: {error.message}; check host and port, and --tls")
            if isinstance(error, Unavailable)
            else DeadlineExceeded(f"{error.message}; allow more with --timeout")
        )
        named.partial = error.partial
        raise named from error


def locate(
    address: str | None,
    *,
    tls: bool,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    token_file: Path | None,
    model: str | None,
    engine: Literal["siglip", "synthetic"],
    activity: terminal.Activity,
    retry_timeout_seconds: float = RETRY_TIMEOUT_SECONDS,
) -> RemoteService | LocalService:
    """The service of these options; ends the process with a usage error if they contradict each other."""
    options.check_model(model, engine)
    if address is not None:
        if model is not None or engine != "siglip":
            runner.usage_error("--model and --engine apply to a local stack, not to the service at --address")
        credentials = options.credentials(tls, ca, cert, key)
        return RemoteService(address, credentials, options.token(token_file), retry_timeout_seconds)
    if tls or ca or cert or key or token_file:
        runner.usage_error("--tls, --ca, --cert, --key and --token-file apply to the service at --address")
    with runner.require_stack("; or name a running service with --address HOST:PORT"):
        from videoanalysis.stack.stack import Stack
    return LocalService(Stack(model=model, engine=engine, on_step=activity.show_step), activity)
