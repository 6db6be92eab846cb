"""A store of one object, over HTTP, with scripted answers; it records the requests."""

import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from multidict import CIMultiDictProxy

CONTENT = bytes(range(256)) * 16
ETAG = '"tag"'


@dataclass(frozen=True)
class Refusal:
    """An answer of this status; with a `code` the body is S3's XML, otherwise it is `body`."""

    status: int
    code: str = ""
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    members: str = ""
    """More XML inside the error."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    host: str
    headers: CIMultiDictProxy[str]
    body: bytes


@dataclass
class FakeS3:
    """Gives the `refusals` in turn, then `always`; without either, it serves its object and takes every other."""

    refusals: deque[Refusal] = field(default_factory=deque)
    always: Refusal | None = None
    requests: list[Request] = field(default_factory=list)
    endpoint: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append(Request(request.method, request.path, request.host, request.headers, body))
        refusal = self.refusals.popleft() if self.refusals else self.always
        if refusal is None:
            return self._serve(request)
        text = refusal.body
        if refusal.code:
            text = (
                f"<?xml version='1.0'?><Error><Code>{refusal.code}</Code><Message>secret-of-the-store</Message>"
                f"{refusal.members}<RequestId>request-1</RequestId><HostId>host-1</HostId></Error>"
            )
        headers = {"x-amz-request-id": "request-1", "x-amz-id-2": "host-1", **refusal.headers}
        return web.Response(status=refusal.status, headers=headers, text=None if request.method == "HEAD" else text)

    def _serve(self, request: web.Request) -> web.StreamResponse:
        headers = {"ETag": ETAG, "Accept-Ranges": "bytes"}
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(CONTENT))})
        if request.method != "GET":
            return web.Response(headers=headers)
        if "list-type" in request.query:
            text = (
                "<?xml version='1.0'?><ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>clip</Key>"
                f"<Size>{len(CONTENT)}</Size><ETag>&quot;tag&quot;</ETag></Contents></ListBucketResult>"
            )
            return web.Response(text=text, content_type="application/xml")
        if "Range" not in request.headers:
            return web.Response(body=CONTENT, headers=headers)
        start, end = (int(number) for number in request.headers["Range"].removeprefix("bytes=").split("-"))
        headers["Content-Range"] = f"bytes {start}-{end}/{len(CONTENT)}"
        return web.Response(status=206, body=CONTENT[start : end + 1], headers=headers)


@asynccontextmanager
async def fake_s3(
    *refusals: Refusal, always: Refusal | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[FakeS3]:
    store = FakeS3(deque(refusals), always)
    application = web.Application(client_max_size=1 << 26)
    application.router.add_route("*", "/{path:.*}", store.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        store.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        yield store
    finally:
        await runner.cleanup()
