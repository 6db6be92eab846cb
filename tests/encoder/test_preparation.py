"""A prepared model: what is written, that the encoder computes the same from it, and what is refused."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from services.encoder import siglip
from services.encoder.checkpoint import Checkpoint, resolve
from services.encoder.engine import StartupError
from services.encoder.preparation import CannotPrepare, prepare
from services.encoder.verification import Outcome, Verification
from videoanalysis.errors import Unavailable

TEXTS = ["a dog walks in the garden", "Train, stops: in the STATION!"]


@pytest.fixture(scope="module")
def prepared_directory(checkpoint_directory, tmp_path_factory) -> Path:
    """Not to be changed, copy it first."""
    directory = tmp_path_factory.mktemp("models") / "prepared"
    prepare(resolve(str(checkpoint_directory), None), directory)
    return directory


@pytest.fixture
def copied(prepared_directory, tmp_path) -> Path:
    return Path(shutil.copytree(prepared_directory, tmp_path / "copy"))


def load(directory: Path, precision: str, **changes: object) -> siglip.SiglipEngine:
    wanted = {"device": "cpu", "precision": precision, "torch_threads": 1, **changes}
    return siglip.load(resolve(str(directory), None), **wanted)


def noise(size: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (4, size, size, 3), dtype=np.uint8)


def cosines(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    return (rows * others).sum(axis=1)


def test_in_bfloat16_it_computes_bit_for_bit_what_the_whole_model_does(checkpoint_directory, prepared_directory):
    whole, prepared = load(checkpoint_directory, "bfloat16"), load(prepared_directory, "bfloat16")
    frames = noise(whole.model.image_size)
    assert np.array_equal(prepared.encode(frames).embeddings, whole.encode(frames).embeddings)
    assert np.array_equal(prepared.encode_texts(TEXTS), whole.encode_texts(TEXTS))


def test_it_stands_for_the_same_model(checkpoint_directory, prepared_directory, siglip_engine):
    model, whole = load(prepared_directory, "float32").model, siglip_engine.model
    assert model.digest == whole.digest
    assert (model.logit_scale, model.logit_bias) == (whole.logit_scale, whole.logit_bias)
    assert (model.image_size, model.embedding_dim) == (whole.image_size, whole.embedding_dim)
    assert model.model_id == str(prepared_directory)


def test_in_float32_it_differs_by_the_rounding_of_its_weights(prepared_directory, siglip_engine):
    frames = noise(siglip_engine.model.image_size)
    prepared = load(prepared_directory, "float32").encode(frames).embeddings
    assert 0.99 < cosines(prepared, siglip_engine.encode(frames).embeddings).min() < 1


def test_its_files_are_the_towers_and_the_configuration_as_it_was(checkpoint_directory, prepared_directory):
    copies = {path.name for path in resolve(str(checkpoint_directory), None).configuration_files}
    written = {path.name for path in prepared_directory.iterdir()}
    assert written == copies | {"vision.safetensors", "text.safetensors", "prepared.json"}
    for name in copies:
        assert (prepared_directory / name).read_bytes() == (checkpoint_directory / name).read_bytes()
    vision, text = (load_file(prepared_directory / f"{tower}.safetensors") for tower in ("vision", "text"))
    assert vision.pop("logit_scale").dtype == vision.pop("logit_bias").dtype == torch.float32
    assert {name.split(".")[0] for name in vision} == {"vision_model"}
    assert {name.split(".")[0] for name in text} == {"text_model"}
    assert {tensor.dtype for tensor in [*vision.values(), *text.values()]} == {torch.bfloat16}


def test_all_of_its_files_have_the_same_read_permissions(prepared_directory):
    assert len({path.stat().st_mode for path in prepared_directory.iterdir()}) == 1


def test_its_digest_does_not_need_the_file_of_the_text_tower_to_be_read(copied):
    checkpoint = resolve(str(copied), None)
    before = (copied / "text.safetensors").stat().st_size
    os.truncate(copied / "text.safetensors", before - 1)
    assert checkpoint.digest == resolve(str(copied), None).digest
    with pytest.raises(StartupError, match=r"SHA-256 of text\.safetensors"):
        checkpoint.require_intact()


def test_of_a_hub_model_it_keeps_name_and_commit(checkpoint_directory, tmp_path):
    prepare(Checkpoint("someone/tiny-siglip", "0123abc", checkpoint_directory), tmp_path / "prepared")
    model = load(tmp_path / "prepared", "float32").model
    assert (model.model_id, model.revision) == ("someone/tiny-siglip", "0123abc")


def test_shards_are_joined(checkpoint_directory, prepared_directory, tmp_path):
    sharded = Path(shutil.copytree(checkpoint_directory, tmp_path / "sharded"))
    weights = load_file(sharded / "model.safetensors")
    (sharded / "model.safetensors").unlink()
    files = {name: f"{index % 3}.safetensors" for index, name in enumerate(weights)}
    for file in set(files.values()):
        save_file({name: weights[name] for name in files if files[name] == file}, sharded / file)
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    prepare(resolve(str(sharded), None), tmp_path / "prepared")
    for name in ("vision.safetensors", "text.safetensors"):
        assert (tmp_path / "prepared" / name).read_bytes() == (prepared_directory / name).read_bytes()


def test_model_verify_checks_it_as_any_other(prepared_directory):
    checkpoint = resolve(str(prepared_directory), None)
    findings = list(Verification(checkpoint, load(prepared_directory, "float32")).findings())
    assert {finding.outcome for finding in findings} == {Outcome.PASS}


@pytest.mark.parametrize("name", ["vision.safetensors", "config.json", "spiece.model", "tokenizer_config.json"])
def test_a_damaged_file_is_refused(copied, name):
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content.replace(b"4", b"5"))
    with pytest.raises(StartupError, match=rf"SHA-256 of {name} is .*copy or prepare the model again"):
        _ = resolve(str(copied), None).digest


def test_an_encoder_does_not_start_with_damaged_weights(copied):
    content = bytearray((copied / "vision.safetensors").read_bytes())
    content[-2] ^= 1
    (copied / "vision.safetensors").write_bytes(content)
    with pytest.raises(StartupError, match=r"SHA-256 of vision\.safetensors"):
        load(copied, "bfloat16")


def test_configuration_that_the_source_did_not_have_is_refused(copied):
    (copied / "added_tokens.json").write_text("{}")
    with pytest.raises(StartupError, match=r"added_tokens\.json .* recorded is no such file"):
        _ = resolve(str(copied), None).digest


@pytest.mark.parametrize("name", ["text.safetensors", "vision.safetensors"])
def test_a_missing_file_is_refused_at_once(copied, name):
    (copied / name).unlink()
    with pytest.raises(StartupError, match=f"has no {name}; copy or prepare"):
        resolve(str(copied), None)


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"weights": {}}, {"source": None}, {"weights": {"../x": "0", "text.safetensors": "0"}}]
)
def test_a_record_of_another_version_or_damaged_is_refused(copied, change):
    record = json.loads((copied / "prepared.json").read_text())
    (copied / "prepared.json").write_text(json.dumps(record | change))
    with pytest.raises(StartupError, match=r"prepared\.json .*prepare the model again"):
        resolve(str(copied), None)


def test_a_text_tower_that_was_damaged_after_the_start_is_not_served(copied):
    engine = load(copied, "bfloat16")
    content = bytearray((copied / "text.safetensors").read_bytes())
    content[-2] ^= 1
    (copied / "text.safetensors").write_bytes(content)
    for _ in range(2):
        with pytest.raises(Unavailable):
            engine.encode_texts(TEXTS)


def test_whole_weights_that_were_replaced_after_the_start_are_not_mixed_with_those_served(
    checkpoint_directory, tmp_path
):
    directory = Path(shutil.copytree(checkpoint_directory, tmp_path / "whole"))
    engine = load(directory, "float32")
    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    save_file({name: tensor + 1 for name, tensor in weights.items()}, directory / "model.safetensors")
    for _ in range(2):
        with pytest.raises(Unavailable):
            engine.encode_texts(TEXTS)


def test_a_prepared_model_is_not_overwritten_without_the_option(checkpoint_directory, copied):
    source = resolve(str(checkpoint_directory), None)
    before = (copied / "prepared.json").stat().st_ino
    with pytest.raises(CannotPrepare, match="--overwrite"):
        prepare(source, copied)
    assert (copied / "prepared.json").stat().st_ino == before
    (copied / "vision.safetensors").write_bytes(b"damaged")
    prepare(source, copied, overwrite=True)
    resolve(str(copied), None).require_intact()
    assert [path.name for path in copied.parent.iterdir()] == ["copy"]


def test_nothing_else_is_ever_overwritten(checkpoint_directory, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(CannotPrepare, match="is no prepared model"):
        prepare(resolve(str(checkpoint_directory), None), tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_an_empty_directory_is_filled(checkpoint_directory, tmp_path):
    (tmp_path / "prepared").mkdir()
    prepare(resolve(str(checkpoint_directory), None), tmp_path / "prepared")
    resolve(str(tmp_path / "prepared"), None).require_intact()


def test_a_failure_leaves_nothing_behind(checkpoint_directory, tmp_path):
    source = resolve(str(Path(shutil.copytree(checkpoint_directory, tmp_path / "source"))), None)
    _ = source.digest
    # The weights change after they were hashed.
    with (tmp_path / "source" / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\1")
    with pytest.raises(StartupError, match=r"SHA-256 of model\.safetensors"):
        prepare(source, tmp_path / "models" / "prepared")
    assert list((tmp_path / "models").iterdir()) == []


def test_free_space_is_checked_before_anything_is_written(checkpoint_directory, tmp_path):
    with pytest.raises(CannotPrepare, match=r"needs 1,099,511,627,777 MiB, of which [\d,]+ are free"):
        prepare(resolve(str(checkpoint_directory), None), tmp_path / "prepared", spare_bytes=1 << 60)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(checkpoint_directory, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotPrepare, match=r"file/prepared cannot be written: "):
        prepare(resolve(str(checkpoint_directory), None), tmp_path / "file" / "prepared")


def test_a_prepared_model_is_not_prepared_again(prepared_directory, tmp_path):
    with pytest.raises(CannotPrepare, match="is prepared already"):
        prepare(resolve(str(prepared_directory), None), tmp_path / "prepared")


def test_weights_that_are_no_siglip_are_refused_before_anything_is_written(checkpoint_directory, tmp_path):
    source = Path(shutil.copytree(checkpoint_directory, tmp_path / "source"))
    config = json.loads((source / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] += 1
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(StartupError, match=r"miss 16 tensors, such as vision_model\.encoder\.layers\.2"):
        prepare(resolve(str(source), None), tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()


def test_a_model_in_half_precision_is_prepared_too(checkpoint_directory, tmp_path):
    source = Path(shutil.copytree(checkpoint_directory, tmp_path / "source"))
    weights = load_file(source / "model.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in weights.items()}, source / "model.safetensors")
    prepare(resolve(str(source), None), tmp_path / "prepared")
    with safe_open(tmp_path / "prepared" / "vision.safetensors", framework="pt") as file:
        assert file.get_tensor("logit_scale").item() == weights["logit_scale"].bfloat16().item()
