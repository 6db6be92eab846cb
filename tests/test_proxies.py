"""Which URLs are reached through a proxy."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from videoanalysis.channels import connect
from videoanalysis.proxies import proxy_of
from videoanalysis.server import READINESS

PROXY = "http://proxy:3128"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("", "https://s3.amazonaws.com/clip", False),
        ("*", "https://s3.amazonaws.com/clip", True),
        ("example.com", "https://example.com/clip", True),
        ("example.com", "https://a.b.example.com/clip", True),
        ("example.com", "https://notexample.com/clip", False),
        (".example.com", "https://a.example.com/clip", True),
        (".example.com", "https://example.com/clip", True),
        ("*.example.com", "https://a.example.com/clip", True),
        ("EXAMPLE.com", "https://a.Example.COM./clip", True),
        ("a.org, example.com ,b.org", "https://example.com/clip", True),
        ("a.org example.com", "https://example.com/clip", True),
        ("example.com:9000", "https://example.com:9000/clip", True),
        ("example.com:9000", "https://example.com/clip", False),
        ("example.com:443", "https://example.com/clip", True),
        ("10.1.2.3", "https://10.1.2.3/clip", True),
        ("10.1.2.3", "https://10.1.2.30/clip", False),
        ("10.1.2.3:9000", "https://10.1.2.3:9000/clip", True),
        ("2.3", "https://10.1.2.3/clip", False),
        ("10.0.0.0/8", "https://10.1.2.3/clip", True),
        ("10.0.0.1/8", "https://10.1.2.3/clip", True),
        ("10.0.0.0/8", "https://11.1.2.3/clip", False),
        ("10.0.0.0/8", "https://ten.example.com/clip", False),
        ("fd00::/8", "https://[fd00::1]/clip", True),
        ("fd00::1", "https://[fd00:0::1]:9000/clip", True),
        ("[fd00::1]:9000", "https://[fd00::1]:9000/clip", True),
        ("[fd00::1]:9000", "https://[fd00::1]/clip", False),
        (".svc,.cluster.local", "http://minio.storage.svc:9000/clip", True),
        ("", "http://localhost:9000/clip", True),
        ("", "http://127.0.0.2:9000/clip", True),
        ("", "http://[::1]:9000/clip", True),
        (",, ,/,:,[]", "https://example.com/clip", False),
        ("10.0.0.0/99,example", "https://example.com/clip", False),
    ],
)
def test_no_proxy_names_hosts_domains_addresses_and_networks(no_proxy, url, direct, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_of(url) == (None if direct else PROXY)


def test_each_scheme_has_its_proxy(monkeypatch):
    assert proxy_of("https://example.com") is None
    monkeypatch.setenv("all_proxy", "all:1")
    assert proxy_of("https://example.com") == "http://all:1"
    monkeypatch.setenv("https_proxy", "https://user:pass@secure:2")
    monkeypatch.setenv("HTTP_PROXY", "http://plain:3")
    assert proxy_of("https://example.com") == "https://user:pass@secure:2"
    assert proxy_of("http://example.com") == "http://plain:3"


async def test_grpc_between_the_services_never_uses_a_proxy(monkeypatch):
    server = grpc.aio.server()
    servicer = health.HealthServicer()
    await servicer.set(READINESS, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for while_ready in (False, True):
        async with connect(f"127.0.0.1:{port}", while_ready=while_ready) as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
    # The proxy that does not answer is what gRPC would use by default.
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
    await server.stop(None)
