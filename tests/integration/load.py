"""Callers that analyse one video after another, without retrying, and what became of each call."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc

from tests.ingress.waiting import until
from videoanalysis.channels import OPTIONS, READY_REPLICAS
from videoanalysis.errors import ServiceError
from videoanalysis.status import from_rpc_error
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest, AnalyzeVideoResponse
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceStub

# Between two calls of a caller: processes that start meanwhile get their share of the processor.
_PAUSE_SECONDS = 0.25


@dataclass
class Calls:
    answers: list[AnalyzeVideoResponse] = field(default_factory=list)
    failures: list[ServiceError] = field(default_factory=list)

    async def more(self, count: int, seconds: float = 30) -> None:
        """Until `count` more calls are answered."""
        wanted = len(self.answers) + count
        await until(lambda: len(self.answers) >= wanted or bool(self.failures), seconds)


def connect(addresses: Sequence[str]) -> grpc.aio.Channel:
    """A channel to several ingresses, each call to the next that is ready: as through a headless Service."""
    target = "ipv4:" + ",".join(addresses)
    return grpc.aio.insecure_channel(target, options=[*OPTIONS, READY_REPLICAS])


@asynccontextmanager
async def load(
    addresses: Sequence[str], request: AnalyzeVideoRequest, *, callers: int = 4, timeout_seconds: float = 30
) -> AsyncIterator[Calls]:
    """Calls from each of `callers`, one shortly after another, until the context is left and the last has ended."""
    calls = Calls()
    over = asyncio.Event()

    async def caller(stub: VideoAnalysisServiceStub) -> None:
        while not over.is_set():
            try:
                calls.answers.append(await stub.AnalyzeVideo(request, timeout=timeout_seconds))
            except grpc.RpcError as error:
                calls.failures.append(from_rpc_error(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    async with connect(addresses) as channel:
        await asyncio.wait_for(channel.channel_ready(), 10)
        stub = VideoAnalysisServiceStub(channel)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(callers):
                tasks.create_task(caller(stub))
            try:
                yield calls
            finally:
                over.set()
