"""The chart rendered by helm with access to a cluster: available kinds, kept secrets, notes."""

import base64
import json

import yaml

from tests.chart import helm
from tests.chart.cluster import cluster
from tests.chart.helm import CUSTOM_KINDS, NAME, Rendered

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


def install(environment: dict[str, str], changes: dict | None = None) -> tuple[Rendered, str]:
    """The objects and the notes."""
    options = ["--dry-run=server", "--disable-openapi-validation", "--output=json"]
    ended = helm.run("install", "local", changes, environment=environment, arguments=options)
    assert ended.returncode == 0, ended.stderr
    release = json.loads(ended.stdout)
    return Rendered(item for item in yaml.safe_load_all(release["manifest"]) if item), release["info"]["notes"]


def signing_keys(rendered: Rendered) -> list[str]:
    data = rendered.of_kind("Secret")[KEYS]["data"]
    return list(json.loads(base64.b64decode(data["keys"])))


def test_a_new_release_gets_new_signing_keys(tmp_path):
    with cluster(tmp_path, version="1.34") as environment:
        (first,) = signing_keys(install(environment)[0])
        (second,) = signing_keys(install(environment)[0])
    assert first != second
    assert len(first) == 48


def test_an_upgrade_keeps_the_signing_keys(tmp_path):
    kept = ["the newest of them", "one before"]
    with cluster(tmp_path, version="1.34", secrets=[secret(keys=json.dumps(kept))]) as environment:
        assert signing_keys(install(environment)[0]) == kept


def test_an_upgrade_adds_a_missing_key_to_the_secret(tmp_path):
    with cluster(tmp_path, version="1.34", secrets=[secret(other="x")]) as environment:
        (key,) = signing_keys(install(environment)[0])
    assert len(key) == 48


def test_only_objects_of_kinds_that_the_cluster_has_are_rendered(tmp_path):
    with cluster(tmp_path, version="1.31", custom_kinds=["keda.sh/v1alpha1/ScaledObject"]) as environment:
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


def test_notes_warn_about_missing_autoscaling_and_synthetic_results(tmp_path):
    with cluster(tmp_path, version="1.34") as environment:
        _, notes = install(environment, changes={"model": {"source": "synthetic"}})
    assert "WARNING: nothing scales. autoscaling.mode is keda, but this cluster does not have KEDA's" in notes
    assert "WARNING: the encoder returns made-up embeddings" in notes


def test_without_text_banks_the_notes_use_labels(tmp_path):
    with cluster(tmp_path, version="1.34", custom_kinds=CUSTOM_KINDS) as environment:
        _, notes = install(environment, changes={"textBanks": {"location": "none"}})
    assert '{"video_uri": "sample://clip", "labels": ["indoors", "outdoors"]}' in notes
