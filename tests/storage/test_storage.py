"""Against a real S3 protocol server, and against one made by hand where storage must misbehave."""

import asyncio
import hashlib
import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from aiobotocore.session import AioSession

from tests.storage.downloads import download
from videoanalysis.errors import FailedPrecondition, InvalidInput, NotFound, PermissionDenied, Unavailable
from videoanalysis.storage import S3Uri, Storage, StoredObject
from videoanalysis.v1.error_reason_pb2 import ErrorReason

MIB = 1 << 20


# URIs


@pytest.mark.parametrize(
    ("uri", "bucket", "key"),
    [
        ("s3://videos/clip.mp4", "videos", "clip.mp4"),
        ("s3://my.videos-2/a/b c/ü?#%20.mp4", "my.videos-2", "a/b c/ü?#%20.mp4"),
        ("s3://videos//a//b/", "videos", "/a//b/"),
        ("s3://videos/" + "k" * 1024, "videos", "k" * 1024),
    ],
)
def test_the_key_of_a_uri_is_taken_as_it_stands(uri, bucket, key):
    parsed = S3Uri.parse(uri, "video_uri")
    assert (parsed.bucket, parsed.key) == (bucket, key)
    assert str(parsed) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "videos/clip.mp4",
        "S3://videos/clip.mp4",
        "https://videos/clip.mp4",
        "s3:/videos/clip.mp4",
        "s3://",
        "s3://videos",
        "s3://videos/",
        "s3:///clip.mp4",
        "s3://Videos/clip.mp4",
        "s3://user:secret@videos/clip.mp4",
        "s3://videos:80/clip.mp4",
        "s3://v/clip.mp4",
        "s3://-videos/clip.mp4",
        "s3://" + "v" * 64 + "/clip.mp4",
        "s3://videos/a\nb",
        "s3://videos/a\x00b",
        "s3://videos/" + "k" * 1025,
        "s3://videos/" + "ü" * 513,
    ],
)
def test_a_malformed_uri_is_refused_by_the_name_of_its_field(uri):
    with pytest.raises(InvalidInput, match=r"^video_uri: ") as refusal:
        S3Uri.parse(uri, "video_uri")
    assert (refusal.value.field, refusal.value.reason) == ("video_uri", ErrorReason.MALFORMED_URI)


# A real server


@pytest.mark.parametrize("key", ["clip.mp4", "a//b/", "ü ?#%20+&=.mp4", "../other/clip", "/clip"])
async def test_what_is_written_is_read_under_any_key(storage, bucket, key):
    uri = S3Uri(bucket, key)
    await storage.write(uri, b"content", "text/plain")
    assert await storage.read(uri, 7) == b"content"
    assert [found.uri for found in await storage.list(S3Uri(bucket, ""))] == [uri]


async def test_a_file_is_sent_as_well_as_bytes(storage, bucket, tmp_path):
    content = bytes(range(256)) * 40_000
    (tmp_path / "clip").write_bytes(content)
    with (tmp_path / "clip").open("rb") as file:
        await storage.write(S3Uri(bucket, "clip"), file, "video/mp4")
    assert await storage.read(S3Uri(bucket, "clip"), len(content)) == content


async def multipart_uploads(s3_endpoint: str, bucket: str) -> list[object]:
    """Those begun and neither completed nor aborted."""
    async with AioSession().create_client("s3", endpoint_url=s3_endpoint) as client:
        return (await client.list_multipart_uploads(Bucket=bucket)).get("Uploads", [])


