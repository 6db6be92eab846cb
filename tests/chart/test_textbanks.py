"""Text banks: one ordinary Job each, with a valid command line."""

from pathlib import Path
from typing import Any

import pytest
import typer.main

from tests.chart.helm import NAME, ROOT, Rendered, render
from videoanalysis.cli import app

OWN = {"tags": ["kitchen"], "descriptions": ["A person cooking", "An empty hall"]}


def jobs(rendered: Rendered) -> dict[str, dict]:
    """By the bank's name."""
    found = {}
    for name, job in rendered.of_kind("Job").items():
        bank = name.removeprefix(f"{NAME}-bank-").rpartition("-")[0]
        found[bank] = job
    return found


def command(job: dict) -> list[str]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return list(container["command"])


def parsed(words: list[str]) -> Any:
    """Parses with the command line itself; raises its usage error."""
    program, *words = words
    assert program == "videoanalysis"
    known: Any = typer.main.get_command(app)
    while hasattr(known, "commands"):
        name, *words = words
        known = known.commands[name]
    return known.make_context("videoanalysis", words)


def test_a_bank_is_built_by_a_retried_job_and_not_by_a_hook():
    (job,) = jobs(render("gpu")).values()
    assert not [key for key in job["metadata"].get("annotations", {}) if key.startswith("helm.sh/")]
    assert job["spec"]["backoffLimit"] == 20
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure"


def test_a_job_uses_the_encoder_s_service_and_writes_to_the_decoder_s_location(monkeypatch):
    monkeypatch.chdir(ROOT)
    for values in ("local", "gpu", "everything"):
        rendered = render(values)
        decoder = rendered.deployments()["decoder"]["spec"]["template"]["spec"]["containers"][0]
        (banks,) = [item["value"] for item in decoder["env"] if item["name"] == "DECODER_BANKS"]
        service = rendered.one("Service", "encoder")
        for bank, job in jobs(rendered).items():
            # The texts of a ConfigMap are nowhere here.
            words = [word.replace("/texts", "textbanks/default") for word in command(job)]
            options = parsed(words).params
            assert options["name"] == bank
            assert options["encoder"] == f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
            assert options["out"].startswith(banks.rstrip("/") + "/")
            assert options["out"].endswith(".safetensors")
            assert Path(options["directory"], "tags.txt").is_file()


def test_template_and_model_digest_are_passed_to_the_command(monkeypatch):
    monkeypatch.chdir(ROOT)
    words = command(jobs(render("everything"))["rooms"])
    options = parsed([word.replace("/texts", "textbanks/default") for word in words]).params
    assert options["template"] == "a {}"
    assert options["model_digest"] == "sha256:" + "0" * 64


def test_texts_in_values_become_the_files_of_the_job():
    rendered = render("everything")
    (volume,) = [
        item for item in jobs(rendered)["rooms"]["spec"]["template"]["spec"]["volumes"] if item["name"] == "texts"
    ]
    texts = rendered.of_kind("ConfigMap")[volume["configMap"]["name"]]["data"]
    assert texts["tags.txt"].splitlines() == ["kitchen", "it's a hall: long"]
    assert texts["descriptions.txt"].splitlines() == ["A #1 room"]


def test_an_existing_config_map_is_mounted_unchanged():
    (volume,) = [
        item
        for item in jobs(render("everything"))["own"]["spec"]["template"]["spec"]["volumes"]
        if item["name"] == "texts"
    ]
    assert volume["configMap"]["name"] == "own-texts"


def _names(changes: dict) -> set[str]:
    return set(render("local", changes).of_kind("Job"))


def test_an_upgrade_without_changes_of_a_bank_creates_no_job():
    assert _names({}) == _names({"ingress": {"replicas": 7}, "encoder": {"resources": {"limits": {"memory": "3Gi"}}}})


@pytest.mark.parametrize(
    "changes",
    [
        {"textBanks": {"build": {"default": {"template": "a {}"}}}},
        {"textBanks": {"location": "s3://banks/prod/"}},
        {"model": {"directory": "elsewhere"}},
        {"model": {"digest": "sha256:" + "1" * 64}},
        {"image": {"tag": "0.2.0"}},
    ],
    ids=["template", "location", "model", "digest", "texts in another image"],
)
def test_another_bank_is_another_job_because_jobs_are_immutable(changes):
    assert not _names({}) & _names(changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"image": {"tag": "0.2.0"}},
        {"encoder": {"autoscaling": {"minReplicas": 0}}},
        {"textBanks": {"job": {"resources": {"limits": {"memory": "2Gi"}}}}},
        {"commonLabels": {"team": "media"}},
    ],
    ids=["image", "wakes", "resources", "labels"],
)
def test_a_changed_job_has_another_name_and_writes_the_same_file(changes):
    """The API server refuses an upgrade that changes a Job."""

    def name_and_file(changes):
        banks = {"build": {"default": None, "own": OWN}} | changes.get("textBanks", {})
        rendered = render("local", changes | {"textBanks": banks})
        (name,) = rendered.of_kind("Job")
        (file,) = (word for word in command(jobs(rendered)["own"]) if word.startswith("--out="))
        return name, file

    (before, file), (after, file_after) = name_and_file({}), name_and_file(changes)
    assert before != after
    assert file == file_after


