"""A service for tests: `python tests/sleeper.py`.

`Sleep` answers twice, as many seconds apart as the request says. `Fill` answers without end.

Settings come from SLEEPER_… environment variables.
"""

import asyncio
from collections.abc import AsyncIterator

import grpc
from pydantic_settings import SettingsConfigDict

from videoanalysis import logs, metrics
from videoanalysis.server import Server, exit_on_signals
from videoanalysis.settings import ServiceSettings, exit_on_invalid_file, read_settings

SERVICE = "videoanalysis.test.Sleeper"
METHOD = f"/{SERVICE}/Sleep"


class SleeperSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="SLEEPER_")

    host: str = "127.0.0.1"
    port: int = 0
    grace_seconds: float = 10
    start_seconds: float = 0


async def sleep(request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    yield b"asleep"
    await asyncio.sleep(float(request))
    yield b"awake"


async def fill(request: bytes, context: grpc.aio.ServicerContext) -> None:
    while True:
        await context.write(bytes(1 << 16))


async def serve(settings: SleeperSettings) -> None:
    print("starting", flush=True)
    await asyncio.sleep(settings.start_seconds)
    server = Server(settings, [SERVICE])
    methods = {
        "Sleep": grpc.unary_stream_rpc_method_handler(sleep),
        "Fill": grpc.unary_stream_rpc_method_handler(fill),
    }
    server.grpc.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
    async with server:
        await server.serve_until_terminated()


if __name__ == "__main__":
    exit_on_signals()
    settings = read_settings(SleeperSettings)
    logs.configure(settings.log_level, settings.log_format)
    with exit_on_invalid_file(), metrics.listen(settings, [SERVICE]):
        asyncio.run(serve(settings))
