"""Invalid values are refused with a sentence that names the key."""

import json
import re

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.chart.helm import CHART, complaint, run


def test_all_missing_required_values_are_reported_at_once():
    complaints = complaint("none", {})
    for key in ("image.registry", "model.source", "allowedBuckets", "textBanks.location"):
        assert f"  {key} is required: " in complaints


def test_an_empty_list_of_buckets_must_be_explicit():
    assert "allowedBuckets is required" in complaint("local", {"allowedBuckets": None})
    assert run("template", "local", {"allowedBuckets": []}).returncode == 0


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("model.directory", {"model": {"source": "baked", "directory": ""}}),
        ("model.claim.name", {"model": {"source": "claim"}}),
        ("model.revision", {"model": {"source": "download"}}),
        ("model.digest", {"model": {"source": "download"}}),
        ("autoscaling.prometheus.serverAddress", {"autoscaling": {"mode": "prometheus"}}),
        ("autoscaling.hpa.metricName", {"autoscaling": {"mode": "hpa"}}),
        (
            "encoder.autoscaling.minReplicas",
            {
                "autoscaling": {"mode": "hpa", "hpa": {"metricName": "depth"}},
                "encoder": {"autoscaling": {"minReplicas": 0}},
            },
        ),
        ("decoder.autoscaling.maxReplicas", {"decoder": {"autoscaling": {"minReplicas": 5, "maxReplicas": 4}}}),
        ("textBanks.build.rooms", {"textBanks": {"build": {"rooms": {"template": "a {}"}}}}),
        ("textBanks.build.rooms", {"textBanks": {"build": {"rooms": {"baked": "x", "configMap": "y"}}}}),
        ("textBanks.build.rooms.descriptions", {"textBanks": {"build": {"rooms": {"tags": ["hall"]}}}}),
        (
            "metrics.serviceMonitor.enabled",
            {"metrics": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}},
        ),
        ("grpcRoute.parentRefs", {"grpcRoute": {"enabled": True}}),
    ],
)
def test_missing_and_contradictory_values_are_named(key, changes):
    assert re.search(rf"^  .*\b{re.escape(key)}\b.*\.$", complaint("local", changes), re.MULTILINE)


WRONG = {
    "/autoscaling/mode": {"autoscaling": {"mode": "kedaa"}},
    "/model/source": {"model": {"source": "hub"}},
    "/model/revision": {"model": {"revision": "main"}},
    "/model/digest": {"model": {"digest": "0123"}},
    "/discovery": {"discovery": "consul"},
    "/textBanks/location": {"textBanks": {"location": "s3://bucket-without-prefix"}},
    "/image/registry": {"image": {"registry": "https://registry.example.com"}},
    "/allowedBuckets/0": {"allowedBuckets": ["s3://media"]},
    "/ingress/autoscaling/minReplicas": {"ingress": {"autoscaling": {"minReplicas": 0}}},
    "/ingress/settings/max_videos": {"ingress": {"settings": {"max_videos": 0}}},
    "/encoder/settings/precision": {"encoder": {"settings": {"precision": "int8"}}},
    "/ports/scaling": {"ports": {"scaling": 0}},
    "/ingress/scratch/sizeLimit": {"ingress": {"scratch": {"sizeLimit": "20GB"}}},
}


@pytest.mark.parametrize("place", WRONG)
def test_a_wrong_value_is_refused_with_its_path(place):
    assert f"at '{place}'" in complaint("local", WRONG[place])


TYPOS = {
    "ingres": {"ingres": {"replicas": 3}},
    "registri": {"image": {"registri": "localhost"}},
    "min": {"encoder": {"autoscaling": {"min": 0}}},
    "grace": {"decoder": {"shutdown": {"grace": 10}}},
    "enable": {"metrics": {"podMonitor": {"enable": True}}},
    "max_video": {"ingress": {"settings": {"max_video": 4}}},
    "limit": {"encoder": {"resources": {"limit": {"memory": "1Gi"}}}},
    "scaleup": {"encoder": {"autoscaling": {"behavior": {"scaleup": {}}}}},
    "config": {"textBanks": {"build": {"rooms": {"config": "x"}}}},
}


@pytest.mark.parametrize("typo", TYPOS)
def test_an_unknown_key_is_refused_by_name(typo):
    assert f"additional properties '{typo}' not allowed" in complaint("local", TYPOS[typo])


def test_a_derived_setting_cannot_be_given():
    message = complaint("local", {"ingress": {"settings": {"port": 6000, "encoders": "dns://elsewhere:50052"}}})
    # Helm names them in no particular order.
    names = "'encoders', 'port'|'port', 'encoders'"
    assert re.search(f"at '/ingress/settings': additional properties ({names}) not allowed", message)


def test_the_schema_is_closed_wherever_values_have_keys():
    """Open objects are intentional: those that Kubernetes defines, and maps of names."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    Draft7Validator.check_schema(schema)
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def unknown(values: dict, schema: dict, path: str) -> list[str]:
        if "$ref" in schema:
            schema = schema_of(schema["$ref"])
        found = []
        for key, value in values.items():
            below = schema.get("properties", {}).get(key)
            if schema.get("additionalProperties") is False and below is None:
                found.append(f"{path}.{key}")
            if isinstance(value, dict) and below is not None:
                found += unknown(value, below, f"{path}.{key}")
        return found

    def schema_of(reference: str) -> dict:
        return schema["definitions"][reference.removeprefix("#/definitions/")]

    assert unknown(values, schema, "") == []
    assert list(Draft7Validator(schema).iter_errors(values)) == []
