"""Two releases in one cluster, the name of one of which is the beginning of the other's, do not see each other."""

import itertools
import json
import re
from typing import Any

import pytest

from tests.chart.helm import Rendered, render
from tests.chart.test_monitoring import selectors

# Release, namespace and full name; the last of some pairs are those that derived names of the other could take.
PAIRS = [
    (("va", "media", ""), ("va-2", "media", "")),
    (("va", "media", ""), ("va", "media-2", "")),
    (("a", "media", "va"), ("b", "media", "va-ingress")),
    (("a", "media", "va"), ("b", "media", "va-encoder-a1b2c3d4e5")),
    (("a", "media", "a" * 50), ("b", "media", "a" * 51)),
]
HPA = {"mode": "hpa", "hpa": {"metricName": "videoanalysis_queue_depth"}}
PROMETHEUS = {"mode": "prometheus", "prometheus": {"serverAddress": "http://prometheus:9090"}}

Release = tuple[str, str, str]


def rendered(release: Release, scaling: dict[str, Any] | None = None) -> Rendered:
    name, namespace, override = release
    changes = {"fullnameOverride": override, "autoscaling": scaling or {}, "networkPolicy": {"enabled": False}}
    return render("gpu", changes, release=name, namespace=namespace)


def series(release: Release) -> list[dict[str, str]]:
    """The labels of a gauge of each pod, as Prometheus has them where the chart's monitors are used."""
    found = []
    for name, item in rendered(release).of_kind("Deployment").items():
        labels = item["spec"]["template"]["metadata"]["labels"]
        monitor = {key.replace(".", "_").replace("/", "_"): value for key, value in labels.items()}
        for replica in ("5d8f7c9b4-x2lkq", "6c9f-9qk2m", "7d4b9c8f6d-tz7wn"):
            found.append({"namespace": release[1], "pod": f"{name}-{replica}", **monitor})
    return found


def matches(labels: dict[str, str], matchers: dict[str, tuple[str, str]]) -> bool:
    """As Prometheus matches; of labels that the series does not have only those of monitors count."""
    for label, (_, value) in matchers.items():
        if label in labels and not re.fullmatch(value, labels[label]):
            return False
    return True


def queries(release: Release) -> list[str]:
    """Of alerts, the dashboard and KEDA."""
    objects = rendered(release, PROMETHEUS)
    (rule,) = objects.of_kind("PrometheusRule").values()
    found = [alert["expr"] for group in rule["spec"]["groups"] for alert in group["rules"]]
    for item in objects.of_kind("ScaledObject").values():
        found += [trigger["metadata"]["query"] for trigger in item["spec"]["triggers"]]
    for panel in dashboard(release)["panels"]:
        found += [target["expr"] for target in panel.get("targets", []) if "keda_" not in target["expr"]]
    return found


def dashboard(release: Release) -> dict[str, Any]:
    (item,) = (
        item for item in rendered(release).of_kind("ConfigMap").values() if "dashboard" in item["metadata"]["name"]
    )
    (text,) = item["data"].values()
    return dict(json.loads(text))


@pytest.mark.parametrize("pair", PAIRS)
def test_queries_read_the_series_of_their_own_release_and_of_no_other(pair):
    for one, other in itertools.permutations(pair):
        for query in queries(one):
            for name, matchers in selectors(query):
                own = [labels for labels in series(one) if matches(labels, matchers)]
                assert own, f"{name} reads nothing: {query}"
                assert not [labels for labels in series(other) if matches(labels, matchers)], query


@pytest.mark.parametrize("pair", PAIRS)
def test_what_is_unique_in_a_cluster_is_different(pair):
    one, other = (rendered(release) for release in pair)
    first, second = (dashboard(release) for release in pair)
    for key in ("uid", "title"):
        assert first[key] != second[key]
    for key in ("name", "file"):
        groups = [
            {group["name"] for rule in objects.of_kind("PrometheusRule").values() for group in rule["spec"]["groups"]}
            if key == "name"
            else {
                file
                for item in objects.of_kind("ConfigMap").values()
                if "dashboard" in item["metadata"]["name"]
                for file in item["data"]
            }
            for objects in (one, other)
        ]
        assert not groups[0] & groups[1]
    # Nothing is outside of the namespace.
    assert {item["metadata"]["namespace"] for item in one} == {pair[0][1]}
    assert not {item["kind"] for item in one} & {"ClusterRole", "ClusterRoleBinding"}


@pytest.mark.parametrize("pair", PAIRS)
def test_autoscalers_read_and_scale_their_own_release(pair):
    for mode in ({"mode": "keda"}, HPA):
        one, other = (rendered(release, mode) for release in pair)
        for objects, release, stranger in ((one, *pair), (other, *reversed(pair))):
            deployments = set(objects.of_kind("Deployment"))
            for item in objects:
                if item["kind"] not in ("ScaledObject", "HorizontalPodAutoscaler"):
                    continue
                assert item["spec"]["scaleTargetRef"]["name"] in deployments
                if item["kind"] == "ScaledObject":
                    (trigger,) = item["spec"]["triggers"]
                    service, namespace, *_ = trigger["metadata"]["url"].removeprefix("http://").split(".")
                    assert service in objects.of_kind("Service")
                    assert namespace == release[1]
                else:
                    (metric,) = item["spec"]["metrics"]
                    wanted = metric["external"]["metric"]["selector"]["matchLabels"]
                    wanted = {label: ("=", re.escape(value)) for label, value in wanted.items() if label != "service"}
                    # External metrics are those of the HPA's namespace.
                    wanted["namespace"] = ("=", item["metadata"]["namespace"])
                    assert any(matches(labels, wanted) for labels in series(release))
                    assert not any(matches(labels, wanted) for labels in series(stranger))


@pytest.mark.parametrize("pair", PAIRS)
def test_services_policies_and_monitors_select_their_own_pods(pair):
    for one, other in itertools.permutations(pair):
        if one[1] != other[1]:
            continue  # Selectors are of a namespace.
        pods = [
            item["spec"]["template"]["metadata"]["labels"] for item in rendered(other).of_kind("Deployment").values()
        ]
        for item in rendered(one):
            selector = item.get("spec", {}).get("selector")
            if selector:
                labels = selector.get("matchLabels", selector)
                assert not [found for found in pods if labels.items() <= found.items()], item["kind"]
