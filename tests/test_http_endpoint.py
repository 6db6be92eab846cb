import socket
import threading
import time
import urllib.error
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry, Gauge

from tests.scraping import fetch, has_ipv6
from videoanalysis.http_endpoint import serve


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Gauge("answers", "Of this test.", registry=registry)
    return registry


@pytest.fixture
def port(registry: CollectorRegistry) -> Iterator[int]:
    with serve(registry, "127.0.0.1", 0) as port:
        yield port


def connect(port: int, stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))


def test_300_connections_that_send_nothing_use_few_threads_and_a_scrape_answers(port):
    before = threading.active_count()
    with ExitStack() as stack:
        for _ in range(300):
            connect(port, stack)
        assert "answers 0.0" in fetch(port, "/metrics")
        assert threading.active_count() <= before + 16


def test_connections_that_send_a_byte_now_and_then_are_closed_and_a_scrape_answers(registry):
    with serve(registry, "127.0.0.1", 0, connection_seconds=0.5) as port, ExitStack() as stack:
        slow = [connect(port, stack) for _ in range(16)]
        for connection in slow:
            connection.setblocking(False)
        closed: set[socket.socket] = set()
        deadline = time.monotonic() + 30
        while len(closed) < len(slow):
            assert time.monotonic() < deadline
            for connection in set(slow) - closed:
                try:
                    connection.send(b"G")
                    if connection.recv(1) == b"":
                        closed.add(connection)
                except BlockingIOError:
                    pass
                except OSError:
                    closed.add(connection)
            assert "answers 0.0" in fetch(port, "/metrics")
            time.sleep(0.1)


def test_clients_that_do_not_read_the_answer_are_closed(registry):
    for number in range(50):
        Gauge(f"long_{number}", "x" * 160_000, registry=registry)  # more than socket buffers hold
    with serve(registry, "127.0.0.1", 0) as port, ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.connect(("127.0.0.1", port))
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert "answers 0.0" in fetch(port, "/metrics")


def test_leaving_closes_what_is_open(registry):
    with ExitStack() as stack:
        with serve(registry, "127.0.0.1", 0) as port:
            client = connect(port, stack)
            fetch(port, "/metrics")
        assert client.recv(1) == b""
        with pytest.raises(urllib.error.URLError):
            fetch(port, "/metrics")


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_every_address_of_both_families_is_one_host(registry, host):
    with serve(registry, host, 0) as port:
        assert fetch(port, "/metrics", host="127.0.0.1")
        assert fetch(port, "/metrics", host="[::1]")


def test_a_host_name_is_resolved(registry):
    with serve(registry, "localhost", 0) as port:
        assert fetch(port, "/metrics", host="localhost")
