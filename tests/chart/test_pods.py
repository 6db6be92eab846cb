"""What values give to a pod is in every pod: services, text bank Jobs, tests, and their init containers."""

import json
from typing import Any

import pytest
from kubernetes.utils import parse_quantity

from tests.chart import kinds
from tests.chart.helm import CHART, KUBERNETES, SERVICES, Rendered, complaint, render

# Every pod that there can be: an encoder with the chart's own init container, two Jobs, both tests.
EVERY_POD = {
    "textBanks": {"build": {"rooms": {"tags": ["hall"], "descriptions": ["A hall"]}}},
    "test": {"hostile": {"upload": "s3://media-banks/hostile"}},
}
OPTIONS: dict[str, Any] = {
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "dnsConfig": {"nameservers": ["10.0.0.10"]},
    "dnsPolicy": "None",
    "envFrom": [{"secretRef": {"name": "more"}}],
    "extraEnv": [
        {"name": "AWS_REQUEST_CHECKSUM_CALCULATION", "value": "when_required"},
        {"name": "NUMBER", "value": 10000000},
        {"name": "YES", "value": True},
        {"name": "HOME", "value": "/home"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["minio"]}],
    "initContainers": [{"name": "sidecar", "image": "proxy", "restartPolicy": "Always"}],
    "nodeSelector": {"pool": "x"},
    "podAnnotations": {"sidecar.istio.io/inject": "false"},
    "podLabels": {"network": "x"},
    "podSecurityContext": {"supplementalGroups": [44]},
    "priorityClassName": "high",
    "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "gpu"}],
    "runtimeClassName": "special",
    "schedulerName": "own",
    "securityContext": {"readOnlyRootFilesystem": False},
    "tolerations": [{"key": "x", "operator": "Exists"}],
    "topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}],
}
# Security contexts have keys of their own, which hold for every pod.
SHARED = ("podSecurityContext", "securityContext")
EVERYWHERE = {"pods": {key: value for key, value in OPTIONS.items() if key not in SHARED}} | {
    key: OPTIONS[key] for key in SHARED
}
# The sections of values by the component label of their pods.
SECTIONS = {"ingress": "ingress", "encoder": "encoder", "decoder": "decoder", "textbank": "job", "test": "test"}


def templates(rendered: Rendered) -> list[tuple[str, dict]]:
    """Every pod's metadata and spec, with its component."""
    found = []
    for item in rendered:
        if item["kind"] in ("Deployment", "Job", "Pod"):
            template = item if item["kind"] == "Pod" else item["spec"]["template"]
            found.append((template["metadata"]["labels"]["app.kubernetes.io/component"], template))
    return found


