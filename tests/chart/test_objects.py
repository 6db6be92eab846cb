"""Rendered objects are valid for the API servers of several Kubernetes versions."""

from collections.abc import Iterable

import pytest

from tests.chart import helm, kinds
from tests.chart.helm import CUSTOM_KINDS, KUBERNETES, VALUES, render


@pytest.mark.parametrize("values", VALUES)
def test_helm_lint_reports_nothing(values):
    ended = helm.run("lint", values, arguments=["--strict"])
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_rendering_again_changes_nothing():
    first, second = (helm.run("template", "everything") for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("values", VALUES)
def test_every_object_is_valid(values, kubernetes):
    rendered = render(values, kubernetes=kubernetes)
    assert len(rendered) > 25
    assert [problem for item in rendered for problem in kinds.problems(item, kubernetes)] == []


@pytest.mark.parametrize("mode", ["prometheus", "hpa", "none"])
def test_every_object_is_valid_in_every_autoscaling_mode(mode):
    prometheus = {"serverAddress": "http://prometheus:9090", "authenticationRef": {"name": "prometheus"}}
    served = {"prometheus": prometheus}
    changes = {"autoscaling": {"mode": mode, "hpa": {"metricName": "videoanalysis_queue_depth"}, **served}}
    rendered = render("local", changes)
    assert [problem for item in rendered for problem in kinds.problems(item, KUBERNETES[-1])] == []


def test_validation_finds_a_misspelt_field_and_a_wrong_type():
    deployment = render().one("Deployment", "ingress")
    broken = {**deployment, "spec": {**deployment["spec"], "replica": 1, "revisionHistoryLimit": "five"}}
    found = kinds.problems(broken, KUBERNETES[-1])
    assert len(found) == 2
    assert "replica" in found[0] + found[1]


def test_validation_applies_keda_s_rule_that_metadata_are_strings():
    scaled = render().one("ScaledObject", "encoder")
    (trigger,) = scaled["spec"]["triggers"]
    unquoted = {**trigger, "metadata": {**trigger["metadata"], "targetValue": 2}}
    (found,) = kinds.problems({**scaled, "spec": {**scaled["spec"], "triggers": [unquoted]}}, KUBERNETES[-1])
    assert found.endswith("2 is not of type 'string'")


@pytest.mark.parametrize("absent", ["monitoring.coreos.com/v1/PodMonitor", "monitoring.coreos.com/v1/PrometheusRule"])
def test_monitoring_objects_are_omitted_where_their_kind_is_missing(absent):
    def rendered(known: Iterable[str]) -> set[str]:
        objects = render("local", kinds=known)
        return {f"{item['apiVersion']}/{item['kind']} {item['metadata']['name']}" for item in objects}

    missing = rendered(CUSTOM_KINDS) - rendered([kind for kind in CUSTOM_KINDS if kind != absent])
    assert {name.split()[0] for name in missing} == {absent}


ENABLED = {
    "keda.sh/v1alpha1/ScaledObject": {},
    "cert-manager.io/v1/Certificate": {
        "tls": {"enabled": True, "certManager": {"enabled": True, "issuerRef": {"name": "ca"}}}
    },
    "gateway.networking.k8s.io/v1/GRPCRoute": {"grpcRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}]}},
    "monitoring.coreos.com/v1/ServiceMonitor": {
        "metrics": {"podMonitor": {"enabled": False}, "serviceMonitor": {"enabled": True}}
    },
}


@pytest.mark.parametrize("absent", ENABLED)
def test_an_object_that_is_enabled_is_refused_where_its_kind_is_missing(absent):
    present = [kind for kind in CUSTOM_KINDS if kind != absent]
    ended = helm.run("template", "local", ENABLED[absent], kinds=present)
    assert ended.returncode != 0
    assert f"--api-versions {absent}." in ended.stderr
    # The group's version alone will do.
    assert helm.run("template", "local", ENABLED[absent], kinds=[*present, absent.rpartition("/")[0]]).returncode == 0


def test_every_object_has_the_common_labels_and_annotations():
    for item in render("everything", {"extraObjects": []}):
        assert item["metadata"]["labels"]["team"] == "media"
        assert item["metadata"]["annotations"]["contact"] == "media@example.com"


def test_a_kubernetes_version_that_is_too_old_is_refused():
    ended = helm.run("template", "local", kubernetes="1.29")
    assert ended.returncode != 0
    assert "chart requires kubeVersion: >=1.30.0-0" in ended.stderr
