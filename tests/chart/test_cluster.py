"""The chart rendered by helm with access to a cluster: available kinds, kept secrets, notes."""

import base64
import json

from services.ingress.settings import MIN_KEY_BYTES
from tests.chart import helm
from tests.chart.cluster import cluster, install
from tests.chart.helm import CUSTOM_KINDS, NAME, Rendered

KEDA = ["keda.sh/v1alpha1/ScaledObject"]

KEYS = f"{NAME}-resume-keys"


def secret(**data: str) -> dict:
    """As an earlier version of the release has left it."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": KEYS,
            "namespace": "media",
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"meta.helm.sh/release-name": "va", "meta.helm.sh/release-namespace": "media"},
        },
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


def signing_keys(rendered: Rendered) -> list[str]:
    data = rendered.of_kind("Secret")[KEYS]["data"]
    return list(json.loads(base64.b64decode(data["keys"])))


def test_a_new_release_gets_new_signing_keys(tmp_path):
    with cluster(tmp_path, version="1.34", custom_kinds=KEDA) as environment:
        (first,) = signing_keys(install(environment)[0])
        (second,) = signing_keys(install(environment)[0])
    assert first != second
    assert len(first) == 48 >= MIN_KEY_BYTES


def test_the_ingress_reads_the_generated_keys(tmp_path):
    with cluster(tmp_path, version="1.34", custom_kinds=KEDA) as environment:
        rendered, _ = install(environment)
    (container,) = rendered.deployments()["ingress"]["spec"]["template"]["spec"]["containers"]
    (keys,) = [item for item in container["env"] if item["name"] == "INGRESS_RESUME_KEYS"]
    reference = keys["valueFrom"]["secretKeyRef"]
    assert reference["key"] in rendered.of_kind("Secret")[reference["name"]]["data"]


def test_rendering_without_a_cluster_generates_no_keys():
    # It would generate others at each rendering.
    ended = helm.run("template", "local", {"resumeTokens": {"existingSecret": ""}})
    assert ended.returncode != 0
    assert "resumeTokens.existingSecret is required where manifests are rendered without the cluster" in ended.stderr


def test_an_upgrade_keeps_the_signing_keys(tmp_path):
    kept = ["the newest of them", "one before"]
    with cluster(tmp_path, version="1.34", custom_kinds=KEDA, secrets=[secret(keys=json.dumps(kept))]) as environment:
        assert signing_keys(install(environment)[0]) == kept
        assert signing_keys(install(environment)[0]) == kept


def test_an_upgrade_adds_a_missing_key_to_the_secret(tmp_path):
    with cluster(tmp_path, version="1.34", custom_kinds=KEDA, secrets=[secret(other="x")]) as environment:
        (key,) = signing_keys(install(environment)[0])
    assert len(key) == 48


def test_only_objects_of_kinds_that_the_cluster_has_are_rendered(tmp_path):
    with cluster(tmp_path, version="1.31", custom_kinds=KEDA) as environment:
        kinds = {item["kind"] for item in install(environment)[0]}
    assert "ScaledObject" in kinds
    assert not {"PodMonitor", "PrometheusRule", "GRPCRoute"} & kinds


def test_notes_contain_a_grpcurl_command_for_this_release(tmp_path):
    with cluster(tmp_path, version="1.34", custom_kinds=CUSTOM_KINDS) as environment:
        _, notes = install(environment)
    assert "kubectl -n media port-forward svc/va-video-analysis-ingress 50051:50051 &" in notes
    assert """grpcurl -plaintext -d '{"video_uri": "sample://clip"}' \\\n      localhost:50051 """ in notes
    assert "videoanalysis.v1.VideoAnalysisService/AnalyzeVideo" in notes
    assert "kubectl -n media get scaledobjects" in notes
    assert "WARNING" not in notes


def test_notes_warn_about_synthetic_results_and_name_the_kinds_that_are_missing(tmp_path):
    with cluster(tmp_path, version="1.34", custom_kinds=KEDA) as environment:
        _, notes = install(environment, changes={"model": {"source": "synthetic"}})
    assert "WARNING: the encoder returns made-up embeddings" in notes
    for kind in ("PodMonitor", "PrometheusRule"):
        assert f"There is no {kind}: this cluster does not have the kind" in notes


def test_a_cluster_without_keda_is_refused(tmp_path):
    with cluster(tmp_path, version="1.34") as environment:
        ended = helm.run("install", "local", environment=environment, arguments=["--dry-run=server"])
    assert ended.returncode != 0
    assert "autoscaling.mode is keda, but the cluster does not have KEDA's ScaledObject" in ended.stderr


def test_without_text_banks_the_notes_use_labels(tmp_path):
    with cluster(tmp_path, version="1.34", custom_kinds=CUSTOM_KINDS) as environment:
        _, notes = install(environment, changes={"textBanks": {"location": "none"}})
    assert '{"video_uri": "sample://clip", "labels": ["indoors", "outdoors"]}' in notes
