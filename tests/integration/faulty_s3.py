"""A proxy between a client and a real S3 server that fails on demand, as storage does."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto

from aiohttp import ClientSession, ClientTimeout, web


class Fault(Enum):
    ERROR_500 = auto()
    SLOW = auto()
    RESET = auto()
    SHORT_BODY = auto()


class FaultyS3:
    """Answers the next calls for objects, one fault each, as long as there are `faults`; then as the real one."""

    def __init__(self) -> None:
        self.upstream = ""
        self.faults: deque[Fault] = deque()
        self.committed: list[Fault] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        async with (
            ClientSession(timeout=ClientTimeout(total=30), auto_decompress=False) as session,
            session.request(
                request.method,
                self.upstream + request.raw_path,
                headers={**request.headers, "Host": request.host},
                data=body,
                allow_redirects=False,
            ) as answer,
        ):
            content = await answer.read()
            headers = {
                name: value
                for name, value in answer.headers.items()
                if name.lower() not in ("transfer-encoding", "connection")
            }
            if request.method == "GET" and self.faults:
                fault = self.faults.popleft()
                self.committed.append(fault)
                return await self._commit(fault, request, answer.status, headers, content)
            if request.method == "HEAD":
                return web.Response(status=answer.status, headers=headers)
            return web.Response(status=answer.status, headers=headers, body=content)

    async def _commit(
        self, fault: Fault, request: web.Request, status: int, headers: dict[str, str], content: bytes
    ) -> web.StreamResponse:
        match fault:
            case Fault.ERROR_500:
                return web.Response(status=500, text="<Error><Code>InternalError</Code></Error>")
            case Fault.SLOW:
                response = web.StreamResponse(status=status, headers=headers)
                await response.prepare(request)
                for start in range(0, len(content), 4096):
                    await response.write(content[start : start + 4096])
                    await asyncio.sleep(0.02)
                return response
            case Fault.RESET | Fault.SHORT_BODY:
                response = web.StreamResponse(status=status, headers=headers)
                await response.prepare(request)
                await response.write(content[: len(content) // 2])
                assert request.transport is not None
                if fault is Fault.RESET:
                    request.transport.abort()
                else:
                    request.transport.close()
                return response


@asynccontextmanager
async def faulty_s3(port: int) -> AsyncIterator[FaultyS3]:
    server = FaultyS3()
    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield server
    finally:
        await runner.cleanup()