@pytest.mark.parametrize("pieces", [0, 3, 25])
async def test_an_upload_in_pieces_is_the_object_of_all_of_them(storage, bucket, s3_endpoint, pieces):
    data = [bytes([index]) * 1_000_000 for index in range(pieces)]
    async with storage.upload(S3Uri(bucket, "pieces"), "text/plain") as upload:
        for piece in data:
            await upload.write(piece)
        assert await storage.list(S3Uri(bucket, "")) == []
        await upload.complete()
    assert await storage.read(S3Uri(bucket, "pieces"), 1 << 30) == b"".join(data)
    assert await multipart_uploads(s3_endpoint, bucket) == []


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_an_upload_that_ends_with_an_error_leaves_nothing_behind(storage, bucket, s3_endpoint, error):
    async def failing_upload() -> None:
        async with storage.upload(S3Uri(bucket, "pieces"), "text/plain") as upload:
            await upload.write(bytes(20_000_000))
            assert len(await multipart_uploads(s3_endpoint, bucket)) == 1
            raise error

    with pytest.raises(error):
        await failing_upload()
    assert await storage.list(S3Uri(bucket, "")) == []
    assert await multipart_uploads(s3_endpoint, bucket) == []


async def test_an_upload_that_restarts_forgets_what_was_written(storage, bucket, s3_endpoint):
    async with storage.upload(S3Uri(bucket, "pieces"), "text/plain") as upload:
        await upload.write(bytes(20_000_000))
        await upload.restart()
        await upload.write(b"new")
        await upload.complete()
    assert await storage.read(S3Uri(bucket, "pieces"), 1 << 30) == b"new"
    assert await multipart_uploads(s3_endpoint, bucket) == []


async def test_stat_gives_size_and_etag(storage, bucket):
    uri = S3Uri(bucket, "clip")
    await storage.write(uri, b"content", "text/plain")
    assert await storage.stat(uri) == StoredObject(uri, 7, f'"{hashlib.md5(b"content").hexdigest()}"')


async def test_list_gives_what_lies_under_the_prefix(storage, bucket):
    for key in ("banks/a", "banks/deep/b", "bank", "other/c"):
        await storage.write(S3Uri(bucket, key), key.encode(), "text/plain")
    found = await storage.list(S3Uri(bucket, "banks/"))
    assert [(str(one.uri), one.size) for one in found] == [
        (f"s3://{bucket}/banks/a", 7),
        (f"s3://{bucket}/banks/deep/b", 12),
    ]
    assert found[0] == await storage.stat(found[0].uri)
    assert await storage.list(S3Uri(bucket, "nothing/")) == []


async def test_a_missing_object_or_bucket_is_not_found(storage, bucket):
    for uri in (S3Uri(bucket, "missing"), S3Uri(f"{bucket}-missing", "clip")):
        for call in (
            storage.stat(uri),
            storage.read(uri, 10),
            download(storage, StoredObject(uri, 1, '"e"'), io.BytesIO()),
        ):
            with pytest.raises(NotFound, match=re.escape(str(uri))) as missing:
                await call
            assert missing.value.reason == ErrorReason.OBJECT_NOT_FOUND
    with pytest.raises(NotFound):
        await storage.list(S3Uri(f"{bucket}-missing", ""))
    with pytest.raises(NotFound):
        await storage.write(S3Uri(f"{bucket}-missing", "clip"), b"", "text/plain")


async def test_an_object_over_the_limit_is_not_read(storage, bucket):
    uri = S3Uri(bucket, "clip")
    await storage.write(uri, b"content", "text/plain")
    with pytest.raises(FailedPrecondition, match="over 6 bytes") as refusal:
        await storage.read(uri, 6)
    assert refusal.value.reason == ErrorReason.OBJECT_OVER_LIMIT


async def test_progress_is_awaited_after_each_block(storage, bucket):
    uri, content, file = S3Uri(bucket, "clip"), bytes(range(256)) * 10_000, io.BytesIO()
    await storage.write(uri, content, "video/mp4")
    reported = []

    async def on_progress(done: int) -> None:
        await asyncio.sleep(0)
        reported.append((done, file.getvalue() == content[:done]))

    await download(storage, await storage.stat(uri), file, on_progress)
    assert file.getvalue() == content
    assert len(reported) > 1
    assert [done for done, _ in reported] == sorted({done for done, _ in reported})
    assert reported[-1] == (len(content), True)
    assert all(whole for _, whole in reported)


async def test_an_empty_object_is_downloaded(storage, bucket):
    uri, file = S3Uri(bucket, "clip"), io.BytesIO()
    await storage.write(uri, b"", "video/mp4")
    await download(storage, await storage.stat(uri), file)
    assert file.getvalue() == b""


