"""The chart rendered by `helm`; each set of values is rendered once for each cluster."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.chart import manifests

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "video-analysis"
RELEASE, NAMESPACE = "va", "media"
NAME = f"{RELEASE}-video-analysis"
SERVICES = ("ingress", "encoder", "decoder")
# Rendering without a cluster needs one.
RESUME_SECRET = "resume-keys"

CUSTOM_KINDS = (
    "cert-manager.io/v1/Certificate",
    "gateway.networking.k8s.io/v1/GRPCRoute",
    "keda.sh/v1alpha1/ScaledObject",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
    "monitoring.coreos.com/v1/ServiceMonitor",
)
KUBERNETES = ("1.31", "1.32", "1.33", "1.34", "1.35")

# What values-gpu.yaml and values-production.yaml leave to their user.
_GIVEN = {"image": {"registry": "registry.example.com/media"}, "allowedBuckets": ["videos"]}
_DIGEST = "sha256:" + "0" * 64
_EVERYTHING: dict[str, Any] = {
    **_GIVEN,
    "commonLabels": {"team": "media"},
    "commonAnnotations": {"contact": "media@example.com"},
    "image": {"registry": "registry.example.com:5000/media", "pullSecrets": ["registry"]},
    "model": {
        "source": "download",
        "revision": "0" * 40,
        "digest": _DIGEST,
        "download": {"existingClaim": "hub", "existingSecret": "hub", "endpoint": "https://hub.example.com"},
    },
    "s3": {"endpointUrl": "http://minio.storage:9000", "region": "eu-west-1", "existingSecret": "s3"},
    "textBanks": {
        "location": "s3://media-banks/prod/",
        "build": {
            "default": {"baked": "default"},
            "rooms": {"tags": ["kitchen", "it's a hall: long"], "descriptions": ["A #1 room"], "template": "a {}"},
            "own": {"configMap": "own-texts"},
        },
        "job": {"serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/banks"}}},
    },
    "ingress": {
        "image": {"digest": _DIGEST},
        "settings": {"max_videos": 6, "allowed_output_prefixes": ["s3://results/"], "scratch_bytes": 21474836480},
        "podLabels": {"sidecar": "no"},
        "podAnnotations": {"note": "yes"},
        "nodeSelector": {"pool": "cpu"},
        "priorityClassName": "media",
        "extraEnv": [{"name": "AWS_CA_BUNDLE", "value": "/ca/bundle.pem"}],
        "envFrom": [{"secretRef": {"name": "more"}}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca", "readOnly": True}],
        "affinity": {"nodeAffinity": {}},
    },
    "encoder": {
        "autoscaling": {"minReplicas": 0},
        "gpu": {"resourceName": "nvidia.com/mig-3g.40gb"},
        "runtimeClassName": "nvidia",
    },
    "tls": {
        "enabled": True,
        "certManager": {
            "enabled": True,
            "issuerRef": {"name": "media-ca", "kind": "ClusterIssuer"},
            "ingressNames": ["videos.example.com"],
        },
        "callerCA": {"existingSecret": "caller-ca"},
        "metrics": True,
    },
    "authentication": {
        "tokens": {"existingSecret": "tokens"},
        "jwt": {
            "keysUrl": "https://issuer.example.com/keys",
            "issuer": "https://issuer.example.com",
            "audience": "media",
        },
        "policy": {
            "default": {"sources": ["s3://public/"]},
            "callers": {"search": {"max_videos": 2, "max_waiting": 8, "outputs": ["s3://results/search/"]}},
        },
        "client": {"existingSecret": "own-token"},
    },
    "networkPolicy": {
        "callers": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateway"}}}],
        "extraEgress": [{"ports": [{"port": 4317}]}],
    },
    "metrics": {
        "podMonitor": {"enabled": False},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"runbookUrl": "https://wiki.example.com/video-analysis"},
    },
    "grpcRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}], "hostnames": ["videos.example.com"]},
    "extraObjects": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}, "data": {"a": "b"}}
    ],
}
# Every value file as its user would install it, and a set in which every option is on.
VALUES: Mapping[str, tuple[str | None, dict[str, Any]]] = {
    "local": ("values-local.yaml", {}),
    "gpu": (
        "values-gpu.yaml",
        {
            **_GIVEN,
            "model": {"revision": "0" * 40, "digest": _DIGEST},
            "textBanks": {"location": "s3://media-banks/prod/"},
        },
    ),
    "production": (
        "values-production.yaml",
        {**_GIVEN, "model": {"claim": {"name": "models"}}, "textBanks": {"location": "s3://media-banks/prod/"}},
    ),
    "everything": (None, _EVERYTHING),
}

Object = dict[str, Any]


class Rendered(list[Object]):
    """The objects of one release."""

    def of_kind(self, kind: str) -> dict[str, Object]:
        """By name."""
        return {item["metadata"]["name"]: item for item in self if item["kind"] == kind}

    def one(self, kind: str, name: str) -> Object:
        """The object of this kind whose name ends with `name`."""
        (found,) = [item for item in self if item["kind"] == kind and item["metadata"]["name"] == f"{NAME}-{name}"]
        return found

    def deployments(self) -> dict[str, Object]:
        """By service."""
        return {service: self.one("Deployment", service) for service in SERVICES}

    def pods(self) -> dict[str, Object]:
        """Every pod's spec, by kind and name of its controller."""
        made = {item["kind"]: item for item in self if item["kind"] in ("Deployment", "Job")}
        assert made
        return {
            f"{item['kind']}/{item['metadata']['name']}": item["spec"]
            if item["kind"] == "Pod"
            else item["spec"]["template"]["spec"]
            for item in self
            if item["kind"] in ("Deployment", "Job", "Pod")
        }


