import asyncio
import gzip
import hashlib
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import BinaryIO

import pytest
from aiohttp import web

from services.ingress.admission import ByteBudget
from services.ingress.sources import Allowed, ScratchSpace, Source, Sources
from tests.certificates import self_signed
from tests.proxying import connect_proxy
from videoanalysis.errors import (
    FailedPrecondition,
    InvalidInput,
    NotFound,
    Overloaded,
    PermissionDenied,
    ServiceError,
    Unavailable,
)
from videoanalysis.storage import S3Uri, Storage
from videoanalysis.v1.error_reason_pb2 import ErrorReason

LIMIT = 1 << 20
RANGED = os.urandom(LIMIT - 1)
LOOPBACK = [ip_network("127.0.0.0/8")]


def sources(
    storage: Storage | None = None,
    scratch_dir: Path | None = None,
    trusted: ssl.SSLContext | None = None,
    scratch: ScratchSpace | None = None,
    **allowed: object,
) -> Sources:
    return Sources(
        storage, Allowed(**allowed), scratch or ScratchSpace(ByteBudget(2 * LIMIT), scratch_dir, LIMIT), trusted
    )


async def content(source: Source) -> tuple[bytes, list[tuple[int, int]]]:
    """The content of the file, and the progress that was reported."""
    progress = []

    async def on_progress(done: int, of: int) -> None:
        progress.append((done, of))

    async with source.open(on_progress) as media:
        present = 0
        while present < media.size:
            present = await media.fetch(present, media.size)
        return os.pread(media.fd, 2 * LIMIT, 0), progress


async def version(source: Source) -> str:
    async def ignore(done: int, of: int) -> None: ...

    async with source.open(ignore) as media:
        return media.version


async def refusal(source: Source, allowed: str) -> list[int]:
    """The bytes that were read of a source whose version is not `allowed`; it must be refused."""
    progress = []

    async def on_progress(done: int, of: int) -> None:
        progress.append(done)

    def check(found: str) -> None:
        if found != allowed:
            raise FailedPrecondition("changed", reason=ErrorReason.OBJECT_CHANGED)

    with pytest.raises(FailedPrecondition):
        async with source.open(on_progress, check):
            pass
    return progress


async def failure(source: Source) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await content(source)
    return caught.value


# ---- what may be named


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "clip.mp4",
        "s3://",
        "s3://bucket",
        "s3://bucket/",
        "s3:///key",
        "s3://UPPER_case/key",
        "s3://user@bucket/key",
        "s3://bucket/a\nb",
        "sample://other",
        "http://host/path",
        "ftp://host/path",
        "file://host/path",
        "file:relative",
        "file://[bad/path",
        "file:///a\0b",
        "file:///a%00b",
        "https://",
        "https://user:secret@host/path",
        "https://[bad/path",
        "https://host/a/../b",
        "https://host/a/%2e%2e/b",
    ],
)
def test_refuses_what_names_no_video(uri):
    with pytest.raises(InvalidInput) as caught:
        sources(buckets=["*"], file_roots=[Path("/")], https_prefixes=["https://host"]).locate(uri)
    assert (caught.value.reason, caught.value.field) == (ErrorReason.MALFORMED_URI, "video_uri")


@pytest.mark.parametrize(
    ("uri", "setting"),
    [
        ("s3://other/key.mp4", "INGRESS_ALLOWED_BUCKETS"),
        ("file:///etc/passwd", "INGRESS_ALLOWED_FILE_ROOTS"),
        ("https://host.evil/videos/a.mp4", "INGRESS_ALLOWED_HTTPS_PREFIXES"),
        ("https://host/videos-of-others/a.mp4", "INGRESS_ALLOWED_HTTPS_PREFIXES"),
    ],
)
def test_refuses_what_the_operator_does_not_allow_and_names_the_setting(uri, setting, tmp_path):
    allowed = sources(buckets=["mine"], file_roots=[tmp_path], https_prefixes=["https://host/videos"])
    with pytest.raises(PermissionDenied, match=setting) as caught:
        allowed.locate(uri)
    assert caught.value.field == "video_uri"


def test_nothing_but_the_sample_is_allowed_by_default(tmp_path):
    closed = sources()
    closed.locate("sample://clip")
    for uri in ("s3://bucket/key", f"file://{tmp_path}/a.mp4", "https://host/a.mp4"):
        with pytest.raises(PermissionDenied):
            closed.locate(uri)


