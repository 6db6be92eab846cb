"""Against a fake Kubernetes API server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.target.cluster import Cluster
from tests.scaling import recorded
from tests.scaling.api_server import ApiServer, api_server

SERVICES = ("ingress", "encoder", "decoder")


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as server:
        server.objects["Deployment"] = [recorded.deployment(service, 2) for service in SERVICES]
        yield server


def cluster(server: ApiServer, directory: Path, release: str | None = None) -> Cluster:
    return Cluster(None, "videos", release, server.kubeconfig(directory))


def test_desired_and_ready_replicas_are_read_of_each_service(server, tmp_path):
    server.objects["Deployment"][1]["spec"]["replicas"] = 5
    del server.objects["Deployment"][1]["status"]["readyReplicas"]
    assert cluster(server, tmp_path).read() == {
        "desired.ingress": 2,
        "ready.ingress": 2,
        "desired.encoder": 5,
        "ready.encoder": 0,
        "desired.decoder": 2,
        "ready.decoder": 2,
    }


def test_of_several_releases_the_named_one_is_read(server, tmp_path):
    server.objects["Deployment"] += [recorded.deployment(service, 1, release="other") for service in SERVICES]
    assert cluster(server, tmp_path, "other").read()["desired.encoder"] == 1
    with pytest.raises(OSError, match="--release"):
        cluster(server, tmp_path).read()


def test_a_namespace_without_our_services_is_an_error(server, tmp_path):
    server.objects["Deployment"] = []
    with pytest.raises(OSError, match="no Deployments of ingress, encoder and decoder"):
        cluster(server, tmp_path).read()


def test_missing_rights_are_an_error(server, tmp_path):
    server.refused = {"Deployment"}
    with pytest.raises(OSError, match="403"):
        cluster(server, tmp_path).read()


def test_an_unknown_context_is_named(server, tmp_path):
    with pytest.raises(OSError, match="another"):
        Cluster("another", "videos", None, server.kubeconfig(tmp_path))
