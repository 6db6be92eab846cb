import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file
from transformers import AutoImageProcessor

from services.encoder.checkpoint import resolve
from services.encoder.engine import StartupError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copied(checkpoint_directory, tmp_path) -> Path:
    return Path(shutil.copytree(checkpoint_directory, tmp_path / "copy"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_digest_does_not_depend_on_where_the_files_lie(checkpoint_directory, copied):
    original, moved = resolve(str(checkpoint_directory), None), resolve(str(copied), None)
    assert original.digest == moved.digest
    assert original.digest.startswith("sha256:")
    assert len(original.digest) == len("sha256:") + 64


@pytest.mark.parametrize(
    "name", ["config.json", "preprocessor_config.json", "tokenizer_config.json", "spiece.model", "model.safetensors"]
)
def test_the_digest_changes_with_every_file_that_decides_the_embeddings(copied, name):
    before = resolve(str(copied), None).digest
    with (copied / name).open("ab") as file:
        file.write(b" ")
    assert resolve(str(copied), None).digest != before


def test_the_digest_ignores_other_files(copied):
    before = resolve(str(copied), None).digest
    (copied / "README.md").write_text("a model")
    (copied / "training.json").write_text("{}")
    assert resolve(str(copied), None).digest == before


def test_the_digest_covers_every_shard(copied):
    weights = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({name: weights[name] for name in held}, copied / file)
    index = {"weight_map": {name: file for file, held in shards.items() for name in held}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    before = resolve(str(copied), None).digest
    save_file({name: weights[name] + 1 for name in names[1::2]}, copied / "b.safetensors")
    assert resolve(str(copied), None).digest != before


def test_a_directory_has_no_revision(checkpoint_directory):
    found = resolve(str(checkpoint_directory), None)
    assert (found.revision, found.model_id) == ("", str(checkpoint_directory))
    with pytest.raises(StartupError, match=r"ENCODER_REVISION=abc .* is a directory"):
        resolve(str(checkpoint_directory), "abc")


def test_preprocessing_is_also_found_where_a_saved_processor_puts_it(copied):
    wanted = resolve(str(copied), None).preprocessing
    (copied / "preprocessor_config.json").unlink()
    (copied / "processor_config.json").write_text(json.dumps({"image_processor": wanted}))
    assert resolve(str(copied), None).preprocessing == wanted


def test_of_two_configurations_of_preprocessing_it_is_the_one_that_transformers_uses(copied):
    other = {**resolve(str(copied), None).preprocessing, "image_mean": [0.1, 0.2, 0.3]}
    (copied / "processor_config.json").write_text(json.dumps({"image_processor": other}))
    used = AutoImageProcessor.from_pretrained(copied)
    assert resolve(str(copied), None).preprocessing["image_mean"] == list(used.image_mean)


def test_a_processor_without_a_configuration_of_preprocessing_leaves_it_to_the_other_file(copied):
    wanted = resolve(str(copied), None).preprocessing
    (copied / "processor_config.json").write_text(json.dumps({"processor_class": "SiglipProcessor"}))
    assert resolve(str(copied), None).preprocessing == wanted


def test_names_the_setting_when_the_directory_is_missing():
    with pytest.raises(StartupError, match="ENCODER_MODEL=/no/such/model: there is no such directory"):
        resolve("/no/such/model", None)


def test_refuses_another_architecture(copied):
    edit(copied / "config.json", model_type="clip")
    with pytest.raises(StartupError, match=r"ENCODER_MODEL=.* is a 'clip' model; this engine serves SigLIP"):
        resolve(str(copied), None)


def test_refuses_weights_that_are_not_safetensors(copied):
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(StartupError, match=r"ENCODER_MODEL=.* has no model.safetensors.*safetensors only"):
        resolve(str(copied), None)


@pytest.mark.parametrize(
    ("missing", "complaint"),
    [
        ("config.json", "no config.json"),
        ("spiece.model", "no tokenizer"),
        ("preprocessor_config.json", "no preprocessor_config.json"),
    ],
)
def test_refuses_a_checkpoint_with_a_part_missing(copied, missing, complaint):
    (copied / missing).unlink()
    with pytest.raises(StartupError, match=f"ENCODER_MODEL=.*{complaint}"):
        resolve(str(copied), None)


def test_refuses_a_configuration_that_is_not_json(copied):
    (copied / "config.json").write_text("<html>")
    with pytest.raises(StartupError, match=r"ENCODER_MODEL.*config.json is not JSON"):
        resolve(str(copied), None)


def in_hub_cache(script: str, cache: Path) -> subprocess.CompletedProcess:
    """Run `script` in a process without network whose hub cache is `cache`; the hub reads both when imported."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(cache)}
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_a_hub_id_is_found_in_the_cache_and_pinned_to_its_commit(checkpoint_directory, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--tiny-siglip"
    shutil.copytree(checkpoint_directory, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    script = """
from services.encoder.checkpoint import resolve
for revision in (None, "0123456789abcdef0123456789abcdef01234567"):
    found = resolve("someone/tiny-siglip", revision)
    print(found.model_id, found.revision, found.digest)
"""
    done = in_hub_cache(script, tmp_path)
    digest = resolve(str(checkpoint_directory), None).digest
    assert done.stdout.splitlines() == [f"someone/tiny-siglip {commit} {digest}"] * 2, done.stderr


def test_a_hub_model_that_cannot_be_served_is_refused_before_its_weights_are_downloaded(tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--naflex"
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / "config.json").write_text(json.dumps({"model_type": "siglip2"}))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    script = """
from services.encoder.checkpoint import resolve
resolve("someone/naflex", None)
"""
    assert "ENCODER_MODEL=someone/naflex is a NaFlex SigLIP 2 model" in in_hub_cache(script, tmp_path).stderr


def test_names_the_setting_and_the_remedies_when_a_hub_id_cannot_be_downloaded(tmp_path):
    script = """
from services.encoder.checkpoint import resolve
from services.encoder.engine import StartupError
for model in ("someone/absent", "not a hub id"):
    try:
        resolve(model, None)
    except StartupError as error:
        print(error)
"""
    done = in_hub_cache(script, tmp_path)
    absent, malformed = done.stdout.splitlines()
    assert absent.startswith("ENCODER_MODEL=someone/absent (revision main) could not be downloaded: ")
    assert "HF_HUB_OFFLINE" in absent
    assert malformed.startswith("ENCODER_MODEL=not a hub id (revision main) could not be downloaded: ")