def test_a_star_allows_every_bucket():
    sources(buckets=["*"]).locate("s3://any-bucket/key with spaces/ü.mp4")


async def test_the_sample_is_a_video_inside_the_service():
    data, _ = await content(sources().locate("sample://clip"))
    assert data[4:8] == b"ftyp"


async def test_the_sample_has_the_version_of_its_bytes():
    data, _ = await content(sources().locate("sample://clip"))
    assert await version(sources().locate("sample://clip")) == hashlib.sha256(data).hexdigest()


# ---- files


async def test_a_file_that_was_written_again_has_another_version(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"video")
    source = sources(file_roots=[tmp_path]).locate(f"file://{path}")
    first = await version(source)
    assert await version(source) == first
    path.write_bytes(b"other")
    second = await version(source)
    (tmp_path / "b.mp4").write_bytes(b"other")
    os.utime(tmp_path / "b.mp4", ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    (tmp_path / "b.mp4").rename(path)
    assert len({first, second, await version(source)}) == 3
    assert await refusal(source, first) == []


async def test_reads_a_file_under_an_allowed_directory(tmp_path):
    (tmp_path / "a b.mp4").write_bytes(b"video")
    data, progress = await content(sources(file_roots=[tmp_path]).locate(f"file://{tmp_path}/a%20b.mp4"))
    assert data == b"video"
    assert progress == [(5, 5)]


def test_a_link_or_dots_that_lead_out_of_the_directory_are_refused(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (inside / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    for name in ("link.mp4", "../secret.mp4", "%2e%2e/secret.mp4"):
        with pytest.raises(PermissionDenied):
            sources(file_roots=[inside]).locate(f"file://{inside}/{name}")


async def test_each_kind_of_unreadable_file_has_its_error(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "large.mp4").write_bytes(bytes(LIMIT + 1))
    allowed = sources(file_roots=[tmp_path])
    reasons = {
        name: (type(error := await failure(allowed.locate(f"file://{tmp_path}/{name}"))), error.reason)
        for name in ("missing.mp4", "pipe.mp4", "large.mp4")
    }
    assert reasons == {
        "missing.mp4": (NotFound, ErrorReason.OBJECT_NOT_FOUND),
        "pipe.mp4": (InvalidInput, ErrorReason.NOT_A_VIDEO),
        "large.mp4": (FailedPrecondition, ErrorReason.OBJECT_OVER_LIMIT),
    }


# ---- S3


async def test_downloads_an_object_and_leaves_nothing_behind(storage, bucket, tmp_path):
    uri = S3Uri(bucket, "clips/a.mp4")
    body = os.urandom(LIMIT)
    await storage.write(uri, body, "video/mp4")
    data, progress = await content(sources(storage, tmp_path, buckets=[bucket]).locate(str(uri)))
    assert data == body
    assert progress == [(0, LIMIT)]
    assert list(tmp_path.iterdir()) == []


async def test_an_object_has_another_version_once_it_is_replaced_and_is_then_not_downloaded(storage, bucket):
    uri = S3Uri(bucket, "a.mp4")
    await storage.write(uri, b"video", "video/mp4")
    source = sources(storage, buckets=[bucket]).locate(str(uri))
    first = await version(source)
    assert first == await version(source) == (await storage.stat(uri)).etag
    await storage.write(uri, b"other", "video/mp4")
    assert await version(source) != first
    assert await refusal(source, first) == []


async def test_an_object_that_is_replaced_while_it_is_read_is_refused(storage, bucket):
    uri = S3Uri(bucket, "a.mp4")
    await storage.write(uri, b"video", "video/mp4")

    async def replace(done: int, of: int) -> None:
        await storage.write(uri, b"other", "video/mp4")

    async with sources(storage, buckets=[bucket]).locate(str(uri)).open(replace) as media:
        with pytest.raises(FailedPrecondition) as caught:
            await media.fetch(0, media.size)
    assert (caught.value.reason, caught.value.field) == (ErrorReason.OBJECT_CHANGED, "video_uri")


async def test_not_even_while_it_is_open_has_the_download_a_name(storage, bucket, tmp_path):
    uri = S3Uri(bucket, "a.mp4")
    await storage.write(uri, b"video", "video/mp4")

    async def ignore(done: int, of: int) -> None: ...

    async with sources(storage, tmp_path, buckets=[bucket]).locate(str(uri)).open(ignore):
        assert list(tmp_path.iterdir()) == []


async def test_a_missing_object_is_the_fields_fault(storage, bucket):
    error = await failure(sources(storage, buckets=["*"]).locate(f"s3://{bucket}/missing.mp4"))
    assert (type(error), error.field) == (NotFound, "video_uri")
    error = await failure(sources(storage, buckets=["*"]).locate("s3://no-such-bucket/missing.mp4"))
    assert (type(error), error.field) == (NotFound, "video_uri")


async def test_an_object_over_the_limit_is_not_downloaded(storage, bucket):
    uri = S3Uri(bucket, "large.mp4")
    await storage.write(uri, bytes(LIMIT + 1), "video/mp4")
    error = await failure(sources(storage, buckets=["*"]).locate(str(uri)))
    assert (type(error), error.reason) == (FailedPrecondition, ErrorReason.OBJECT_OVER_LIMIT)


async def test_downloads_wait_until_the_scratch_disk_has_room(storage, bucket):
    uri = S3Uri(bucket, "a.mp4")
    await storage.write(uri, bytes(LIMIT), "video/mp4")
    scratch = ScratchSpace(ByteBudget(2 * LIMIT), None, LIMIT)
    source = sources(storage, scratch=scratch, buckets=["*"]).locate(str(uri))
    async with asyncio.TaskGroup() as tasks, scratch.file(LIMIT), scratch.file(LIMIT // 2):
        waiting = tasks.create_task(content(source))
        await asyncio.sleep(0.2)
        assert not waiting.done()
    assert len(waiting.result()[0]) == LIMIT


async def test_a_full_disk_is_overload(storage, bucket):
    uri = S3Uri(bucket, "a.mp4")
    await storage.write(uri, bytes(LIMIT), "video/mp4")
    full = FullDisk(ByteBudget(LIMIT), None, LIMIT)
    error = await failure(sources(storage, scratch=full, buckets=["*"]).locate(str(uri)))
    assert (type(error), error.reason) == (Overloaded, ErrorReason.SCRATCH_FULL)


class FullDisk(ScratchSpace):
    @asynccontextmanager
    async def file(self, size: int | None) -> AsyncIterator[BinaryIO]:
        with await asyncio.to_thread(open, "/dev/full", "wb") as file:
            yield file


# ---- https


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def https_server(certificate: Path) -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/v/clip.mp4":
                return web.Response(body=b"video", headers={"ETag": '"abc"', "Last-Modified": "Mon"})
            case "/v/weak.mp4":
                return web.Response(body=b"video", headers={"ETag": 'W/"abc"', "Last-Modified": "Mon"})
            case "/v/dated.mp4":
                return web.Response(body=b"video", headers={"Last-Modified": "Mon"})
            case "/v/unknown.mp4":
                return web.Response(body=b"video")
            case "/v/moved.mp4":
                raise web.HTTPFound("https://127.0.0.1/elsewhere")
            case "/v/endless.mp4":
                response = web.StreamResponse()
                response.enable_chunked_encoding()
                await response.prepare(request)
                for _ in range(20):
                    await response.write(bytes(LIMIT // 10))
                return response
            case "/v/large.mp4":
                return web.Response(body=bytes(LIMIT + 1))
            case "/v/secret.mp4":
                raise web.HTTPForbidden
            case "/v/rejected.mp4":
                return web.Response(status=451)
            case "/v/busy.mp4":
                return web.Response(status=429)
            case "/v/encoded.mp4":
                headers = {"Content-Encoding": "gzip", "ETag": '"abc"', "Accept-Ranges": "bytes"}
                return web.Response(body=gzip.compress(bytes(LIMIT)), headers=headers)
            case "/v/ranges.mp4":
                return ranged(request, '"abc"')
            case "/v/broken-off.mp4":
                return await broken_off(request, '"abc"')
            case "/v/replaced-after-a-break.mp4":
                return await broken_off(request, '"abc"' if not breaks else '"new"')
            case "/v/another-range.mp4":
                answer = ranged(request, '"abc"')
                answer.headers["Content-Range"] = "bytes 1-10/11"
                return answer
            case "/v/dripping.mp4":
                response = web.StreamResponse(headers={"Content-Length": "1000"})
                await response.prepare(request)
                if request.method == "GET":
                    while True:
                        await response.write(b"x")
                        await asyncio.sleep(0.02)
                return response
            case "/v/no-answer.mp4":
                assert request.transport is not None
                while not request.transport.is_closing():  # a header that does not end
                    request.transport.write(b"HTTP/1.1 200 OK\r\nX: " if request.method == "GET" else b"x")
                    await asyncio.sleep(0.02)
                return web.Response()
            case "/v/silent.mp4":
                return ranged(request, '"abc"') if request.method == "HEAD" else web.Response(status=503)
            case "/v/replaced.mp4":
                return ranged(request, '"abc"' if request.method == "HEAD" else '"new"')
            case "/v/short.mp4":
                response = web.StreamResponse(headers={"Content-Length": "1000"})
                await response.prepare(request)
                if request.method == "GET":
                    await response.write(b"video")
                    assert request.transport is not None
                    request.transport.abort()
                return response
            case "/v/broken.mp4":
                raise web.HTTPBadGateway
        raise web.HTTPNotFound

    breaks: list[int] = []

    async def broken_off(request: web.Request, etag: str) -> web.StreamResponse:
        """Sends three quarters of what is requested, and refuses every second request."""
        answer = ranged(request, etag)
        if request.method == "HEAD" or answer.status != 206:
            return answer
        breaks.append(int(request.headers["Range"].removeprefix("bytes=").split("-")[0]))
        if len(breaks) % 2 == 0:
            return web.Response(status=503)
        body = answer.body
        assert isinstance(body, bytes)
        response = web.StreamResponse(status=206, headers={**answer.headers, "Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: -(len(body) // 4) or None])
        assert request.transport is not None
        request.transport.close()
        return response

    def ranged(request: web.Request, etag: str) -> web.Response:
        headers = {"ETag": etag, "Accept-Ranges": "bytes"}
        if request.method == "HEAD":
            return web.Response(body=RANGED, headers=headers)
        start, end = (int(number) for number in request.headers["Range"].removeprefix("bytes=").split("-"))
        if request.headers["If-Match"] != etag:
            return web.Response(status=412)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(RANGED)}"
        return web.Response(status=206, body=RANGED[start : end + 1], headers=headers)

    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_https_goes_through_the_proxy_of_the_environment(certificate, tmp_path, monkeypatch):
    trusted = ssl.create_default_context(cafile=certificate)
    async with (
        https_server(certificate) as address,
        connect_proxy(address.removeprefix("https://")) as (proxy, requested),
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        allowed = sources(scratch_dir=tmp_path, https_prefixes=["https://server.invalid/v"], trusted=trusted)
        clip = allowed.locate("https://server.invalid/v/clip.mp4")
        assert (await content(clip))[0] == b"video"
        assert set(requested) == {"server.invalid:443"}
        monkeypatch.setenv("NO_PROXY", "invalid")
        assert isinstance(await failure(clip), Unavailable)  # the name does not exist
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        assert "proxy" in (await failure(clip)).message


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "169.254.169.254", "[fd00::1]", "[::ffff:10.0.0.1]", "localhost", "2130706433", "0x7f.1"]
)
async def test_a_private_host_is_refused_before_the_proxy_is_used(host, certificate, monkeypatch):
    async with connect_proxy("127.0.0.1:1") as (proxy, requested):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        allowed = sources(https_prefixes=[f"https://{host}/v"])
        error = await failure(allowed.locate(f"https://{host}/v/clip.mp4"))
        assert (type(error), error.reason) == (PermissionDenied, ErrorReason.HOST_NOT_ALLOWED)
        assert requested == []


async def test_downloads_over_https_and_reports_what_is_wrong(certificate, tmp_path):
    trusted = ssl.create_default_context(cafile=certificate)
    async with https_server(certificate) as address:
        allowed = sources(
            scratch_dir=tmp_path, https_prefixes=[f"{address}/v"], https_networks=LOOPBACK, trusted=trusted
        )
        data, progress = await content(allowed.locate(f"{address}/v/clip.mp4"))
        assert data == b"video"
        assert progress == [(0, 5), (5, 5)]
        expected = {
            "missing": (NotFound, ErrorReason.OBJECT_NOT_FOUND),
            "moved": (InvalidInput, ErrorReason.REDIRECTED),
            "endless": (FailedPrecondition, ErrorReason.OBJECT_OVER_LIMIT),
            "large": (FailedPrecondition, ErrorReason.OBJECT_OVER_LIMIT),
            "secret": (PermissionDenied, ErrorReason.STORAGE_ACCESS_DENIED),
            "broken": (Unavailable, ErrorReason.STORAGE_UNAVAILABLE),
            "busy": (Unavailable, ErrorReason.STORAGE_UNAVAILABLE),
            "rejected": (FailedPrecondition, ErrorReason.OBJECT_NOT_READABLE),
            "encoded": (InvalidInput, ErrorReason.NOT_A_VIDEO),
            "short": (Unavailable, ErrorReason.STORAGE_UNAVAILABLE),
            "replaced": (FailedPrecondition, ErrorReason.OBJECT_CHANGED),
        }
        for name, (kind, reason) in expected.items():
            error = await failure(allowed.locate(f"{address}/v/{name}.mp4"))
            assert (isinstance(error, kind), error.reason) == (True, reason), name
        versions = {
            name: await version(allowed.locate(f"{address}/v/{name}.mp4"))
            for name in ("clip", "weak", "dated", "unknown")
        }
        assert versions == {"clip": '"abc"', "weak": "Mon/5", "dated": "Mon/5", "unknown": ""}
        assert await refusal(allowed.locate(f"{address}/v/clip.mp4"), '"abcd"') == []
        ranged, progress = await content(allowed.locate(f"{address}/v/ranges.mp4"))
        assert (ranged, progress) == (RANGED, [(0, len(RANGED))])
        closed = sources(https_prefixes=[address, address.replace("127.0.0.1", "localhost")], trusted=trusted)
        for host in (address, address.replace("127.0.0.1", "localhost")):
            error = await failure(closed.locate(f"{host}/v/clip.mp4"))
            assert (type(error), error.reason) == (PermissionDenied, ErrorReason.HOST_NOT_ALLOWED)
        distrusting = sources(https_prefixes=[address], https_networks=LOOPBACK)
        assert isinstance(await failure(distrusting.locate(f"{address}/v/clip.mp4")), Unavailable)
    gone = await failure(allowed.locate(f"{address}/v/clip.mp4"))
    assert isinstance(gone, Unavailable)
    assert list(tmp_path.iterdir()) == []


async def test_a_range_that_breaks_off_goes_on_at_the_byte_where_it_stopped(certificate, tmp_path):
    trusted = ssl.create_default_context(cafile=certificate)
    async with https_server(certificate) as address:
        allowed = sources(
            scratch_dir=tmp_path, https_prefixes=[f"{address}/v"], https_networks=LOOPBACK, trusted=trusted
        )
        data, _ = await content(allowed.locate(f"{address}/v/broken-off.mp4"))
        assert data == RANGED


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("replaced-after-a-break", FailedPrecondition, ErrorReason.OBJECT_CHANGED),
        ("silent", Unavailable, ErrorReason.STORAGE_UNAVAILABLE),
        ("another-range", Unavailable, ErrorReason.STORAGE_UNAVAILABLE),
    ],
)
async def test_a_range_fails_once_the_object_has_changed_or_nothing_arrives(certificate, tmp_path, name, kind, reason):
    trusted = ssl.create_default_context(cafile=certificate)
    async with https_server(certificate) as address:
        allowed = sources(
            scratch_dir=tmp_path, https_prefixes=[f"{address}/v"], https_networks=LOOPBACK, trusted=trusted
        )
        error = await failure(allowed.locate(f"{address}/v/{name}.mp4"))
        assert (isinstance(error, kind), error.reason) == (True, reason)


@pytest.mark.parametrize("name", ["dripping", "no-answer"])
async def test_a_server_that_answers_byte_by_byte_is_too_slow(certificate, tmp_path, name):
    trusted = ssl.create_default_context(cafile=certificate)
    async with https_server(certificate) as address:
        allowed = sources(
            scratch_dir=tmp_path, https_prefixes=[f"{address}/v"], https_networks=LOOPBACK, trusted=trusted
        )
        source = replace(allowed.locate(f"{address}/v/{name}.mp4"), pace_seconds=0.2)
        error = await failure(source)
        assert (isinstance(error, Unavailable), error.reason) == (True, ErrorReason.STORAGE_UNAVAILABLE)
