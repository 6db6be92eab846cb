"""The services accept the environment of their pods, and every setting can be given by a value."""

import json
import subprocess
import sys
from typing import Any

import pytest
from kubernetes.utils import parse_quantity

from docs.generate.chart import DERIVED_FROM_OTHER_VALUES
from docs.generate.settings import SETTINGS
from services.ingress.sampling.sampled_video import WORKER_BYTES
from tests.chart.helm import CHART, NAME, ROOT, SERVICES, VALUES, render

_OTHERS = {
    "AWS_ACCESS_KEY_ID",
    "AWS_CA_BUNDLE",
    "AWS_SECRET_ACCESS_KEY",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "HOME",
}
# Reads the settings of each service from each environment, in a process that has no other.
_READ = """
import json, os, sys
from services.decoder.settings import DecoderSettings
from services.encoder.settings import EncoderSettings
from services.ingress.sampling.sampled_video import WORKER_BYTES
from services.ingress.settings import IngressSettings
from videoanalysis.settings import read_settings
kinds = {"ingress": IngressSettings, "encoder": EncoderSettings, "decoder": DecoderSettings}
read = []
for service, environment in json.load(sys.stdin):
    os.environ.clear()
    os.environ.update(environment)
    read.append({name: str(value) for name, value in read_settings(kinds[service])})
print(json.dumps(read))
"""


def environment(deployment: dict[str, Any]) -> dict[str, str]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    keys = json.dumps(["k" * 48])
    return {item["name"]: item.get("value", keys) for item in container["env"]}