def test_a_default_bank_can_be_disabled():
    assert _names({"textBanks": {"build": {"default": None}}}) == set()


def test_without_text_banks_there_is_no_job_and_the_test_sends_labels():
    rendered = render("local", {"textBanks": {"location": "none"}})
    assert not rendered.of_kind("Job")
    (pod,) = rendered.of_kind("Pod").values()
    assert len(parsed(pod["spec"]["containers"][0]["command"]).params["label"]) == 2
    decoder = rendered.deployments()["decoder"]["spec"]["template"]["spec"]["containers"][0]
    assert "DECODER_BANKS" not in {item["name"] for item in decoder["env"]}
    assert not [item for item in rendered if item["metadata"]["name"].endswith("-textbank")]


def test_on_a_volume_the_decoder_reads_and_the_job_writes():
    rendered = render("local")
    (claim,) = rendered.of_kind("PersistentVolumeClaim")
    pods = rendered.pods()
    for name, pod in pods.items():
        volumes = [item for item in pod["volumes"] if item["name"] == "banks"]
        mounts = [item for item in pod["containers"][0]["volumeMounts"] if item["name"] == "banks"]
        if "decoder" in name:
            assert volumes[0]["persistentVolumeClaim"] == {"claimName": claim, "readOnly": True}
            assert mounts[0]["readOnly"] is True
        elif name.startswith("Job/"):
            assert volumes[0]["persistentVolumeClaim"] == {"claimName": claim}
            assert mounts == [{"name": "banks", "mountPath": "/banks"}]
        else:
            assert not volumes


def test_an_existing_volume_replaces_the_created_one():
    rendered = render("local", {"textBanks": {"volume": {"existingClaim": "theirs"}}})
    assert not rendered.of_kind("PersistentVolumeClaim")
    (job,) = jobs(rendered).values()
    claims = [item.get("persistentVolumeClaim") for item in job["spec"]["template"]["spec"]["volumes"]]
    assert {"claimName": "theirs"} in claims


def test_a_job_scales_an_encoder_from_zero_through_the_ingress():
    def woken(changes):
        (container,) = jobs(render("gpu", changes))["default"]["spec"]["template"]["spec"]["containers"]
        return parsed(container["command"]).params["wake"]

    assert woken({}) is None
    assert woken({"encoder": {"autoscaling": {"minReplicas": 0}}}) == f"{NAME}-ingress:50051"


def test_helm_test_analyses_the_sample_at_the_ingress():
    rendered = render("gpu")
    (pod,) = rendered.of_kind("Pod").values()
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    options = parsed(container["command"]).params
    service = rendered.one("Service", "ingress")
    assert options["videos"] == ["sample://clip"]
    assert options["address"] == f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert container["image"] == rendered.deployments()["ingress"]["spec"]["template"]["spec"]["containers"][0]["image"]


def test_helm_test_sends_hostile_media_if_an_upload_location_is_set():
    changes = {"test": {"hostile": {"upload": "s3://bucket/hostile"}}, "s3": {"endpointUrl": "http://minio:9000"}}
    rendered = render("gpu", changes)
    (pod,) = (pod for name, pod in rendered.of_kind("Pod").items() if "hostile" in str(name))
    (container,) = pod["spec"]["containers"]
    options = parsed(container["command"]).params
    service = rendered.one("Service", "ingress")
    assert (options["hostile"], options["upload"]) == (True, "s3://bucket/hostile")
    assert options["address"] == f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert pod["spec"]["restartPolicy"] == "Never"
    ingress = rendered.deployments()["ingress"]["spec"]["template"]["spec"]
    assert pod["spec"]["serviceAccountName"] == ingress["serviceAccountName"]
    assert {"name": "AWS_ENDPOINT_URL_S3", "value": "http://minio:9000"} in container["env"]
    assert len(render("gpu").of_kind("Pod")) == 1


def test_object_store_credentials_come_from_a_secret():
    rendered = render("everything")
    pods = {name: pod for name, pod in rendered.pods().items() if "encoder" not in name and not name.startswith("Pod/")}
    assert len(pods) == 5
    for pod in pods.values():
        env = {item["name"]: item for item in pod["containers"][0]["env"]}
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            assert env[key]["valueFrom"]["secretKeyRef"] == {"name": "s3", "key": key}
    (job, *_) = jobs(rendered).values()
    env = {item["name"]: item.get("value") for item in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["AWS_ENDPOINT_URL_S3"] == "http://minio.storage:9000"
    assert env["AWS_REGION"] == "eu-west-1"
