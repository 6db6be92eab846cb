"""Analyses the sample clip repeatedly and concurrently until SIGTERM; prints a line of JSON for each call.

The source is run by `python -c` in a pod of the ingress's image, so it imports only the library. Calls in progress are
finished. With the library's `client`, a call that it repeats and that then succeeds counts as successful. `unary` calls
are those of a plain gRPC channel, which repeats nothing.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc

from videoanalysis.client import AsyncClient
from videoanalysis.errors import ServiceError
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceStub

# Returns the model of the answer; what it repeats, it adds to the list.
Analyze = Callable[[list[ServiceError]], Awaitable[str]]

VIDEO = "sample://clip"
ROUND_ROBIN = ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}))


@asynccontextmanager
async def client_calls(address: str, timeout_seconds: float, options: dict[str, Any]) -> AsyncIterator[Analyze]:
    async with AsyncClient(address) as client:

        async def analyze(retries: list[ServiceError]) -> str:
            on_retry = partial(_remember, retries)
            analysis = await client.analyze(VIDEO, timeout_seconds=timeout_seconds, on_retry=on_retry, **options)
            return analysis.model.digest

        yield analyze


@asynccontextmanager
async def unary_calls(address: str, timeout_seconds: float, options: dict[str, Any]) -> AsyncIterator[Analyze]:
    async with grpc.aio.insecure_channel(f"dns:///{address}", options=[ROUND_ROBIN]) as channel:
        stub = VideoAnalysisServiceStub(channel)

        async def analyze(_: list[ServiceError]) -> str:
            request = AnalyzeVideoRequest(video_uri=VIDEO, **options)
            response = await stub.AnalyzeVideo(request, timeout=timeout_seconds)
            digest: str = response.model.digest
            return digest

        yield analyze


CALLS = {"client": client_calls, "unary": unary_calls}


async def main(
    kind: str, address: str, concurrency: int, calls: int, timeout_seconds: float, options: dict[str, Any]
) -> None:
    """`calls` 0 means until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    left = calls or sys.maxsize

    async def call_again_and_again(analyze: Analyze) -> None:
        nonlocal left
        while left > 0 and not ended.is_set():
            left -= 1
            retries: list[ServiceError] = []
            began = time.time()
            line: dict[str, Any] = {"began": began}
            try:
                line |= {"model": await analyze(retries), "error": ""}
            except ServiceError as error:
                line |= {"model": "", "error": f"{type(error).__name__}: {error}"}
            except grpc.aio.AioRpcError as error:
                line |= {"model": "", "error": f"{error.code().name}: {error.details()}"}
            print(json.dumps(line | {"ended": time.time(), "retries": [str(error) for error in retries]}), flush=True)
            if line["error"]:
                # Avoids a tight loop of calls while the service is unavailable.
                await asyncio.sleep(0.5)

    async with CALLS[kind](address, timeout_seconds, options) as analyze, asyncio.TaskGroup() as tasks:
        print(json.dumps({"ready": True}), flush=True)
        for _ in range(concurrency):
            tasks.create_task(call_again_and_again(analyze))


def _remember(retries: list[ServiceError], error: ServiceError, *_: float) -> None:
    retries.append(error)


if __name__ == "__main__":
    _kind, _address, _concurrency, _calls, _timeout, _options = sys.argv[1:]
    asyncio.run(main(_kind, _address, int(_concurrency), int(_calls), float(_timeout), json.loads(_options)))
