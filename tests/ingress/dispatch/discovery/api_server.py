"""A stand-in for the Kubernetes API server: it lists the EndpointSlices of one service and lets them be watched."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from kubernetes.aio.client import Configuration

PATH = "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
POD = {"ready": True, "serving": True, "terminating": False}


def endpoint_slice(
    name: str,
    *addresses: str,
    port: int = 50052,
    port_name: str = "grpc",
    conditions: Mapping[str, bool] = POD,
    pods: tuple[str, ...] = (),
) -> dict[str, Any]:
    """All its endpoints in the same condition; `pods` are the uids of those behind the addresses."""
    endpoints = [{"addresses": [address], "conditions": dict(conditions)} for address in addresses]
    for endpoint, pod in zip(endpoints, pods, strict=False):
        endpoint["targetRef"] = {"kind": "Pod", "uid": pod}
    return {
        "metadata": {"name": name},
        "addressType": "IPv6" if any(":" in address for address in addresses) else "IPv4",
        "endpoints": endpoints or None,
        "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
    }


class ApiServer:
    """Versions count the changes. What was before `forget` can no longer be watched from."""

    def __init__(self) -> None:
        self.slices: dict[str, dict[str, Any]] = {}
        self.history: list[dict[str, Any]] = []
        self.lists = 0
        self.watches: list[dict[str, str]] = []
        self.refuse_with: int | None = None
        self.configuration = Configuration()
        self._oldest = 0
        self._connections: set[asyncio.Transport] = set()
        self._changed = asyncio.Condition()
        self._ended = 0

    async def put(self, item: dict[str, Any]) -> None:
        name = item["metadata"]["name"]
        kind = "MODIFIED" if name in self.slices else "ADDED"
        await self._record(kind, item)
        self.slices[name] = item

    async def delete(self, name: str) -> None:
        await self._record("DELETED", self.slices.pop(name))

    async def bookmark(self) -> None:
        await self._record("BOOKMARK", {"metadata": {}})

    async def forget(self) -> None:
        """As when etcd is compacted: watches get 410 Gone, by an event or, later, at once."""
        self._oldest = len(self.history) + 1
        await self._record("ERROR", {"code": 410, "reason": "Expired", "message": "too old resource version"})

    async def end_watches(self) -> None:
        """In good order, as when their time is over."""
        async with self._changed:
            self._ended += 1
            self._changed.notify_all()

    def cut_connections(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    async def until_watched(self, times: int = 1) -> None:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.watches) >= times)

    async def _record(self, kind: str, item: dict[str, Any]) -> None:
        async with self._changed:
            item["metadata"] = item.get("metadata", {}) | {"resourceVersion": str(len(self.history) + 1)}
            self.history.append({"type": kind, "object": item})
            self._changed.notify_all()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.query["labelSelector"] == "kubernetes.io/service-name=encoder"
        if self.refuse_with is not None:
            return web.json_response({"kind": "Status"}, status=self.refuse_with)
        if "watch" in request.query:
            return await self._watch(request)
        self.lists += 1
        version = str(len(self.history))
        return web.json_response({"metadata": {"resourceVersion": version}, "items": list(self.slices.values())})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        seen = int(request.query["resourceVersion"])
        async with self._changed:
            self.watches.append(dict(request.query))
            self._changed.notify_all()
            ended_before = self._ended
        if seen < self._oldest - 1:
            return web.json_response({"kind": "Status", "code": 410}, status=410)
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        self._connections.add(transport := request.transport)
        try:
            while True:
                async with self._changed:
                    while len(self.history) == seen and self._ended == ended_before:
                        await self._changed.wait()
                    news, seen = self.history[seen:], len(self.history)
                for event in news:
                    line = json.dumps(event).encode() + b"\n"
                    # An event need not come in one piece.
                    await response.write(line[:20])
                    await response.write(line[20:])
                    if event["type"] == "ERROR":
                        return response
                if self._ended > ended_before:
                    return response
        finally:
            self._connections.discard(transport)


@asynccontextmanager
async def api_server() -> AsyncIterator[ApiServer]:
    server = ApiServer()
    app = web.Application()
    app.router.add_get(PATH.format(namespace="videos"), server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        server.configuration = Configuration(
            host=f"http://127.0.0.1:{port}", client_session_kwargs={"trust_env": False}
        )
        yield server
    finally:
        await runner.cleanup()
