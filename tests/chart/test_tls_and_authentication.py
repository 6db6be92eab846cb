"""Certificates, tokens and the policy reach the processes that need them, and no others."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.ingress.admission import read_policy
from tests.chart.helm import NAME, SERVICES, Object, complaint, render

SECRETS = {name: f"{name}-certificate" for name in (*SERVICES, "client")}


def container(pod: Object) -> Object:
    (only,) = pod["containers"]
    return only


def environment(pod: Object) -> dict[str, str]:
    return {item["name"]: item.get("value", "") for item in container(pod)["env"]}


def file_source(pod: Object, path: str) -> tuple[str, str]:
    """The Secret or ConfigMap, and its key, that is the file at `path` in the container."""
    for mount in container(pod)["volumeMounts"]:
        directory, _, key = path.rpartition("/")
        if mount["mountPath"] == directory:
            assert "subPath" not in mount, "the kubelet would not update it"
            assert mount["readOnly"]
            (volume,) = [one for one in pod["volumes"] if one["name"] == mount["name"]]
            source = volume.get("secret", volume.get("configMap"))
            return source.get("secretName", source.get("name")), key
    raise AssertionError(f"nothing is mounted at {path}")


def pod_of(deployment: Object) -> Object:
    return deployment["spec"]["template"]["spec"]


def test_by_default_there_is_neither():
    rendered = render()
    assert not rendered.of_kind("Certificate")
    for name, pod in rendered.pods().items():
        assert {volume["name"] for volume in pod["volumes"]} <= {"scratch", "banks", "model", "texts"}, name


def test_every_tls_setting_names_a_file_of_the_services_own_certificate():
    rendered = render("everything")
    for service, deployment in rendered.deployments().items():
        pod = pod_of(deployment)
        settings = {name: value for name, value in environment(pod).items() if "TLS" in name and value.startswith("/")}
        assert len(settings) == (6 if service == "ingress" else 3)
        for name, path in settings.items():
            expected = "caller-ca" if name == "INGRESS_TLS_CLIENT_CA" else f"{NAME}-{service}-tls"
            key = "tls.key" if "KEY" in name else "ca.crt" if "CA" in name else "tls.crt"
            assert file_source(pod, path) == (expected, key), name


def test_certificates_are_for_the_names_by_which_services_are_called():
    rendered = render("everything")
    certificates = rendered.of_kind("Certificate")
    assert {item["spec"]["secretName"] for item in certificates.values()} == set(certificates)
    settings = environment(pod_of(rendered.deployments()["ingress"]))
    for service in ("encoder", "decoder"):
        names = certificates[f"{NAME}-{service}-tls"]["spec"]["dnsNames"]
        assert settings[f"INGRESS_{service.upper()}_TLS_NAME"] in names
    (monitor,) = rendered.of_kind("ServiceMonitor").values()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"
    for service in SERVICES:
        names = certificates[f"{NAME}-{service}-tls"]["spec"]["dnsNames"]
        assert endpoint["tlsConfig"]["serverName"] in names
        for name in rendered.of_kind("Service"):
            if name in (f"{NAME}-{service}", f"{NAME}-{service}-headless"):
                assert {name, f"{name}.media.svc"} <= set(names)
    assert "videos.example.com" in certificates[f"{NAME}-ingress-tls"]["spec"]["dnsNames"]


def test_existing_secrets_replace_cert_manager():
    changes = {"tls": {"certManager": {"enabled": False}, "existingSecrets": SECRETS, "metrics": False}}
    rendered = render("everything", changes)
    assert not rendered.of_kind("Certificate")
    for service, deployment in rendered.deployments().items():
        assert file_source(pod_of(deployment), "/tls/own/tls.crt") == (SECRETS[service], "tls.crt")
    (monitor,) = rendered.of_kind("ServiceMonitor").values()
    assert "scheme" not in monitor["spec"]["endpoints"][0]


def test_the_charts_own_clients_present_certificate_and_token():
    clients = {name: pod for name, pod in render("everything").pods().items() if name.startswith(("Job/", "Pod/"))}
    assert len(clients) >= 2
    for name, pod in clients.items():
        options = dict(
            option.split("=", 1) for option in container(pod)["command"] if option.startswith("--") and "=" in option
        )
        assert file_source(pod, options["--ca"]) == (f"{NAME}-client-tls", "ca.crt"), name
        assert file_source(pod, options["--cert"]) == (f"{NAME}-client-tls", "tls.crt")
        assert file_source(pod, options["--key"]) == (f"{NAME}-client-tls", "tls.key")
        assert file_source(pod, options["--token-file"]) == ("own-token", "token")


def test_only_the_ingress_has_tokens_and_the_policy_and_the_policy_is_one_it_accepts(tmp_path: Path):
    rendered = render("everything")
    pods = {service: pod_of(deployment) for service, deployment in rendered.deployments().items()}
    settings = environment(pods["ingress"])
    assert file_source(pods["ingress"], settings["INGRESS_TOKENS_FILE"]) == ("tokens", "tokens")
    assert settings["INGRESS_JWT_KEYS"] == "https://issuer.example.com/keys"
    name, key = file_source(pods["ingress"], settings["INGRESS_POLICY_FILE"])
    content = rendered.of_kind("ConfigMap")[name]["data"][key]
    (tmp_path / "policy.yaml").write_text(content)
    policy = read_policy(tmp_path / "policy.yaml")
    assert policy.of("search").max_videos == 2
    assert policy.of("stranger").sources == ["s3://public/"]
    for service in ("encoder", "decoder"):
        assert {volume["name"] for volume in pods[service]["volumes"]} <= {"scratch", "model", "banks", "tls"}


def test_the_kubelet_probes_a_plaintext_port():
    for deployment in render("everything").deployments().values():
        settings = environment(pod_of(deployment))
        only = container(pod_of(deployment))
        health = next(value for name, value in settings.items() if name.endswith("_HEALTH_PORT"))
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert str(only[probe]["grpc"]["port"]) == health


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tls": {"enabled": True}}, "tls.existingSecrets.encoder is required"),
        ({"tls": {"enabled": True, "certManager": {"enabled": True}}}, "tls.certManager.issuerRef.name is required"),
        ({"authentication": {"jwt": {"keysUrl": "https://i/keys", "issuer": "i"}}}, "authentication.jwt.audience"),
        ({"authentication": {"policy": {"callers": {"a": {}}}}}, "authentication.policy needs"),
        ({"authentication": {"jwt": {"keysUrl": "http://i/keys"}}}, "keysUrl"),
        ({"authentication": {"policy": {"callers": {"a": {"max_video": 1}}}}}, "max_video"),
        ({"authentication": {"policy": {"callers": {"a": {"sources": ["s3://a"]}}}}}, "sources"),
    ],
)
def test_incomplete_values_are_refused_by_name(changes: dict[str, Any], says: str):
    assert says in complaint("local", changes)


def test_a_policy_needs_no_tokens_where_a_gateway_names_the_caller():
    changes = {
        "authentication": {"policy": {"callers": {"a": {}}}},
        "ingress": {"settings": {"caller_header": "x-caller-id"}},
    }
    (policy,) = [item for name, item in render("local", changes).of_kind("ConfigMap").items() if "policy" in name]
    assert yaml.safe_load(policy["data"]["policy.yaml"]) == {"callers": {"a": {}}}