def render(
    values: str = "local",
    changes: Mapping[str, Any] | None = None,
    *,
    kubernetes: str = KUBERNETES[-1],
    kinds: Iterable[str] = CUSTOM_KINDS,
    release: str = RELEASE,
    namespace: str = NAMESPACE,
) -> Rendered:
    """The set of `values` with `changes` to it, for a cluster that has these custom `kinds`."""
    return _render(values, json.dumps(changes or {}), kubernetes, tuple(kinds), release, namespace)


@cache
def _render(
    values: str, changes: str, kubernetes: str, kinds: tuple[str, ...], release: str, namespace: str
) -> Rendered:
    ended = run(
        "template",
        values,
        json.loads(changes),
        kubernetes=kubernetes,
        kinds=kinds,
        release=release,
        namespace=namespace,
    )
    assert ended.returncode == 0, ended.stderr
    return Rendered(manifests.load(ended.stdout))


def complaint(values: str, changes: Mapping[str, Any]) -> str:
    """The message with which helm refuses the values."""
    ended = run("template", values, changes)
    assert ended.returncode != 0, "helm takes these values"
    return ended.stderr


def run(
    command: str,
    values: str = "none",
    changes: Mapping[str, Any] | None = None,
    *,
    kubernetes: str = KUBERNETES[-1],
    kinds: Iterable[str] = CUSTOM_KINDS,
    environment: Mapping[str, str] | None = None,
    arguments: Iterable[str] = (),
    release: str = RELEASE,
    namespace: str = NAMESPACE,
    chart: Path = CHART,
) -> subprocess.CompletedProcess[str]:
    """`helm template`, `lint` or `install`, with values from a set, or from none but `changes`.

    With an `environment` that names a cluster, helm reads version, kinds and generated keys from it.
    """
    file, given = VALUES.get(values, (None, {}))
    if command == "template" and environment is None:
        given = {"resumeTokens": {"existingSecret": RESUME_SECRET}, **given}
    options = ["--namespace", namespace, *(["--values", str(CHART / file)] if file else []), "--values", "-"]
    if environment is None:
        options += ["--kube-version", f"{kubernetes}.0"]
    if environment is None and command == "template":
        options += [option for kind in kinds for option in ("--api-versions", kind)]
    subject = [str(chart)] if command == "lint" else [release, str(chart)]
    return subprocess.run(
        [_program(), command, *subject, *options, *arguments],
        input=json.dumps(merged(given, changes or {}), ensure_ascii=False),
        env={**os.environ, "HELM_DEBUG": "false", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both and isinstance(old, Mapping) else value
    return result


@cache
def _program() -> str:
    in_venv = Path(sys.executable).with_name("helm")
    found = str(in_venv) if in_venv.exists() else shutil.which("helm")
    if found is None:
        pytest.skip("there is no helm; `make tools` installs it where there is Go")
    return found