def missing(template: dict) -> set[str]:
    """The options that a pod does not have."""
    pod, metadata = template["spec"], template["metadata"]
    lacking = {
        key
        for key in ("dnsConfig", "dnsPolicy", "priorityClassName", "runtimeClassName", "schedulerName")
        if pod.get(key) != OPTIONS[key]
    }
    for key in ("affinity", "nodeSelector"):
        if not OPTIONS[key].items() <= pod.get(key, {}).items():
            lacking.add(key)
    for key in ("hostAliases", "resourceClaims", "tolerations"):
        if OPTIONS[key][0] not in pod.get(key, []):
            lacking.add(key)
    if "rack" not in {item["topologyKey"] for item in pod.get("topologySpreadConstraints", [])}:
        lacking.add("topologySpreadConstraints")
    if pod["securityContext"].get("supplementalGroups") != [44]:
        lacking.add("podSecurityContext")
    if metadata.get("annotations", {}).get("sidecar.istio.io/inject") != "false":
        lacking.add("podAnnotations")
    if metadata["labels"].get("network") != "x":
        lacking.add("podLabels")
    if OPTIONS["extraVolumes"][0] not in pod["volumes"]:
        lacking.add("extraVolumes")
    sidecar, *own = [*pod.get("initContainers", []), *pod["containers"]]
    if sidecar != OPTIONS["initContainers"][0]:
        lacking.add("initContainers")
        own = [sidecar, *own]
    for container in own:
        environment = {item["name"]: item.get("value") for item in container["env"]}
        wanted = {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required", "NUMBER": "10000000", "YES": "true"}
        if not {**wanted, "HOME": "/home", "TOKEN": None}.items() <= environment.items():
            lacking.add("extraEnv")
        if container.get("envFrom") != OPTIONS["envFrom"]:
            lacking.add("envFrom")
        if OPTIONS["extraVolumeMounts"][0] not in container["volumeMounts"]:
            lacking.add("extraVolumeMounts")
        if container["securityContext"]["readOnlyRootFilesystem"] is not False:
            lacking.add("securityContext")
    return lacking


def test_what_is_given_for_all_pods_is_in_every_pod_and_container():
    rendered = render("gpu", EVERY_POD | EVERYWHERE)
    found = templates(rendered)
    assert [component for component, _ in found].count("test") == 2
    assert {component for component, _ in found} == set(SECTIONS)
    assert {component: missing(template) for component, template in found if missing(template)} == {}
    assert [problem for item in rendered for problem in kinds.problems(item, KUBERNETES[-1])] == []


def test_every_option_of_pods_is_tried_here():
    schema = json.loads((CHART / "values.schema.json").read_text())
    pod = set(schema["definitions"]["pod"]["properties"])
    assert pod | set(SHARED) == set(OPTIONS)
    for section in ("ingress", "encoder", "decoder", "test"):
        assert set(OPTIONS) <= set(schema["properties"][section]["properties"])
    assert set(OPTIONS) <= set(schema["properties"]["textBanks"]["properties"]["job"]["properties"])


@pytest.mark.parametrize("component", SECTIONS)
def test_what_is_given_for_one_component_is_in_its_pods_alone(component):
    changes = {"textBanks": {"job": OPTIONS}} if component == "textbank" else {SECTIONS[component]: OPTIONS}
    for other, template in templates(render("gpu", changes)):
        if other == component:
            assert missing(template) == set(), other
        else:
            assert missing(template) == set(OPTIONS), other


def test_a_component_s_options_are_added_to_those_of_all_and_win():
    common = {
        "nodeSelector": {"pool": "all", "zone": "a"},
        "priorityClassName": "all",
        "tolerations": [{"key": "all", "operator": "Exists"}],
        "extraEnv": [{"name": "A", "value": "all"}, {"name": "B", "value": "all"}],
        "topologySpreadConstraints": [
            {"maxSkew": 9, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
    }
    own = {
        "nodeSelector": {"pool": "own"},
        "priorityClassName": "own",
        "tolerations": [{"key": "own", "operator": "Exists"}],
        "extraEnv": [{"name": "A", "value": "own"}],
    }
    pod = render("local", {"pods": common, "decoder": own}).deployments()["decoder"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "own", "zone": "a"}
    assert pod["priorityClassName"] == "own"
    assert [item["key"] for item in pod["tolerations"]] == ["all", "own"]
    environment = [(item["name"], item.get("value")) for item in pod["containers"][0]["env"]]
    assert environment[-2:] == [("B", "all"), ("A", "own")]
    # The API server refuses two with the same key.
    assert [item["maxSkew"] for item in pod["topologySpreadConstraints"]] == [1, 1]


@pytest.mark.parametrize("service", SERVICES)
def test_a_given_variable_replaces_the_chart_s(service):
    replaced = [
        {"name": name, "value": "other"} for name in ("HOME", "HF_HOME", "HF_HUB_OFFLINE", f"{service.upper()}_PORT")
    ]
    for _, template in templates(render("everything", {service: {"extraEnv": replaced}})):
        for container in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]:
            names = [item["name"] for item in container["env"]]
            assert len(names) == len(set(names))
            if container["name"] == service:
                values = {item["name"]: item.get("value") for item in container["env"]}
                assert values["HOME"] == values["HF_HOME"] == values[f"{service.upper()}_PORT"] == "other"


def test_a_given_volume_replaces_the_chart_s():
    claim = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}}}
    pod = render("gpu", {"ingress": {"extraVolumes": [claim]}}).deployments()["ingress"]["spec"]["template"]["spec"]
    assert [volume for volume in pod["volumes"] if volume["name"] == "scratch"] == [claim]
    # Its disk is not the node's.
    assert "ephemeral-storage" not in pod["containers"][0]["resources"]["requests"]


