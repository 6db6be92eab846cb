"""KEDA's reading of real scaling endpoints, configured by the rendered chart alone."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from services.ingress.admission.demand import Demand
from services.ingress.scaling_endpoint import scaling_endpoint
from tests.chart import keda
from tests.chart.helm import SERVICES, Rendered, render

# Pods have addresses of their own and one port, so that these must too.
FIRST, SECOND, DEAD = "127.0.0.1", "127.0.0.2", "127.0.0.3"


@dataclass
class Cluster:
    """Two ingresses, and the chart rendered for their port; a third address does not answer."""

    first: Demand
    second: Demand
    rendered: Rendered

    def slices(self, *pods: tuple[str, bool], of: str = "ingress-scaling") -> list[dict[str, Any]]:
        """The EndpointSlices of the release; only those of the ingress have pods."""
        template = self.rendered.deployments()["ingress"]["spec"]["template"]
        services = {name: self.rendered.one("Service", name) for name in ("ingress", "ingress-headless", of)}
        return [keda.endpoint_slice(service, pods, template) for service in services.values()]

    def spec(self, service: str) -> dict[str, Any]:
        return dict(self.rendered.one("ScaledObject", service)["spec"])

    def read(self, service: str, *pods: tuple[str, bool]) -> float:
        return keda.read(self.spec(service)["triggers"][0]["metadata"], self.slices(*pods))


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    first, second = Demand(), Demand()
    with scaling_endpoint(first, FIRST, 0) as port, scaling_endpoint(second, SECOND, port):
        yield Cluster(first, second, render("local", {"ports": {"scaling": port}}))


@pytest.fixture
def busy(cluster) -> Iterator[Cluster]:
    """Four requests, of which three have become videos, and seven chunks; a call for texts; two calls at decoders."""
    with ExitStack() as work:
        for _ in range(3):
            work.enter_context(cluster.first.request())
        for _ in range(2):
            work.enter_context(cluster.first.video())
        work.enter_context(cluster.second.request())
        video = work.enter_context(cluster.second.video())
        for _ in range(7):
            work.enter_context(video.chunk())
        work.enter_context(cluster.second.texts())
        work.enter_context(cluster.first.decoder_call())
        work.enter_context(cluster.second.decoder_call())
        yield cluster


def test_reads_zero_from_the_start(cluster):
    assert [cluster.read(service, (FIRST, True), (SECOND, True)) for service in SERVICES] == [0, 0, 0]


def test_reads_the_sum_over_all_ingresses_for_each_service(busy):
    # The encoders' is two videos without a chunk yet, seven chunks, one call for texts.
    assert [busy.read(service, (FIRST, True), (SECOND, True)) for service in SERVICES] == [4, 10, 2]


def test_the_target_determines_the_wanted_replicas(busy):
    wanted = {
        service: keda.replicas(busy.read(service, (FIRST, True), (SECOND, True)), busy.spec(service))
        for service in SERVICES
    }
    # Of the encoders five would be wanted, the local values allow three.
    assert wanted == {"ingress": 2, "encoder": 3, "decoder": 1}


def test_reads_a_draining_ingress_whose_chunks_still_need_encoders(busy):
    busy.second.drain()
    assert [busy.read(service, (FIRST, True), (SECOND, False)) for service in SERVICES] == [3, 10, 2]


def test_omits_an_ingress_that_does_not_answer(busy):
    assert busy.read("encoder", (FIRST, True), (DEAD, True)) == 2


def test_reports_an_error_and_not_zero_when_no_ingress_answers(busy):
    with pytest.raises(keda.TriggerError, match="could not get any metric successfully from the 1 provided endpoints"):
        busy.read("encoder", (DEAD, True))


def test_reports_an_error_when_there_is_no_ingress(cluster):
    with pytest.raises(keda.TriggerError, match="no endpoints"):
        cluster.read("encoder")


def test_a_service_without_unready_pods_would_hide_draining_ingresses(busy):
    metadata = dict(busy.spec("encoder")["triggers"][0]["metadata"])
    metadata["url"] = metadata["url"].replace("ingress-scaling", "ingress-headless")
    with pytest.raises(keda.TriggerError, match="no endpoints"):
        keda.read(metadata, busy.slices((FIRST, False)))


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("valueLocation", "queue_depth", "queue_length"),
        ("url", "http://va", "http://vb"),
    ],
)
def test_a_renamed_metric_or_service_is_an_error(busy, key, old, new):
    metadata = dict(busy.spec("encoder")["triggers"][0]["metadata"])
    assert old in metadata[key]
    metadata[key] = metadata[key].replace(old, new)
    with pytest.raises(keda.TriggerError):
        keda.read(metadata, busy.slices((FIRST, True), (SECOND, True)))


def test_a_wrong_port_is_an_error(busy):
    slices = busy.slices((FIRST, True))
    for item in slices:
        item["ports"] = [{**port, "port": port["port"] + 1} for port in item["ports"]]
    with pytest.raises(keda.TriggerError):
        keda.read(busy.spec("encoder")["triggers"][0]["metadata"], slices)