@pytest.fixture(scope="module")
def read() -> dict[tuple[str, str], dict[str, str]]:
    """The settings that each service would have, by set of values and service."""
    cases = [(values, service) for values in VALUES for service in SERVICES]
    environments = [(service, environment(render(values).deployments()[service])) for values, service in cases]
    ended = subprocess.run(
        [sys.executable, "-c", _READ],
        input=json.dumps(environments),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return dict(zip(cases, json.loads(ended.stdout), strict=True))


def test_every_service_accepts_its_environment(read):
    assert len(read) == len(VALUES) * len(SERVICES)


@pytest.mark.parametrize("values", VALUES)
def test_every_variable_is_a_setting_of_its_service_or_known_to_a_library(values):
    for service, deployment in render(values).deployments().items():
        fields = {f"{service}_{field}".upper() for field in SETTINGS[service].model_fields}
        assert environment(deployment).keys() <= fields | _OTHERS


def test_every_setting_can_be_given_or_is_derived_from_another_value():
    schema = json.loads((CHART / "values.schema.json").read_text())["definitions"]
    for service, kind in SETTINGS.items():
        given = set(schema[f"{service}Settings"]["properties"])
        derived = DERIVED_FROM_OTHER_VALUES[service]
        assert not given & derived
        assert given | derived == set(kind.model_fields)


@pytest.mark.parametrize("service", SERVICES)
def test_a_derived_setting_is_rendered(service):
    rendered = set()
    for changes in ({}, {"model": {"source": "synthetic"}}):
        rendered |= environment(render("everything", changes).deployments()[service]).keys()
    assert {f"{service}_{field}".upper() for field in DERIVED_FROM_OTHER_VALUES[service]} <= rendered


def test_given_settings_reach_the_services(read):
    ingress = read["everything", "ingress"]
    assert ingress["max_videos"] == "6"
    assert ingress["scratch_bytes"] == str(20 << 30)
    assert ingress["allowed_output_prefixes"] == "['s3://results/']"
    assert ingress["allowed_buckets"] == "['videos']"
    assert ingress["s3_endpoint_url"] == "http://minio.storage:9000"
    assert read["gpu", "encoder"]["precision"] == "bfloat16"
    assert read["local", "encoder"]["torch_threads"] == "1"


@pytest.mark.parametrize("values", VALUES)
def test_ports_are_those_that_the_pod_opens(read, values):
    for service, deployment in render(values).deployments().items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        opened = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
        settings = read[values, service]
        listens = {"grpc": settings["port"], "health": settings["health_port"], "metrics": settings["metrics_port"]}
        if service == "ingress":
            listens["scaling"] = settings["scaling_port"]
        assert listens == opened


def test_grpc_ports_are_the_defaults_of_the_services():
    for service, deployment in render().deployments().items():
        port = SETTINGS[service].model_fields["port"].default
        assert environment(deployment)[f"{service.upper()}_PORT"] == str(port)


@pytest.mark.parametrize("discovery", ["kubernetes", "dns"])
def test_the_ingress_discovers_services_that_exist(discovery):
    rendered = render("local", {"discovery": discovery})
    services = rendered.of_kind("Service")
    settings = environment(rendered.deployments()["ingress"])
    for service in ("encoder", "decoder"):
        spec = services[f"{NAME}-{service}"]["spec"]
        ports = {port["name"]: port["port"] for port in spec["ports"]}
        wanted = {
            "kubernetes": f"kubernetes:///{NAME}-{service}:grpc",
            "dns": f"dns://{NAME}-{service}.media.svc:{ports['grpc']}",
        }
        assert settings[f"INGRESS_{service.upper()}S"] == wanted[discovery]
        assert spec["clusterIP"] == "None"


def test_videos_wait_as_long_as_the_first_encoder_may_take_to_start(read):
    for values in VALUES:
        (encoder,) = render(values).deployments()["encoder"]["spec"]["template"]["spec"]["containers"]
        probe = encoder["startupProbe"]
        assert (
            float(read[values, "ingress"]["cold_start_seconds"]) >= probe["periodSeconds"] * probe["failureThreshold"]
        )


def test_frames_are_sampled_at_the_size_of_the_bundled_model(read):
    config = json.loads((ROOT / read["local", "encoder"]["model"] / "config.json").read_text())
    assert read["local", "ingress"]["image_size"] == str(config["vision_config"]["image_size"])


@pytest.mark.parametrize("values", VALUES)
def test_what_an_ingress_may_use_of_memory_fits_the_limit_of_its_pod(read, values):
    settings = {name: int(value) for name, value in read[values, "ingress"].items() if value.isdecimal()}
    idle_worker, own = 80 << 20, 400 << 20  # measured: 61 and 175 MiB
    used = (
        own
        + settings["max_videos"] * (idle_worker + WORKER_BYTES)
        + settings["sampling_memory_bytes"]
        + settings["frame_budget_bytes"]
    )
    (container,) = render(values).deployments()["ingress"]["spec"]["template"]["spec"]["containers"]
    assert used <= parse_quantity(container["resources"]["limits"]["memory"])


def test_downloads_fit_their_volume(read):
    for values in VALUES:
        pod = render(values).deployments()["ingress"]["spec"]["template"]["spec"]
        (scratch,) = [volume for volume in pod["volumes"] if volume["name"] == "scratch"]
        limit = scratch["emptyDir"]["sizeLimit"]
        assert limit.endswith("Gi")
        assert int(read[values, "ingress"]["scratch_bytes"]) < int(limit.removesuffix("Gi")) << 30


def test_an_existing_secret_with_signing_keys_replaces_the_generated_one():
    rendered = render("local", {"resumeTokens": {"existingSecret": "theirs", "secretKey": "signing"}})
    (container,) = rendered.deployments()["ingress"]["spec"]["template"]["spec"]["containers"]
    (keys,) = [item for item in container["env"] if item["name"] == "INGRESS_RESUME_KEYS"]
    assert keys["valueFrom"]["secretKeyRef"] == {"name": "theirs", "key": "signing"}
    assert not rendered.of_kind("Secret")


@pytest.mark.parametrize("service", SERVICES)
def test_the_services_send_their_spans_where_the_values_say(service):
    def variables(changes: dict[str, Any]) -> dict[str, str]:
        container = render("local", changes).one("Deployment", service)["spec"]["template"]["spec"]["containers"][0]
        return {
            entry["name"]: entry.get("value", "") for entry in container["env"] if entry["name"].startswith("OTEL_")
        }

    assert variables({}) == {}
    assert variables({"tracing": {"endpoint": "http://collector:4317", "ratio": 0.01}}) == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.01",
    }