@pytest.mark.parametrize("values", ["local", "gpu", "everything"])
def test_every_pod_requests_the_disk_of_its_volumes(values):
    for component, template in templates(render(values, EVERY_POD)):
        limits = [volume["emptyDir"]["sizeLimit"] for volume in template["spec"]["volumes"] if "emptyDir" in volume]
        (container,) = template["spec"]["containers"]
        requested = parse_quantity(container["resources"]["requests"]["ephemeral-storage"])
        assert requested == sum(map(parse_quantity, limits)), component


@pytest.mark.parametrize("size", ["1500M", "0.5Gi", 1000000000, "3Ti", "2k"])
def test_a_size_in_any_unit_is_requested(size):
    pod = render("local", {"ingress": {"scratch": {"sizeLimit": size}}}).deployments()["ingress"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert parse_quantity(container["resources"]["requests"]["ephemeral-storage"]) == parse_quantity(str(size))


@pytest.mark.parametrize("kind", ["requests", "limits"])
def test_disk_that_resources_name_is_not_overridden(kind):
    changes = {"decoder": {"resources": {kind: {"ephemeral-storage": "1Gi"}}}}
    (container,) = render("local", changes).deployments()["decoder"]["spec"]["template"]["spec"]["containers"]
    named = {key: value.get("ephemeral-storage") for key, value in container["resources"].items()}
    assert named == {"requests": None, "limits": None} | {kind: "1Gi"}


def test_under_a_quota_of_cpu_limits_every_container_can_have_one():
    limits = {"resources": {"limits": {"cpu": 2, "memory": "4Gi"}}}
    changes = {
        **dict.fromkeys(SERVICES, limits),
        "textBanks": {**EVERY_POD["textBanks"], "job": limits},
        "test": {**EVERY_POD["test"], **limits},
    }
    for component, template in templates(render("everything", changes)):
        for container in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]:
            assert container["resources"]["limits"]["cpu"] == 2, component


def test_a_gpu_may_be_a_dynamically_allocated_resource():
    changes = {
        "encoder": {
            "gpu": {"resourceName": ""},
            "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}],
            "resources": {"claims": [{"name": "gpu"}]},
        }
    }
    rendered = render("gpu", changes)
    pod = rendered.deployments()["encoder"]["spec"]["template"]["spec"]
    assert pod["resourceClaims"] == changes["encoder"]["resourceClaims"]
    assert pod["containers"][0]["resources"]["claims"] == [{"name": "gpu"}]
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]
    assert [problem for item in rendered for problem in kinds.problems(item, KUBERNETES[-1])] == []


def test_openshift_may_choose_the_user():
    # As docs/operating.md says.
    chosen = {"runAsUser": None, "runAsGroup": None, "fsGroup": None}
    for _, template in templates(render("everything", EVERY_POD | {"podSecurityContext": chosen})):
        context = template["spec"]["securityContext"]
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys()
        assert context["runAsNonRoot"] is True
        for container in template["spec"]["containers"]:
            assert not {"runAsUser", "runAsGroup"} & container["securityContext"].keys()


def test_a_pod_has_distinct_ports():
    changes = {"ports": {"metrics": 8081}, "ingress": {"port": 9091}}
    message = complaint("local", changes)
    for service, port in (("ingress", 9091), ("encoder", 50052), ("decoder", 50053)):
        assert f"{service}.port {port}, ports.health 8081, ports.metrics 8081" in message
        assert f"must differ: a pod of the {service} opens each of them." in message
    # A scaling port is opened by the ingress alone.
    assert render("local", {"decoder": {"port": 9091}})
