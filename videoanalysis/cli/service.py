"""The service that a command calls: one at an address, or a local stack that is started for the command."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import grpc

from videoanalysis.cli import options, runner, terminal
from videoanalysis.client import AsyncClient, Token
from videoanalysis.errors import Unavailable

if TYPE_CHECKING:
    from videoanalysis.stack.stack import Stack

_Result = TypeVar("_Result")
# What a command does with a client of the service.
Work = Callable[[AsyncClient], Awaitable[_Result]]


class RemoteService:
    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None, token: Token | None) -> None:
        self.address = address
        self._credentials = credentials
        self._token = token

    def run(self, work: Work[_Result], activity: terminal.Activity) -> _Result:
        async def call() -> _Result:
            with activity:
                async with AsyncClient(self.address, credentials=self._credentials, token=self._token) as client:
                    try:
                        return await work(client)
                    except Unavailable as error:
                        if error.reason != Unavailable.default_reason:
                            raise
                        # A reason of gRPC's, such as a refused connection.
                        raise Unavailable(f"no answer from {self.address}: {error.message}") from error

        return runner.run(call())


class LocalService:
    """Started for one call and stopped after it."""

    def __init__(self, stack: "Stack") -> None:
        self.stack = stack

    def run(self, work: Work[_Result], activity: terminal.Activity) -> _Result:
        from videoanalysis.stack.stack import StackError

        async def call() -> _Result:
            async with AsyncClient(self.stack.address) as client:
                return await work(client)

        async def started() -> _Result:
            with activity:
                async with self.stack:
                    activity.show_step(f"calling the ingress at {self.stack.address}")
                    result = await self.stack.guard(call())
                    activity.show_step("stopping")
            return result

        return runner.run(started(), StackError)


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
) -> RemoteService | LocalService:
    """As the options say; ends the process with a usage error where they contradict each other."""
    options.check_model(model, engine)
    if address is not None:
        if model is not None or engine != "siglip":
            runner.usage_error("--model and --engine apply to a local stack, not to the service at --address")
        return RemoteService(address, options.credentials(tls, ca, cert, key), options.token(token_file))
    if tls or ca or cert or key or token_file:
        runner.usage_error("--tls, --ca, --cert, --key and --token-file apply to the service at --address")
    with runner.require_extra("stack"):
        from videoanalysis.stack.stack import Stack
    return LocalService(Stack(model=model, engine=engine, on_step=activity.show_step))
