"""Against a stand-in for the Kubernetes API server."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from kubernetes.client import ApiClient, Configuration

from loadtest.target.cluster import Cluster, client_of
from tests.loadtest.pages import Pages, serving

PATH = "/apis/apps/v1/namespaces/videos/deployments"


def deployment(component: str, desired: int, ready: int | None) -> dict:
    """As the API tells it: what is zero in a status is left out."""
    status = {} if ready is None else {"readyReplicas": ready}
    return {
        "metadata": {"name": f"release-{component}", "labels": {"app.kubernetes.io/component": component}},
        "spec": {"replicas": desired},
        "status": status,
    }


def listed(*deployments: dict) -> dict[str, str]:
    return {PATH: json.dumps({"kind": "DeploymentList", "items": list(deployments)})}


def cluster(pages: Pages, release: str | None = None) -> Cluster:
    configuration = Configuration()
    configuration.host = pages.url
    configuration.proxy = None
    configuration.no_proxy = "*"
    return Cluster(ApiClient(configuration), "videos", release)


def test_desired_and_ready_replicas_are_read_of_each_service():
    deployments = [deployment("ingress", 2, 2), deployment("encoder", 5, None), deployment("decoder", 1, 1)]
    with serving(listed(*deployments), "application/json") as pages:
        assert cluster(pages).read() == {
            "desired.ingress": 2,
            "ready.ingress": 2,
            "desired.encoder": 5,
            "ready.encoder": 0,
            "desired.decoder": 1,
            "ready.decoder": 1,
        }
        assert cluster(pages, "mine").read()
    selectors = [parse_qs(urlsplit(path).query)["labelSelector"][0] for path in pages.asked]
    assert selectors == [
        "app.kubernetes.io/component in (ingress,encoder,decoder)",
        "app.kubernetes.io/component in (ingress,encoder,decoder),app.kubernetes.io/instance=mine",
    ]


def test_a_namespace_without_our_services_is_an_error():
    with serving(listed(), "application/json") as pages, pytest.raises(OSError, match="none has"):
        cluster(pages).read()


def test_a_refusal_of_the_server_and_its_absence_are_told():
    with serving(listed(deployment("ingress", 1, 1)), "application/json") as pages:
        pages.status = 403
        with pytest.raises(OSError, match="403"):
            cluster(pages).read()
    with pytest.raises(OSError, match="does not answer"):
        cluster(pages).read()


def test_a_context_of_the_kubeconfig_is_taken_by_its_name(tmp_path, monkeypatch):
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "load", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "load",
            }
        )
    )
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    assert client_of("load").configuration.host == "http://127.0.0.1:9"
    with pytest.raises(OSError, match="--kube-context"):
        client_of("another")
