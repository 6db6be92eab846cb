"""Pods fit the images: ports, user and paths."""

import pytest

from tests.chart.helm import ROOT, SERVICES, VALUES, render
from tests.images.dockerfile import stages


def pod(service: str, values: str = "local") -> dict:
    return dict(render(values).deployments()[service]["spec"]["template"]["spec"])


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_opens_the_ports_that_its_image_exposes(service):
    exposed = stages(service)[-1].last("EXPOSE").split()
    ports = [str(port["containerPort"]) for port in pod(service)["containers"][0]["ports"]]
    assert ports == exposed


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_runs_as_the_user_of_its_image(service):
    context = pod(service)["securityContext"]
    assert stages(service)[-1].last("USER") == f"{context['runAsUser']}:{context['runAsGroup']}"


@pytest.mark.parametrize("service", SERVICES)
def test_image_names_are_those_of_the_dockerfiles(service):
    image = pod(service, "gpu")["containers"][0]["image"]
    assert image == f"registry.example.com/media/video-analysis-{service}:0.1.0"
    assert f"-t video-analysis-{service} ." in (ROOT / "services" / service / "Dockerfile").read_text()


def test_an_image_may_be_named_by_its_digest():
    assert pod("ingress", "everything")["containers"][0]["image"].endswith("video-analysis-ingress@sha256:" + "0" * 64)


@pytest.mark.parametrize("values", VALUES)
def test_pods_keep_the_entrypoint_of_the_image(values):
    for service in SERVICES:
        container = pod(service, values)["containers"][0]
        assert not {"command", "args"} & container.keys()


def test_relative_paths_in_pods_exist_in_the_image():
    """Models and texts, below the directory in which each image starts."""
    local = render("local")
    (model,) = [item["value"] for item in pod("encoder")["containers"][0]["env"] if item["name"] == "ENCODER_MODEL"]
    (job,) = local.of_kind("Job").values()
    texts = job["spec"]["template"]["spec"]["containers"][0]["command"][3]
    for service, path in (("encoder", model), ("decoder", texts)):
        image = stages(service)[-1]
        assert image.last("WORKDIR") == "/app"
        assert (ROOT / path).is_dir()
        copied = [source for source in image.copied_from_the_context() if path.startswith(f"{source}/")]
        assert copied, f"{path} is not in the image of the {service}"
