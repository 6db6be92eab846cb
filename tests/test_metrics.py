"""What Prometheus reads of every service, before anything has happened, and where."""

import itertools
import subprocess
import sys
import urllib.error
from pathlib import Path

import grpc
import pytest

from tests.scraping import fetch, has_ipv6, samples, value
from tests.sleeper import SleeperSettings
from videoanalysis import metrics
from videoanalysis.v1 import decoder_pb2

SERVICE = decoder_pb2.DESCRIPTOR.services_by_name["DecoderService"].full_name
ROOT = Path(__file__).parents[1]
METHODS = ["DecodeChunk", "RankTexts", "RankVideo", "ListTextBanks"]


def test_without_a_port_nothing_is_served():
    with metrics.listen(SleeperSettings(), [SERVICE]) as port:
        assert port is None


def test_the_registry_is_served_until_it_is_left():
    with metrics.listen(SleeperSettings(metrics_port=0), [SERVICE]) as port:
        assert "python_info" in fetch(port, "/metrics")
    with pytest.raises(urllib.error.URLError):
        fetch(port, "/metrics")


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_they_are_served_on_ipv6_alone(host):
    with metrics.listen(SleeperSettings(host=host, metrics_port=0), [SERVICE]) as port:
        assert fetch(port, "/metrics", host="[::1]")


def test_every_method_and_status_is_there_at_zero_before_the_first_call():
    # In a process of its own: others count calls of their own servers.
    program = f"""
from tests.scraping import fetch
from tests.sleeper import SleeperSettings
from videoanalysis import metrics
from videoanalysis.v1 import decoder_pb2
with metrics.listen(SleeperSettings(metrics_port=0, log_level="error"), ["{SERVICE}"]) as port:
    print(fetch(port, "/metrics"))
"""
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    text = printed[printed.index("# HELP") :]
    for method in METHODS:
        labels = {"grpc_type": "unary", "grpc_service": SERVICE, "grpc_method": method}
        assert value(text, "grpc_server_started_total", **labels) == 0
        assert value(text, "grpc_server_handling_seconds_count", **labels) == 0
    handled = {labels for name, labels in samples(text) if name == "grpc_server_handled_total"}
    of_service = [dict(labels) for labels in handled if ("grpc_service", SERVICE) in labels]
    assert {(labels["grpc_method"], labels["grpc_code"]) for labels in of_service} >= set(
        itertools.product(METHODS, ["OK", "Canceled", "DeadlineExceeded", "ResourceExhausted", "Unavailable"])
    )
    assert len(of_service) == len(METHODS) * len(grpc.StatusCode)


def test_the_longest_video_has_a_bucket():
    with metrics.listen(SleeperSettings(metrics_port=0), [SERVICE]) as port:
        text = fetch(port, "/metrics")
    bounds = {
        float(dict(labels)["le"]) for name, labels in samples(text) if name == "grpc_server_handling_seconds_bucket"
    }
    assert {0.005, 1800.0, float("inf")} <= bounds


def test_the_four_forms_of_a_method_have_their_names():
    forms = [
        metrics.method_labels("/a.B/C", client_streaming=client, server_streaming=server)[0]
        for client, server in itertools.product([False, True], repeat=2)
    ]
    assert forms == ["unary", "server_stream", "client_stream", "bidi_stream"]
    assert metrics.method_labels("/a.b.C/D", client_streaming=False, server_streaming=False)[1:] == ("a.b.C", "D")


@pytest.mark.parametrize(
    ("code", "label"),
    [
        (grpc.StatusCode.OK, "OK"),
        (grpc.StatusCode.CANCELLED, "Canceled"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "ResourceExhausted"),
        (grpc.StatusCode.INTERNAL, "Internal"),
    ],
)
def test_codes_are_spelt_as_public_dashboards_spell_them(code, label):
    assert metrics.code_label(code) == label
