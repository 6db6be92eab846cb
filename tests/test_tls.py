"""TLS of a service's ports, with files that are rotated while it serves."""

import asyncio
import signal
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.ingress.waiting import until
from tests.sleeper import METHOD, SERVICE, SleeperSettings, sleep
from videoanalysis import metrics
from videoanalysis.channels import connect
from videoanalysis.server import Server
from videoanalysis.stack.certificates import CertificateAuthority
from videoanalysis.tls import TlsFiles, channel_credentials

ROOT = Path(__file__).parents[1]


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path)


def serving(files: TlsFiles, *, client_ca: Path | None = None, **settings: object) -> SleeperSettings:
    return SleeperSettings(tls_cert=files.cert, tls_key=files.key, tls_client_ca=client_ca, **settings)


@asynccontextmanager
async def sleeper(settings: SleeperSettings) -> AsyncIterator[Server]:
    server = Server(settings, [SERVICE])

    async def peer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return b"".join(context.auth_context().get("x509_pem_cert", []))

    methods = {
        "Sleep": grpc.unary_stream_rpc_method_handler(sleep),
        "Peer": grpc.unary_unary_rpc_method_handler(peer),
    }
    server.grpc.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
    async with server:
        yield server


def channel(server: Server, files: TlsFiles, peer_name: str | None = "server") -> grpc.aio.Channel:
    address = f"127.0.0.1:{server.port}"
    return connect(address, credentials=channel_credentials(files), peer_name=peer_name)


async def call(channel: grpc.aio.Channel, seconds: float = 0) -> None:
    responses = channel.unary_stream(METHOD)(str(seconds).encode(), timeout=30)
    assert [response async for response in responses] == [b"asleep", b"awake"]


def served_serial(server: Server) -> int:
    """Serial number of the certificate that a new connection is shown."""
    pem = ssl.get_server_certificate(("127.0.0.1", server.port))
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def serial(path: Path | None) -> int:
    assert path is not None
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


