"""The table of metrics, from the collectors that the services register."""

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from docs.generate.page import ROOT, fill, table

PAGE = ROOT / "docs" / "metrics.md"
# The suffixes of the series of a metric, by its type.
_SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"], "gauge": [""]}
# Runs in a process of its own, because a registry belongs to a whole process and each service has only its own metrics.
# Label names are a private attribute of prometheus_client's metrics; a metric without samples shows them nowhere else.
_FAMILIES = """
import json, sys
from prometheus_client import REGISTRY
if sys.argv[1] == "decoder":
    from services.decoder.text_bank_store import TextBankStore
    import services.decoder.metrics
    services.decoder.metrics.register(TextBankStore(None, 1), 1)
else:
    __import__(f"services.{sys.argv[1]}.metrics")
labels = {name: getattr(collector, "_labelnames", ()) for name, collector in REGISTRY._names_to_collectors.items()}
print(json.dumps([(one.name, one.type, one.documentation, labels.get(one.name, ())) for one in REGISTRY.collect()]))
"""
_COLUMNS = ("metric", "type", "labels", "services", "meaning")


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def series(self) -> list[str]:
        """The names by which a query reads it."""
        return [self.name + suffix for suffix in _SUFFIXES[self.kind]]


@cache
def families(service: str) -> list[Family]:
    """The metrics of `service`, without those of the process itself, in order of their names."""
    command = [sys.executable, "-c", _FAMILIES, service]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True)
    found = [Family(name, kind, tuple(labels), text) for name, kind, text, labels in json.loads(ended.stdout)]
    return sorted(
        (one for one in found if one.name.startswith(("videoanalysis_", "grpc_"))), key=lambda family: family.name
    )


def generated() -> dict[Path, str]:
    """The contents of the page of metrics."""
    services: dict[Family, list[str]] = {}
    for service in ("ingress", "encoder", "decoder"):
        for family in families(service):
            services.setdefault(family, []).append(service)
    shared = [family for family, of in services.items() if len(of) > 1]
    rows = [_row(family, services[family]) for family in (*shared, *(one for one in services if one not in shared))]
    return {PAGE: fill(PAGE, {"metrics": table(_COLUMNS, rows)})}


def _row(family: Family, services: list[str]) -> tuple[str, ...]:
    name = family.name if family.kind == "histogram" else family.series[0]
    labels = ", ".join(f"`{label}`" for label in family.labels)
    return f"`{name}`", family.kind, labels, "all" if len(services) == 3 else ", ".join(services), family.meaning
