import threading
import urllib.request

import pytest

from services.ingress.admission import Demand
from services.ingress.scaling_endpoint import scaling_endpoint
from tests.scraping import SCALING_SELECTORS, as_keda_reads, depths, fetch, has_ipv6, samples


def test_has_the_three_numbers_from_the_start_and_nothing_else():
    with scaling_endpoint(Demand(), "127.0.0.1", 0) as port:
        read = samples(fetch(port, "/scaling"))
    assert read == {
        ("videoanalysis_queue_depth", frozenset({("service", service)})): 0 for service in SCALING_SELECTORS
    }


def test_keda_reads_each_number_by_its_own_selector():
    demand = Demand()
    with (
        scaling_endpoint(demand, "127.0.0.1", 0) as port,
        demand.request(),
        demand.request(),
        demand.request(),
        demand.video(),
        demand.texts(),
        demand.decoder_call(),
    ):
        text = fetch(port, "/scaling")
        assert [as_keda_reads(text, selector) for selector in SCALING_SELECTORS.values()] == [3, 2, 1]
    with pytest.raises(KeyError):
        as_keda_reads(text, 'videoanalysis_queue_depth{service="encoders"}')


def test_what_it_tells_is_a_gauge_in_the_text_format():
    with scaling_endpoint(Demand(), "127.0.0.1", 0) as port:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/scaling?a=b")
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert b"\n# TYPE videoanalysis_queue_depth gauge\n" in response.read()


async def test_it_answers_while_the_event_loop_is_blocked():
    demand = Demand()
    read: list[tuple[float, ...]] = []
    with scaling_endpoint(demand, "127.0.0.1", 0) as port, demand.request():
        reader = threading.Thread(target=lambda: read.append(depths(port)))
        reader.start()
        # Nothing else runs on this loop until it is there.
        reader.join(10)
        assert read == [(1, 0, 0)]


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_it_is_served_on_ipv6_alone():
    with scaling_endpoint(Demand(), "::1", 0) as port:
        assert fetch(port, "/scaling", host="[::1]")


def test_a_port_in_use_is_an_error():
    with (
        scaling_endpoint(Demand(), "127.0.0.1", 0) as port,
        pytest.raises(OSError, match="in use"),
        scaling_endpoint(Demand(), "127.0.0.1", port),
    ):
        pass


def test_once_it_is_left_the_port_is_free():
    with scaling_endpoint(Demand(), "127.0.0.1", 0) as port:
        pass
    with scaling_endpoint(Demand(), "127.0.0.1", port):
        assert depths(port) == (0, 0, 0)
