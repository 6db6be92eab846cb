"""Sources of the encoder's weights, and the check of their digest."""

import os
import subprocess
import sys

from tests.chart.helm import ROOT, render
from videoanalysis.stack import bundled_model


def encoder(values: str, changes: dict | None = None) -> dict:
    return dict(render(values, changes).deployments()["encoder"]["spec"]["template"]["spec"])


def environment(pod: dict) -> dict[str, str]:
    return {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}


def volume(pod: dict) -> dict | None:
    found = [item for item in pod["volumes"] if item["name"] == "model"]
    return found[0] if found else None


def mounts(container: dict) -> list[dict]:
    return [item for item in container["volumeMounts"] if item["name"] == "model"]


def test_baked_needs_no_volume_and_no_network():
    pod = encoder("local")
    assert volume(pod) is None
    assert "initContainers" not in pod
    assert environment(pod)["ENCODER_MODEL"] == str(bundled_model.DIRECTORY.relative_to(ROOT))
    assert environment(pod)["HF_HUB_OFFLINE"] == "1"


def test_a_claim_is_mounted_read_only():
    pod = encoder("production", {"model": {"directory": "siglip"}})
    assert volume(pod) == {"name": "model", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}}
    assert mounts(pod["containers"][0]) == [{"name": "model", "mountPath": "/model", "readOnly": True}]
    assert environment(pod)["ENCODER_MODEL"] == "/model/siglip"
    assert environment(pod)["HF_HUB_OFFLINE"] == "1"


def test_a_download_is_pinned_and_checked_before_an_offline_encoder_starts():
    pod = encoder("gpu")
    (fetch,) = pod["initContainers"]
    assert fetch["image"] == pod["containers"][0]["image"]
    assert fetch["command"] == [
        "python",
        "-m",
        "services.encoder.fetch",
        "google/siglip-so400m-patch14-384",
        f"--revision={'0' * 40}",
        f"--digest=sha256:{'0' * 64}",
    ]
    assert mounts(fetch) == [{"name": "model", "mountPath": "/model"}]
    assert mounts(pod["containers"][0]) == [{"name": "model", "mountPath": "/model", "readOnly": True}]
    fetched_to = {item["name"]: item.get("value") for item in fetch["env"]}
    assert fetched_to["HF_HOME"] == environment(pod)["HF_HOME"] == "/model"
    assert "HF_HUB_OFFLINE" not in fetched_to
    assert environment(pod)["HF_HUB_OFFLINE"] == "1"
    assert environment(pod)["ENCODER_REVISION"] == "0" * 40


def test_a_download_may_use_a_volume_and_a_token():
    pod = encoder("everything")
    assert volume(pod) == {"name": "model", "persistentVolumeClaim": {"claimName": "hub"}}
    (fetch,) = pod["initContainers"]
    env = {item["name"]: item for item in fetch["env"]}
    assert env["HF_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "hub", "key": "token"}
    assert env["HF_ENDPOINT"]["value"] == "https://hub.example.com"
    assert "HF_TOKEN" not in environment(pod)


def test_the_synthetic_engine_has_no_model():
    pod = encoder("local", {"model": {"source": "synthetic"}})
    assert environment(pod)["ENCODER_ENGINE"] == "synthetic"
    assert not {"ENCODER_MODEL", "HF_HOME"} & environment(pod).keys()


def check_of(digest: str) -> subprocess.CompletedProcess[str]:
    """What the init container does that checks a model which is there already."""
    (container,) = encoder("local", {"model": {"digest": digest}})["initContainers"]
    _, *arguments = container["command"]
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_check_accepts_the_expected_model():
    assert check_of(bundled_model.DIGEST).returncode == 0


def test_the_check_rejects_another_model():
    ended = check_of("sha256:" + "0" * 64)
    assert ended.returncode == 1
    assert bundled_model.DIGEST in ended.stderr
