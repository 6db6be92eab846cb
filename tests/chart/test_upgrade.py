"""Upgrades from released charts are possible and lose no data."""

import json
from typing import Any

import pytest

from tests.chart.helm import render
from tests.chart.identity import RELEASED, RENDERINGS, identities


@pytest.fixture(scope="module")
def now() -> dict[str, dict[str, Any]]:
    return identities()


@pytest.mark.parametrize("values", RENDERINGS)
@pytest.mark.parametrize("version", [path.stem for path in RELEASED.glob("*.json")])
def test_an_upgrade_keeps_selectors_addresses_volumes_and_secrets(now, version, values):
    released = json.loads((RELEASED / f"{version}.json").read_text())[values]
    assert any(name.startswith("Deployment/") for name in released)
    assert {name: now[values].get(name) for name in released} == released


@pytest.mark.parametrize(
    "changes",
    [
        {"image": {"tag": "9.9.9"}},
        {"autoscaling": {"mode": "none"}},
        {"model": {"source": "synthetic"}, "discovery": "dns"},
        {"commonLabels": {"team": "other"}, "ingress": {"podLabels": {"a": "b"}}},
    ],
    ids=["image", "autoscaling", "model", "labels"],
)
def test_no_value_changes_a_selector(changes):
    def selectors(changes: dict) -> dict:
        return {name: item["spec"]["selector"] for name, item in render("local", changes).deployments().items()}

    assert selectors(changes) == selectors({})
