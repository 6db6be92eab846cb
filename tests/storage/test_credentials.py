"""Credentials that are late, expire or fail are loaded again, without a restart."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiobotocore.credentials import AioCredentials
from aiohttp import web

from tests.storage.fake_s3 import FakeS3, Refusal, fake_s3
from videoanalysis.errors import PermissionDenied, ServiceError, Unavailable
from videoanalysis.storage import S3Uri, Storage
from videoanalysis.storage.credentials import CredentialsUnavailable, RenewedCredentials
from videoanalysis.v1.error_reason_pb2 import ErrorReason

CLIP = S3Uri("videos", "clip")


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@asynccontextmanager
async def late_source(path_answers: dict[str, str]) -> AsyncIterator[str]:
    """Metadata service or STS: answers 500 to paths that are not among `path_answers` (yet)."""

    async def handle(request: web.Request) -> web.Response:
        text = path_answers.get(request.path)
        return web.Response(status=500) if text is None else web.Response(text=text, content_type="text/xml")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def opened(*refusals: Refusal) -> AsyncIterator[tuple[FakeS3, Storage]]:
    async with (
        fake_s3(*refusals) as store,
        Storage.open(store.endpoint, "us-east-1", attempts=2, backoff_seconds=0) as storage,
    ):
        yield store, storage


async def failure(storage: Storage) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await storage.stat(CLIP)
    return caught.value


def key_of(store: FakeS3) -> str:
    """The access key with which the last request was signed."""
    return store.requests[-1].headers["Authorization"].partition("Credential=")[2].partition("/")[0]


CREDENTIALS = {
    "AccessKeyId": "late",
    "SecretAccessKey": "secret",
    "Token": "token",
    "Expiration": "2099-01-01T00:00:00Z",
}


async def test_the_metadata_service_of_the_cloud_may_answer_late(monkeypatch):
    answers: dict[str, str] = {}
    async with late_source(answers) as source, opened() as (store, storage):
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", source)
        error = await failure(storage)
        assert (type(error), error.reason) == (Unavailable, ErrorReason.STORAGE_UNAVAILABLE)
        assert store.requests == []
        answers["/latest/api/token"] = "session"
        answers["/latest/meta-data/iam/security-credentials/"] = "role"
        answers["/latest/meta-data/iam/security-credentials/role"] = json.dumps(CREDENTIALS)
        await storage.stat(CLIP)
        assert key_of(store) == "late"


async def test_the_credentials_endpoint_of_a_container_may_answer_late(monkeypatch):
    answers: dict[str, str] = {}
    async with late_source(answers) as source, opened() as (store, storage):
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{source}/creds")
        monkeypatch.setattr("aiobotocore.utils.AioContainerMetadataFetcher.SLEEP_TIME", 0)
        assert isinstance(await failure(storage), Unavailable)
        answers["/creds"] = json.dumps(CREDENTIALS)
        await storage.stat(CLIP)
        assert key_of(store) == "late"


async def test_a_web_identity_token_may_be_mounted_late_and_its_service_fail_at_first(monkeypatch, tmp_path):
    answers: dict[str, str] = {}
    token = tmp_path / "token"
    async with late_source(answers) as source, opened() as (store, storage):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", source)
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/videos")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        assert isinstance(await failure(storage), Unavailable)  # no token
        token.write_text("token")
        assert isinstance(await failure(storage), Unavailable)  # STS fails
        answers["/"] = (
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
            "<AccessKeyId>late</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>t</SessionToken>"
            "<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
            "</AssumeRoleWithWebIdentityResponse>"
        )
        await storage.stat(CLIP)
        assert key_of(store) == "late"


async def test_a_credentials_file_may_be_mounted_late(tmp_path):
    async with opened() as (store, storage):
        error = await failure(storage)
        assert (type(error), error.reason) == (PermissionDenied, ErrorReason.STORAGE_ACCESS_DENIED)
        assert "no credentials" in error.message
        (tmp_path / "credentials").write_text("[default]\naws_access_key_id = mounted\naws_secret_access_key = s\n")
        await storage.stat(CLIP)
        assert key_of(store) == "mounted"


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
async def test_credentials_that_the_store_rejects_are_read_again_once(code, tmp_path):
    def write(key: str) -> None:
        (tmp_path / "credentials").write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s\n")

    write("old")
    async with opened() as (store, storage):
        await storage.list(CLIP)
        write("new")
        store.refusals.append(Refusal(403, code))
        await storage.list(CLIP)
        assert key_of(store) == "new"
        store.requests.clear()
        store.always = Refusal(403, code)
        with pytest.raises(PermissionDenied):
            await storage.list(CLIP)
        assert len(store.requests) == 2


async def test_half_of_a_key_in_the_environment_is_an_error_and_no_traceback(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "half")
    async with opened() as (_, storage):
        assert isinstance(await failure(storage), ServiceError)


async def test_a_source_that_fails_is_queried_once_for_all_that_wait():
    loads = []

    async def load() -> None:
        loads.append(1)
        raise OSError("no metadata service")

    credentials = RenewedCredentials(load, seconds_between_loads=60)
    for _ in range(3):
        with pytest.raises(CredentialsUnavailable):
            await credentials.get_frozen_credentials()
    assert len(loads) == 1


async def test_temporary_credentials_that_cannot_be_renewed_are_looked_for_in_all_sources_again():
    class Expired:
        async def get_frozen_credentials(self) -> None:
            raise OSError("no renewal")

    sources: list[object] = [Expired(), AioCredentials("second", "secret")]

    async def load() -> object:
        return sources.pop(0)

    credentials = RenewedCredentials(load, seconds_between_loads=0)
    with pytest.raises(CredentialsUnavailable) as unavailable:
        await credentials.get_frozen_credentials()
    assert unavailable.value.may_come
    assert (await credentials.get_frozen_credentials()).access_key == "second"
