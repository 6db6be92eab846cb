"""Pods: security, start and termination, network policies."""

import re

import pytest
from kubernetes.utils import parse_quantity

from tests.chart.helm import CHART, NAME, SERVICES, VALUES, render

_VOLUMES_OF_RESTRICTED = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret", "downwardAPI", "csi"}


def containers(pod: dict) -> list[dict]:
    return [*pod.get("initContainers", []), *pod["containers"]]


@pytest.mark.parametrize("values", VALUES)
def test_every_pod_passes_pod_security_restricted(values):
    for name, pod in render(values).pods().items():
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for volume in pod["volumes"]:
            assert volume.keys() - {"name"} <= _VOLUMES_OF_RESTRICTED, name
        for container in containers(pod):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "privileged" not in context, name


@pytest.mark.parametrize("values", VALUES)
def test_the_root_file_system_is_read_only_and_scratch_is_bounded(values):
    for name, pod in render(values).pods().items():
        for container in containers(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert {"name": "scratch", "mountPath": "/tmp"} in container["volumeMounts"], name
            assert {"name": "HOME", "value": "/tmp"} in container["env"], name
        for volume in pod["volumes"]:
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], name


@pytest.mark.parametrize("values", VALUES)
def test_every_container_has_requests_and_a_memory_limit(values):
    for name, pod in render(values).pods().items():
        for container in containers(pod):
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name


def test_only_a_watching_ingress_has_a_token_and_one_right():
    rendered = render("local")
    for name, pod in rendered.pods().items():
        assert pod["automountServiceAccountToken"] is (name == f"Deployment/{NAME}-ingress"), name
    (role,) = rendered.of_kind("Role").values()
    assert role["rules"] == [
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
    ]
    (binding,) = rendered.of_kind("RoleBinding").values()
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    pod = rendered.deployments()["ingress"]["spec"]["template"]["spec"]
    assert [subject["name"] for subject in binding["subjects"]] == [pod["serviceAccountName"]]


def test_with_dns_no_pod_has_a_token_or_a_right():
    rendered = render("local", {"discovery": "dns"})
    assert not rendered.of_kind("Role")
    assert not rendered.of_kind("RoleBinding")
    assert not any(pod["automountServiceAccountToken"] for pod in rendered.pods().values())


