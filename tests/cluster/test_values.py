"""The values of a run are valid for the chart's closed schema."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from services.encoder.settings import EncoderSettings
from services.ingress.settings import IngressSettings
from tests.cluster.values import Values, from_zero, own_values, upgraded, with_another_model

CHART = Path(__file__).parents[2] / "helm" / "video-analysis"


def merged(base: Any, over: Any) -> Any:
    """As helm merges: maps by key, anything else is replaced."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return base | {key: merged(base.get(key), value) for key, value in over.items()}


def whole(own: Values) -> Values:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    return merged(merged(values, yaml.safe_load((CHART / "values-local.yaml").read_text())), own)


def check(own: Values) -> None:
    jsonschema.validate(whole(own), json.loads((CHART / "values.schema.json").read_text()))


def test_the_chart_accepts_the_values_and_their_changes():
    values = own_values("keda", 3)
    check(values)

    for change in (with_another_model, from_zero, lambda values: upgraded(values, "now")):
        before = yaml.safe_dump(values)
        change(values)
        assert yaml.safe_dump(values) != before
        check(values)


def test_the_schema_is_closed():
    with pytest.raises(jsonschema.ValidationError, match="maxreplicas"):
        check({"encoder": {"autoscaling": {"maxreplicas": 3}}})


def test_the_services_have_these_settings():
    values = own_values("keda", 3)

    assert set(values["encoder"]["settings"]) <= set(EncoderSettings.model_fields)
    assert set(values["ingress"]["settings"]) <= set(IngressSettings.model_fields)


def test_a_long_video_ends_within_the_grace_of_its_ingress():
    """The clip's 40 s as 20 chunks of 64 frames, by one encoder: four times the usual frames in four times the time."""
    values = own_values("keda", 3)

    seconds = 20 * 4 * values["encoder"]["settings"]["synthetic_service_ms"] / 1000
    assert seconds < 0.5 * values["ingress"]["shutdown"]["graceSeconds"]
