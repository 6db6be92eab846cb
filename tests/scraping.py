"""What autoscalers and Prometheus read, read as they do."""

import re
import socket
import urllib.request
from contextlib import suppress

from prometheus_client.parser import text_string_to_metric_families

SCALING_SELECTORS = {
    service: f'videoanalysis_queue_depth{{service="{service}"}}' for service in ("ingress", "encoder", "decoder")
}


def fetch(port: int, path: str, host: str = "127.0.0.1") -> str:
    with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=10) as response:
        assert response.status == 200
        return str(response.read().decode())


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """By name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    return samples(text)[name, frozenset(labels.items())]


def as_keda_reads(text: str, value_location: str) -> float:
    """The first sample of that name with these labels, as KEDA's metrics-api trigger reads it (`format: prometheus`).

    Labels are compared for equality; others that a sample has do not matter. KeyError where there is none.
    """
    name, labels = re.fullmatch(r"(\w+)(?:\{(.*)\})?", value_location).groups("")  # type: ignore[union-attr]
    wanted = set(re.findall(r'(\w+)="([^"]*)"', labels))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and wanted <= set(sample.labels.items()):
                return sample.value
    raise KeyError(value_location)


def depths(port: int) -> tuple[float, ...]:
    """Of ingress, encoder and decoder."""
    text = fetch(port, "/scaling")
    return tuple(as_keda_reads(text, selector) for selector in SCALING_SELECTORS.values())


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