def test_each_component_has_its_own_existing_service_account():
    rendered = render("everything")
    accounts = rendered.of_kind("ServiceAccount")
    used = {item["serviceAccountName"] for item in rendered.pods().values()}
    assert used == set(accounts)
    assert len(used) == 4
    banks = rendered.one("ServiceAccount", "textbank")
    assert banks["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == "arn:aws:iam::1:role/banks"


def test_an_existing_service_account_replaces_the_created_one():
    rendered = render("local", {"ingress": {"serviceAccount": {"create": False, "name": "theirs"}}})
    assert rendered.deployments()["ingress"]["spec"]["template"]["spec"]["serviceAccountName"] == "theirs"
    assert f"{NAME}-ingress" not in rendered.of_kind("ServiceAccount")


@pytest.mark.parametrize("values", VALUES)
def test_the_grace_period_covers_the_whole_drain(values):
    for service, deployment in render(values).deployments().items():
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        settings = {item["name"]: item.get("value") for item in container["env"]}
        prefix = service.upper()
        drain = sum(float(settings[f"{prefix}_{name}_SECONDS"]) for name in ("DRAIN_DELAY", "GRACE"))
        pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pod["terminationGracePeriodSeconds"] > pause + drain


def test_probes_use_the_health_port_and_allow_minutes_to_load_a_model():
    for service, deployment in render("gpu").deployments().items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        (health,) = [port["containerPort"] for port in container["ports"] if port["name"] == "health"]
        probes = {name: container[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
        assert [probe["grpc"]["port"] for probe in probes.values()] == [health] * 3
        assert [probe["grpc"]["service"] for probe in probes.values()] == ["readiness", "readiness", "liveness"]
        # On a busy node an answer may take a while.
        assert all(probe["timeoutSeconds"] >= 2 for probe in probes.values())
        if service == "encoder":
            assert probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"] == 600


def test_a_disruption_budget_allows_one_unavailable_pod_of_each_service():
    rendered = render("production")
    for service, deployment in rendered.deployments().items():
        budget = rendered.one("PodDisruptionBudget", service)["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == deployment["spec"]["selector"]


def test_an_encoder_s_rollout_needs_no_spare_gpu_and_others_lose_no_replica():
    strategies = {name: item["spec"]["strategy"]["rollingUpdate"] for name, item in render().deployments().items()}
    assert strategies["encoder"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert strategies["ingress"] == strategies["decoder"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_default_resources():
    rendered = render("gpu")
    resources = {
        name: item["spec"]["template"]["spec"]["containers"][0]["resources"]
        for name, item in rendered.deployments().items()
    }
    assert resources["ingress"]["requests"]["cpu"] == 6
    assert resources["encoder"]["requests"]["cpu"] == 2
    assert resources["encoder"]["limits"]["nvidia.com/gpu"] == 1
    assert resources["decoder"]["requests"]["cpu"] == 1


# What kind's own pods and KEDA's request: 950m and 300m, 290 MiB and 300 MiB.
_CLUSTER_CPUS, _CLUSTER_BYTES = 1.25, 590 << 20


@pytest.mark.parametrize("file", ["values-local.yaml", "README.md", "../../README.md"])
def test_a_node_of_the_stated_size_holds_values_local(file):
    stated = re.findall(r"(\d+) CPUs and (\d+) GiB", (CHART / file).read_text(encoding="utf-8"))
    rendered = render("local")
    scaled = {service: rendered.one("ScaledObject", service)["spec"] for service in SERVICES}
    for (cpus, gib), bound in zip(stated, ("minReplicaCount", "maxReplicaCount"), strict=False):
        needed_cpus, needed_bytes = _CLUSTER_CPUS, float(_CLUSTER_BYTES)
        for name, pod in rendered.pods().items():
            service = name.removeprefix(f"Deployment/{NAME}-")
            replicas = scaled[service][bound] if service in scaled else 1
            for container in pod["containers"]:
                requests = container["resources"]["requests"]
                needed_cpus += replicas * float(parse_quantity(requests["cpu"]))
                needed_bytes += replicas * float(parse_quantity(requests["memory"]))
        assert needed_cpus <= int(cpus)
        assert needed_bytes <= int(gib) << 30
    assert stated


def test_the_gpu_resource_has_the_device_plugin_s_name():
    pod = render("everything").deployments()["encoder"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/mig-3g.40gb"] == 1
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]
    assert pod["runtimeClassName"] == "nvidia"
    # Fetching the model takes none.
    assert "nvidia.com/mig-3g.40gb" not in pod["initContainers"][0]["resources"]["limits"]
    assert render("local").deployments()["encoder"]["spec"]["template"]["spec"]["containers"][0]["resources"][
        "limits"
    ] == {"memory": "2Gi"}


def test_spread_constraints_count_the_pods_of_their_own_service():
    for deployment in render("production").deployments().values():
        for constraint in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]:
            assert constraint["labelSelector"] == deployment["spec"]["selector"]


@pytest.mark.parametrize("values", ["local", "gpu", "production"])
def test_required_spread_leaves_out_nodes_that_take_no_pods(values):
    """Otherwise a zone without usable nodes holds all others at `maxSkew` pods, and its drain leaves pods pending."""
    for deployment in render(values).deployments().values():
        for constraint in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]:
            if constraint["whenUnsatisfiable"] == "DoNotSchedule":
                assert constraint["nodeTaintsPolicy"] == "Honor"


def test_grpc_services_are_headless_and_the_ingress_also_has_a_plain_one():
    services = {name.removeprefix(f"{NAME}-"): item["spec"] for name, item in render().of_kind("Service").items()}
    headless = {name for name, spec in services.items() if spec.get("clusterIP") == "None"}
    assert headless == {"ingress-headless", "ingress-scaling", "encoder", "decoder"}
    assert services["ingress"]["type"] == "ClusterIP"
    assert {name for name, spec in services.items() if spec.get("publishNotReadyAddresses")} == {"ingress-scaling"}
    for name in ("ingress", *headless - {"ingress-scaling"}):
        (grpc,) = [port for port in services[name]["ports"] if port["name"] == "grpc"]
        assert grpc["appProtocol"] == "kubernetes.io/h2c"


@pytest.mark.parametrize("values", VALUES)
def test_every_service_reaches_a_port_of_the_pods_that_it_selects(values):
    rendered = render(values)
    pods = {name: item["spec"]["template"] for name, item in rendered.deployments().items()}
    for name, service in rendered.of_kind("Service").items():
        selector = service["spec"]["selector"]
        (pod,) = [pod for pod in pods.values() if selector.items() <= pod["metadata"]["labels"].items()]
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"], name


def _policy(rendered, name: str) -> dict:
    return rendered.one("NetworkPolicy", name)["spec"]


def _peers(rule: dict, side: str) -> set[str]:
    """Components and namespaces that a rule names."""
    found = set()
    for peer in rule.get(side, []):
        labels = (peer.get("podSelector") or peer.get("namespaceSelector") or {}).get("matchLabels", {})
        found |= {value for key, value in labels.items() if key.endswith(("component", "metadata.name"))}
        found |= {peer["ipBlock"]["cidr"]} if "ipBlock" in peer else set()
    return found


def test_encoders_and_decoders_accept_calls_only_from_their_callers():
    rendered = render("gpu")
    for service, callers in {"encoder": {"ingress", "textbank"}, "decoder": {"ingress"}}.items():
        calls, metrics, health = _policy(rendered, service)["ingress"]
        assert _peers(calls, "from") == callers
        assert _peers(metrics, "from") == {"monitoring"}
        assert "from" not in health


def test_only_keda_reaches_the_scaling_port():
    rendered = render("local", {"networkPolicy": {"kedaNamespace": "scalers"}})
    (rule,) = [rule for rule in _policy(rendered, "ingress")["ingress"] if rule["ports"] == [{"port": 9091}]]
    assert _peers(rule, "from") == {"scalers"}


def test_an_encoder_with_a_local_model_reaches_only_dns():
    (dns,) = _policy(render("production"), "encoder")["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    (_, hub) = _policy(render("gpu"), "encoder")["egress"]
    assert _peers(hub, "to") == {"0.0.0.0/0", "::/0"}


def test_no_pod_reaches_the_cloud_s_metadata_address():
    for policy in render("everything").of_kind("NetworkPolicy").values():
        for rule in policy["spec"]["egress"]:
            for peer in rule.get("to", []):
                if "ipBlock" in peer:
                    assert {"169.254.169.254/32", "fd00:ec2::254/128"} & set(peer["ipBlock"]["except"])


def test_the_port_of_the_object_store_is_open():
    for name in ("ingress", "decoder", "textbank"):
        ports = [port["port"] for rule in _policy(render("everything"), name)["egress"] for port in rule["ports"]]
        assert 9000 in ports


def test_policies_select_existing_pods():
    rendered = render("local")
    labels = [item["spec"]["template"]["metadata"]["labels"] for item in rendered.deployments().values()]
    labels += [job["spec"]["template"]["metadata"]["labels"] for job in rendered.of_kind("Job").values()]
    labels += [pod["metadata"]["labels"] for pod in rendered.of_kind("Pod").values()]
    for own in labels:
        selected = [
            name
            for name, policy in rendered.of_kind("NetworkPolicy").items()
            if policy["spec"]["podSelector"]["matchLabels"].items() <= own.items()
        ]
        assert selected == [f"{NAME}-{own['app.kubernetes.io/component']}"]


def test_a_new_chart_version_alone_replaces_no_pods():
    for deployment in render().deployments().values():
        assert "helm.sh/chart" not in deployment["spec"]["template"]["metadata"]["labels"]
