"""The parts of a release that an upgrade must not change: names of data and addresses, and immutable fields.

    python -m tests.chart.identity

writes it down for the chart as it is, at a release.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.chart.cluster import cluster, install
from tests.chart.helm import CHART, CUSTOM_KINDS, Rendered

RELEASED = Path(__file__).parent / "released"
# Sets of values under which each kind of object is there.
RENDERINGS = ("local", "production")


def identities() -> dict[str, dict[str, Any]]:
    """Of the chart as it is, by set of values."""
    with (
        tempfile.TemporaryDirectory() as directory,
        cluster(Path(directory), version="1.35", custom_kinds=CUSTOM_KINDS) as environment,
    ):
        return {values: identity(install(environment, values)[0]) for values in RENDERINGS}


def identity(rendered: Rendered) -> dict[str, Any]:
    """By kind and name."""
    found: dict[str, Any] = {}
    for item in rendered:
        spec = item.get("spec", {})
        match item["kind"]:
            case "Deployment":
                kept = {"selector": spec["selector"]}
            case "Service":
                kept = {
                    "headless": spec.get("clusterIP") == "None",
                    "ports": sorted(port["port"] for port in spec["ports"]),
                }
            case "PersistentVolumeClaim":
                kept = {"accessModes": spec["accessModes"], "storageClassName": spec.get("storageClassName")}
            case "Secret":
                kept = {"type": item["type"], "keys": sorted(item["data"])}
            case "ServiceAccount" | "ScaledObject" | "RoleBinding":
                kept = {"roleRef": item["roleRef"]} if "roleRef" in item else {}
            case _:
                continue
        found[f"{item['kind']}/{item['metadata']['name']}"] = kept
    return found


def main() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    (RELEASED / f"{version}.json").write_text(json.dumps(identities(), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
