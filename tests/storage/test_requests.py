"""How requests reach a store: regions, redirects, addressing, payers, certificates and proxies."""

import ssl
from pathlib import Path

import pytest

from tests.certificates import self_signed
from tests.proxying import connect_proxy
from tests.storage.fake_s3 import Refusal, fake_s3
from videoanalysis.errors import FailedPrecondition, ServiceError, Unavailable
from videoanalysis.storage import S3Uri, Storage
from videoanalysis.v1.error_reason_pb2 import ErrorReason

CLIP = S3Uri("videos", "clip")
KEYS = ("key", "secret")
ATTEMPTS = 2


def opened(endpoint: str, **options: object):
    return Storage.open(endpoint, "us-east-1", KEYS, attempts=ATTEMPTS, backoff_seconds=0.001, **options)


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(400, "AuthorizationHeaderMalformed", members="<Region>eu-west-1</Region>"),
        Refusal(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-1"}),
        Refusal(307, "TemporaryRedirect", headers={"x-amz-bucket-region": "eu-west-1"}),
        Refusal(400, "IllegalLocationConstraintException", headers={"x-amz-bucket-region": "eu-west-1"}),
    ],
)
async def test_the_region_that_a_store_names_is_followed_once(refusal):
    async with fake_s3(refusal) as store, opened(store.endpoint) as storage:
        await storage.list(CLIP)
        regions = [request.headers["Authorization"].split("/")[2] for request in store.requests]
        assert regions == ["us-east-1", "eu-west-1"]
        store.requests.clear()
        store.always = refusal
        with pytest.raises(ServiceError):
            await storage.list(CLIP)
        assert len(store.requests) <= 2 * ATTEMPTS


@pytest.mark.parametrize("region", ["evil.example/", "a" * 100, "x.y", "us-east-1:80", ""])
async def test_what_is_no_name_of_a_region_is_not_followed(region):
    refusal = Refusal(400, "AuthorizationHeaderMalformed", members=f"<Region>{region}</Region>")
    async with fake_s3(always=refusal) as store, opened(store.endpoint) as storage:
        with pytest.raises(FailedPrecondition) as caught:
            await storage.list(CLIP)
        assert caught.value.reason == ErrorReason.STORAGE_MISCONFIGURED
        assert len(store.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_store_cannot_send_its_clients_elsewhere(status):
    async with fake_s3() as elsewhere:
        redirect = Refusal(status, headers={"Location": f"{elsewhere.endpoint}/videos/clip"})
        async with fake_s3(always=redirect) as store, opened(store.endpoint) as storage:
            for call in (storage.stat(CLIP), storage.list(CLIP), storage.write(CLIP, b"content", "text/plain")):
                with pytest.raises(ServiceError):
                    await call
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("style", "host", "path"),
    [
        ("auto", "storage.example", "/videos/clip"),
        ("path", "storage.example", "/videos/clip"),
        ("virtual", "videos.storage.example", "/clip"),
    ],
)
async def test_a_bucket_is_addressed_in_the_path_or_in_the_host(style, host, path, monkeypatch):
    async with fake_s3() as store, opened("http://storage.example", addressing_style=style) as storage:
        monkeypatch.setenv("HTTP_PROXY", store.endpoint)  # so that every host leads to it
        await storage.stat(CLIP)
        assert (store.requests[-1].host, store.requests[-1].path) == (host, path)


async def test_the_addressing_of_the_aws_settings_holds_where_none_is_named(monkeypatch, tmp_path):
    settings = tmp_path / "config"
    settings.write_text("[default]\ns3 =\n  addressing_style = virtual\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(settings))
    async with fake_s3() as store, opened("http://storage.example") as storage:
        monkeypatch.setenv("HTTP_PROXY", store.endpoint)
        await storage.stat(CLIP)
        assert store.requests[-1].host == "videos.storage.example"


async def test_requests_are_unsigned_and_the_requester_pays_where_that_is_set():
    async with fake_s3() as store:
        async with opened(store.endpoint) as storage:
            await storage.stat(CLIP)
        async with Storage.open(store.endpoint, "us-east-1", unsigned=True, request_payer=True) as storage:
            await storage.stat(CLIP)
            await storage.list(CLIP)
            await storage.write(CLIP, b"content", "text/plain")
    signed, *unsigned = store.requests
    assert "Authorization" in signed.headers
    assert "x-amz-request-payer" not in signed.headers
    assert len(unsigned) == 3
    for request in unsigned:
        assert "Authorization" not in request.headers
        assert request.headers["x-amz-request-payer"] == "requester"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A CA bundle, and a server's side with a certificate of it for 127.0.0.1."""
    bundle = self_signed(tmp_path_factory.mktemp("tls"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(bundle)
    return bundle, tls


async def test_a_certificate_that_is_not_trusted_ends_the_call_and_a_ca_bundle_makes_it_trusted(certificate):
    bundle, tls = certificate
    async with fake_s3(tls=tls) as store:
        async with opened(store.endpoint) as storage:
            with pytest.raises(FailedPrecondition, match="CA bundle") as caught:
                await storage.stat(CLIP)
            assert caught.value.reason == ErrorReason.STORAGE_MISCONFIGURED
        async with opened(store.endpoint, ca_bundle=bundle) as storage:
            await storage.stat(CLIP)


async def test_a_ca_bundle_that_cannot_be_read_is_reported_when_the_storage_is_opened(tmp_path):
    with pytest.raises(FailedPrecondition) as caught:
        async with opened("https://127.0.0.1:1", ca_bundle=tmp_path / "missing"):
            pass
    assert caught.value.reason == ErrorReason.STORAGE_MISCONFIGURED


async def test_a_proxy_is_used_for_all_but_no_proxy_and_certificates_are_verified_behind_it(certificate, monkeypatch):
    bundle, tls = certificate
    async with fake_s3(tls=tls) as store, connect_proxy(store.endpoint.removeprefix("https://")) as (proxy, requested):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        # The proxy leads to the store, whatever host is requested.
        async with opened("https://server.invalid", ca_bundle=bundle) as storage:
            await storage.stat(CLIP)
            assert requested == ["server.invalid:443"]
        for endpoint, trusted in (("https://other.invalid", bundle), ("https://server.invalid", None)):
            async with opened(endpoint, ca_bundle=trusted) as storage:
                with pytest.raises(FailedPrecondition, match="CA bundle"):
                    await storage.stat(CLIP)
        assert len(requested) == 3
        monkeypatch.setenv("NO_PROXY", ".invalid")
        async with opened("https://server.invalid", ca_bundle=bundle) as storage:
            with pytest.raises(Unavailable):  # the name does not exist
                await storage.stat(CLIP)
        async with opened(store.endpoint, ca_bundle=bundle) as storage:
            await storage.stat(CLIP)  # loopback
        assert len(requested) == 3


async def test_a_proxy_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    async with opened("https://storage.example:443") as storage:
        with pytest.raises(Unavailable, match="proxy"):
            await storage.stat(CLIP)