async def test_the_server_is_verified_by_ca_and_name(authority, tmp_path):
    files = authority.issue("server")
    other = CertificateAuthority(tmp_path, "other")
    async with sleeper(serving(files)) as server:
        async with channel(server, TlsFiles(ca=authority.ca)) as good:
            await call(good)
        for ca, name in ((other.ca, "server"), (authority.ca, "another"), (authority.ca, None)):
            async with channel(server, TlsFiles(ca=ca), name) as bad:
                with pytest.raises(grpc.aio.AioRpcError) as refusal:
                    await call(bad)
                assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_plaintext_is_refused_where_tls_is_on_but_health_has_a_plaintext_port(authority):
    async with sleeper(serving(authority.issue("server"), health_port=0)) as server:
        async with connect(f"127.0.0.1:{server.port}") as plaintext:
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await call(plaintext)
            assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE
        async with connect(f"127.0.0.1:{server.health_port}") as probe:
            request = health_pb2.HealthCheckRequest(service="liveness")
            answer = await health_pb2_grpc.HealthStub(probe).Check(request, timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_caller_without_a_certificate_of_the_client_ca_is_refused(authority, tmp_path):
    files = authority.issue("server")
    stranger = CertificateAuthority(tmp_path, "stranger").issue("stranger-client")
    async with sleeper(serving(files, client_ca=authority.ca)) as server:
        async with channel(server, authority.issue("client")) as good:
            await call(good)
        for caller in (TlsFiles(ca=authority.ca), TlsFiles(stranger.cert, stranger.key, authority.ca)):
            async with channel(server, caller) as bad:
                with pytest.raises(grpc.aio.AioRpcError) as refusal:
                    await call(bad)
                assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("with_tls", [False, True])
async def test_a_connection_that_sends_nothing_is_closed(authority, with_tls):
    files = authority.issue("server") if with_tls else TlsFiles()
    async with sleeper(serving(files, first_message_seconds=0.2)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(20):
            await reader.read()
        writer.close()


async def test_certificates_are_rotated_under_load_without_a_failed_call(authority):
    files = authority.issue("server")
    async with sleeper(serving(files)) as server:
        caller = TlsFiles(ca=authority.ca)
        finished = asyncio.Event()
        calls = 0

        async def load() -> None:
            nonlocal calls
            while not finished.is_set():
                async with channel(server, caller) as fresh:
                    await call(fresh)
                calls += 1

        async with asyncio.TaskGroup() as tasks, channel(server, caller) as old:
            long = tasks.create_task(call(old, 1.0))
            for _ in range(2):
                tasks.create_task(load())
            for _ in range(3):
                authority.issue("server")
                await until(lambda wanted=calls + 4: calls >= wanted)
                assert await asyncio.to_thread(served_serial, server) == serial(files.cert)
            await long
            finished.set()


async def test_an_invalid_new_certificate_leaves_the_old_one_in_use(authority, capsys):
    files = authority.issue("server")
    first = serial(files.cert)
    async with sleeper(serving(files)) as server:
        good = files.cert.read_bytes()
        files.cert.write_bytes(good[: len(good) // 2])
        async with channel(server, TlsFiles(ca=authority.ca)) as fresh:
            await call(fresh)
        assert await asyncio.to_thread(served_serial, server) == first
        assert "changed file rejected" in capsys.readouterr().out
        authority.issue("server")
        assert await asyncio.to_thread(served_serial, server) == serial(files.cert) != first


def scrape(port: int, files: TlsFiles) -> str:
    context = ssl.create_default_context(cafile=files.ca)
    context.check_hostname = False
    if files.cert is not None:
        context.load_cert_chain(files.cert, files.key)
    with urllib.request.urlopen(f"https://127.0.0.1:{port}/metrics", timeout=10, context=context) as response:
        return str(response.read().decode())


def test_metrics_are_served_over_the_same_tls_where_set(authority):
    settings = serving(authority.issue("server"), client_ca=authority.ca, metrics_port=0, metrics_tls=True)
    with metrics.listen(settings, [SERVICE]) as port:
        assert "process_cpu_seconds_total" in scrape(port, authority.issue("prometheus"))
        with pytest.raises((ssl.SSLError, urllib.error.URLError, ConnectionError)):
            scrape(port, TlsFiles(ca=authority.ca))
        authority.issue("server")
        assert "process_cpu_seconds_total" in scrape(port, authority.issue("prometheus"))


async def ended(**settings: object) -> tuple[int | None, str]:
    """Exit code and stderr of a service with these settings, which must end by itself."""
    environment = {
        "PYTHONPATH": str(ROOT),
        **{f"SLEEPER_{name.upper()}": str(value) for name, value in settings.items()},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.sleeper", env=environment, cwd=ROOT, stderr=-1, stdout=-1
    )
    try:
        _, stderr = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
    return process.returncode, stderr.decode()


async def test_files_that_cannot_be_used_end_the_process_with_one_line(authority, tmp_path):
    server, other = authority.issue("server"), authority.issue("other")
    for given, problem in [
        ({"tls_cert": server.cert}, "SLEEPER_TLS_KEY: needed with tls_cert"),
        ({"tls_client_ca": authority.ca}, "SLEEPER_TLS_CLIENT_CA: needs tls_cert"),
        ({"tls_cert": server.cert, "tls_key": tmp_path / "none"}, "SLEEPER_TLS_CERT: "),
        ({"tls_cert": server.cert, "tls_key": other.key}, "SLEEPER_TLS_CERT: "),
        ({"tls_cert": server.cert, "tls_key": server.key, "tls_client_ca": server.key}, "SLEEPER_TLS_CERT: "),
    ]:
        code, stderr = await ended(**given)
        assert (code, stderr.count("\n"), stderr[: len(problem)]) == (2, 1, problem), stderr
