"""The chart's own values as the capacity simulation reads them."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtest.errors import InvalidOption
from loadtest.simulate import values
from loadtest.simulate.ingresses import IngressLimits
from loadtest.simulate.plan import ENCODER_PERMITS
from services.encoder.settings import EncoderSettings
from services.ingress.settings import IngressSettings
from videoanalysis.scaling.arithmetic import Policy


def chart() -> dict[str, Any]:
    return values.read([values.CHART])


def test_reads_the_values_of_the_chart():
    deployment = values.deployment(chart())
    ingress, encoder, decoder = (deployment.services[name] for name in ("ingress", "encoder", "decoder"))

    assert [one.autoscaling and one.autoscaling.target for one in (ingress, encoder, decoder)] == [2, 2, 2]
    assert ingress.autoscaling is not None
    assert encoder.autoscaling is not None
    assert (ingress.autoscaling.min_replicas, ingress.autoscaling.max_replicas) == (2, 20)
    assert encoder.autoscaling.max_replicas == 10
    # One pod per five minutes.
    assert ingress.autoscaling.scale_down.policies == (Policy("Pods", 1, 300),)
    assert ingress.grace_seconds >= 600
    assert encoder.autoscaling.fallback is not None
    assert encoder.autoscaling.fallback.behavior == "currentReplicasIfHigher"


NEEDED = [
    "autoscaling.mode",
    "autoscaling.keda.pollingInterval",
    "autoscaling.keda.failureThreshold",
    "ingress.settings",
    "encoder.settings",
    *(
        f"{service}.{key}"
        for service in ("ingress", "encoder", "decoder")
        for key in (
            "replicas",
            "autoscaling.minReplicas",
            "autoscaling.maxReplicas",
            "autoscaling.target",
            "autoscaling.cooldownPeriod",
            "autoscaling.behavior.scaleUp",
            "autoscaling.behavior.scaleDown",
            "shutdown.preStopSeconds",
            "shutdown.drainDelaySeconds",
            "shutdown.graceSeconds",
        )
    ),
]


def without(content: dict[str, Any], key: str) -> dict[str, Any]:
    content = copy.deepcopy(content)
    *parents, last = key.split(".")
    section = content
    for name in parents:
        section = section[name]
    del section[last]
    return content


@pytest.mark.parametrize("key", NEEDED)
def test_a_key_that_the_chart_renames_is_an_error_that_names_it(key: str):
    with pytest.raises(InvalidOption, match=key):
        values.deployment(without(chart(), key))


def paths(content: object, path: str = "") -> Iterator[str]:
    if isinstance(content, dict):
        for name, value in content.items():
            yield from paths(value, f"{path}.{name}".lstrip("."))
    else:
        yield path


def test_every_autoscaling_key_of_the_chart_is_read():
    """A new key of the chart fails here until it is read."""
    present = {
        path
        for service in ("ingress", "encoder", "decoder")
        for path in paths(chart()[service]["autoscaling"], f"{service}.autoscaling")
    }
    of_behavior = {
        f"{service}.autoscaling.behavior.{direction}.{key}"
        for service in ("ingress", "encoder", "decoder")
        for direction in ("scaleUp", "scaleDown")
        for key in ("stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance")
    }

    assert present <= {*NEEDED, *of_behavior}


def test_defaults_are_those_of_the_services():
    limits, ingress = IngressLimits(), IngressSettings.model_fields

    assert (limits.max_videos, limits.max_waiting, limits.chunks_ahead) == (
        ingress["max_videos"].default,
        ingress["max_waiting"].default,
        ingress["chunks_ahead"].default,
    )
    assert EncoderSettings.model_fields["max_in_flight"].default == ENCODER_PERMITS


def test_settings_of_the_services_are_used():
    content = chart()
    content["ingress"]["settings"] = {"max_videos": 8, "max_waiting": 16}
    content["encoder"]["settings"] = {"max_in_flight": 3}

    deployment = values.deployment(content)

    assert deployment.ingress_limits == IngressLimits(max_videos=8, max_waiting=16)
    assert deployment.encoder_permits == 3


def test_later_files_and_single_values_override_earlier_ones(tmp_path: Path):
    over = tmp_path / "over.yaml"
    over.write_text(yaml.safe_dump({"encoder": {"autoscaling": {"minReplicas": 3, "maxReplicas": 30}}}))

    read = values.read([values.CHART, over], ["encoder.autoscaling.maxReplicas=40", "autoscaling.mode=keda"])

    rule = values.deployment(read).services["encoder"].autoscaling
    assert rule is not None
    assert (rule.min_replicas, rule.max_replicas, rule.target) == (3, 40, 2)


def test_without_an_autoscaler_the_replicas_are_fixed():
    deployment = values.deployment(values.read([values.CHART], ["autoscaling.mode=none", "encoder.replicas=7"]))

    assert deployment.services["encoder"].autoscaling is None
    assert deployment.services["encoder"].initial == 7


def test_without_keda_there_is_neither_zero_nor_a_fallback():
    read = values.read([values.CHART], ["autoscaling.mode=hpa", "encoder.autoscaling.minReplicas=0"])

    rule = values.deployment(read).services["encoder"].autoscaling
    assert rule is not None
    assert (rule.min_replicas, rule.fallback) == (1, None)


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("encoder.autoscaling.minReplica=1", "minReplica"),
        ("encoder.autoscaling.minReplicas", "must be like"),
        ("encoder.autoscaling.minReplicas=many", "minReplicas"),
        ("encoder.autoscaling.minReplicas=99", "encoder.autoscaling: replicas"),
        ("encoder.autoscaling.target=0", "target"),
        ("autoscaling.mode=manual", "autoscaling.mode"),
    ],
)
def test_an_invalid_value_is_rejected_by_name(setting: str, complaint: str):
    with pytest.raises(InvalidOption, match=complaint):
        values.deployment(values.read([values.CHART], [setting]))


def test_an_unreadable_file_is_named(tmp_path: Path):
    with pytest.raises(InvalidOption, match=r"none\.yaml"):
        values.read([tmp_path / "none.yaml"])
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [")
    with pytest.raises(InvalidOption, match=r"bad\.yaml"):
        values.read([bad])