async def test_an_object_that_changed_after_it_was_measured_is_refused(storage, bucket):
    uri, file = S3Uri(bucket, "clip"), io.BytesIO()
    await storage.write(uri, b"before", "video/mp4")
    measured = await storage.stat(uri)
    await storage.write(uri, b"after!", "video/mp4")
    with pytest.raises(FailedPrecondition, match="changed") as refusal:
        await download(storage, measured, file)
    assert refusal.value.reason == ErrorReason.OBJECT_CHANGED
    assert file.getvalue() == b""


async def test_a_proxy_of_the_environment_is_not_meant_for_loopback(s3_endpoint, s3_credentials, bucket, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with Storage.open(s3_endpoint, attempts=1) as storage:
        assert await storage.list(S3Uri(bucket, "")) == []


# A server that misbehaves


@dataclass(frozen=True)
class Mishap:
    """What befalls one request: it is answered with `status`, or with `sent` bytes of the body and then no more."""

    status: int = 206
    sent: int = 0
    silent: bool = False
    ignores_range: bool = False


@dataclass
class Store:
    """A server of one object; each GET takes the next of `mishaps`, and is as it should be when there are none left."""

    content: bytes = bytes(range(256)) * 16
    mishaps: list[Mishap] = field(default_factory=list)
    # Answer everything with this status.
    refusal: int = 0
    # Answer nothing.
    silent: bool = False
    starts: list[int] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def measured(self) -> StoredObject:
        return StoredObject(S3Uri("videos", "clip"), len(self.content), '"tag"')

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if self.silent:
                await reader.read()
            if "100-continue" in head:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if length := re.search(r"content-length: (\d+)", head):
                await reader.readexactly(int(length[1]))
            await self._answer(head, reader, writer)
        writer.close()

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requested = re.search(r"range: bytes=(\d+)-", head)
        mishap = self.mishaps.pop(0) if requested and self.mishaps else Mishap(sent=len(self.content))
        status = self.refusal or (mishap.status if requested else 200)
        if status >= 300:
            writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            return
        start = int(requested[1]) if requested and not mishap.ignores_range else 0
        size = len(self.content)
        lines = [f"HTTP/1.1 {status} OK", 'ETag: "tag"', f"Content-Length: {size - start}", "Connection: close"]
        if requested and not mishap.ignores_range:
            lines.append(f"Content-Range: bytes {start}-{size - 1}/{size}")
        writer.write("\r\n".join([*lines, "", ""]).encode())
        if requested:
            self.starts.append(start)
            writer.write(self.content[start : start + mishap.sent])
            await writer.drain()
        if mishap.silent:
            await reader.read()
            self.left.set()


@asynccontextmanager
async def serving(store: Store, *, attempts: int = 2, silence_seconds: float = 5) -> AsyncIterator[Storage]:
    server = await asyncio.start_server(store.serve, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        server,
        Storage.open(
            endpoint, "us-east-1", ("key", "secret"), attempts=attempts, silence_seconds=silence_seconds
        ) as storage,
    ):
        yield storage


async def downloaded(store: Store, **options: float) -> bytes:
    async with serving(store, **options) as storage:
        file = io.BytesIO()
        await download(storage, store.measured, file)
        return file.getvalue()


async def test_a_server_without_faults_gets_one_request():
    store = Store()
    assert await downloaded(store) == store.content
    assert store.starts == [0]


async def test_a_broken_transfer_goes_on_where_it_stopped():
    store = Store(mishaps=[Mishap(sent=1000), Mishap(sent=500)])
    assert await downloaded(store) == store.content
    assert store.starts == [0, 1000, 1500]


async def test_a_silent_transfer_goes_on_where_it_stopped():
    store = Store(mishaps=[Mishap(sent=1000, silent=True)])
    assert await downloaded(store, silence_seconds=0.1) == store.content
    assert store.starts == [0, 1000]


async def test_reading_survives_a_broken_transfer_too():
    store = Store(mishaps=[Mishap(sent=1000)])
    async with serving(store) as storage:
        assert await storage.read(store.measured.uri, 10_000) == store.content


async def test_a_server_error_is_retried():
    store = Store(mishaps=[Mishap(status=500)])
    assert await downloaded(store) == store.content


async def test_only_attempts_in_a_row_that_bring_nothing_are_counted():
    store = Store(mishaps=[Mishap(sent=100), Mishap()] * 3)
    assert await downloaded(store, attempts=2) == store.content
    assert store.starts == [0, 100, 100, 200, 200, 300, 300]


async def test_a_transfer_that_never_sends_data_fails_finally():
    store = Store(mishaps=[Mishap(sent=100), Mishap(), Mishap()])
    with pytest.raises(Unavailable, match="broke off") as given_up:
        await downloaded(store, attempts=2)
    assert given_up.value.reason == ErrorReason.STORAGE_UNAVAILABLE


async def test_a_response_of_another_range_is_rejected():
    store = Store(mishaps=[Mishap(sent=1000), Mishap(sent=4096, ignores_range=True)])
    with pytest.raises(Unavailable, match="cannot send the rest alone"):
        await downloaded(store)


async def test_an_object_that_changes_during_a_broken_transfer_is_refused():
    store = Store(mishaps=[Mishap(sent=1000), Mishap(status=412)])
    with pytest.raises(FailedPrecondition, match="changed"):
        await downloaded(store)


async def test_leaving_a_download_closes_its_connection():
    store = Store(mishaps=[Mishap(sent=1000, silent=True)])
    async with serving(store) as storage:
        begun = asyncio.Event()

        async def on_progress(done: int) -> None:
            begun.set()

        reading = asyncio.create_task(download(storage, store.measured, io.BytesIO(), on_progress))
        await asyncio.wait_for(begun.wait(), 5)
        reading.cancel()
        await asyncio.wait_for(store.left.wait(), 1)


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (400, FailedPrecondition, ErrorReason.OBJECT_NOT_READABLE),
        (401, PermissionDenied, ErrorReason.STORAGE_ACCESS_DENIED),
        (403, PermissionDenied, ErrorReason.STORAGE_ACCESS_DENIED),
        (404, NotFound, ErrorReason.OBJECT_NOT_FOUND),
        (503, Unavailable, ErrorReason.STORAGE_UNAVAILABLE),
    ],
)
async def test_every_refusal_is_a_service_error(status, kind, reason):
    store = Store(refusal=status)
    uri = store.measured.uri
    async with serving(store, attempts=1) as storage:
        for call in (
            storage.stat(uri),
            storage.read(uri, 10),
            download(storage, store.measured, io.BytesIO()),
            storage.write(uri, b"content", "text/plain"),
            storage.list(S3Uri(uri.bucket, "clips/")),
        ):
            with pytest.raises(kind) as refusal:
                await call
            assert refusal.value.reason == reason
            assert refusal.value.message.startswith("s3://videos/cl")


async def test_storage_that_never_answers_is_unavailable():
    store = Store(silent=True)
    uri = store.measured.uri
    async with serving(store, attempts=1, silence_seconds=0.1) as storage:
        for call in (storage.stat(uri), storage.list(uri), storage.write(uri, io.BytesIO(b"content"), "text/plain")):
            with pytest.raises(Unavailable, match="did not answer"):
                await call


async def test_storage_without_a_server_is_unavailable(unused_tcp_port):
    async with Storage.open(
        f"http://127.0.0.1:{unused_tcp_port}", "us-east-1", ("key", "secret"), attempts=1
    ) as storage:
        with pytest.raises(Unavailable, match="did not answer"):
            await storage.stat(S3Uri("videos", "clip"))


async def test_missing_credentials_of_the_service_are_reported(s3_endpoint, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    async with Storage.open(s3_endpoint, "us-east-1") as storage:
        with pytest.raises(PermissionDenied, match="no credentials"):
            await storage.stat(S3Uri("videos", "clip"))
