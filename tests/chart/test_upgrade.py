"""Upgrades from released charts are possible and lose no data."""

import json

import pytest

from tests.chart.helm import render
from tests.chart.identity import RELEASED, RENDERINGS, identity


@pytest.mark.parametrize("values", RENDERINGS)
@pytest.mark.parametrize("version", [path.stem for path in RELEASED.glob("*.json")])
def test_an_upgrade_keeps_selectors_addresses_volumes_and_secrets(version, values):
    released = json.loads((RELEASED / f"{version}.json").read_text())[values]
    assert any(name.startswith("Deployment/") for name in released)
    now = identity(render(values))
    assert {name: now.get(name) for name in released} == released


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
