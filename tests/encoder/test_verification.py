"""The findings for a valid checkpoint, and for each way in which one can be broken."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from services.encoder import siglip
from services.encoder.bundled.siglip_files import sentencepiece_model
from services.encoder.checkpoint import resolve
from services.encoder.verification import Finding, Outcome, Verification

CHECKS = [
    "tokenizer",
    "pixel values",
    "resizing",
    "pictures",
    "texts",
    "text padding",
    "rows",
    "logit scale and bias",
    "size and speed",
]

CROPPING = {"image_processor_type": "CLIPImageProcessor", "do_center_crop": True, "size": {"shortest_edge": 96}}


@pytest.fixture
def copied(checkpoint_directory, tmp_path) -> Path:
    return Path(shutil.copytree(checkpoint_directory, tmp_path / "copy"))


@pytest.fixture
def check(copied, siglip_engine) -> Callable[[str], Finding]:
    """The result of one check of the changed checkpoint `copied`, with the engine of the original."""
    return lambda name: Verification(resolve(str(copied), None), siglip_engine).check(name)


def verify(directory: Path, precision: str = "float32") -> dict[str, Finding]:
    checkpoint = resolve(str(directory), None)
    engine = siglip.load(checkpoint, device="cpu", precision=precision, torch_threads=1)
    return {finding.check: finding for finding in Verification(checkpoint, engine).findings()}


def not_passed(findings: dict[str, Finding]) -> dict[str, Outcome]:
    return {name: finding.outcome for name, finding in findings.items() if finding.outcome is not Outcome.PASS}


def edit(path: Path, **changes: object) -> None:
    document = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not None}))


def edit_weights(directory: Path, tensor: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    weights = load_file(directory / "model.safetensors")
    weights[tensor] = change(weights[tensor]).astype(np.float32)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def test_a_sound_checkpoint_passes_every_check(checkpoint_directory):
    findings = verify(checkpoint_directory)
    assert list(findings) == CHECKS
    assert not_passed(findings) == {}
    assert "64 tokens of 200" in findings["tokenizer"].figures
    assert "black is -1, white 1" in findings["pixel values"].figures
    assert findings["logit scale and bias"].figures == "scale 112.17, bias -16.5"
    parameters = sum(value.size for value in load_file(checkpoint_directory / "model.safetensors").values())
    assert findings["size and speed"].figures.startswith(f"{parameters:,} parameters, ")


def test_half_precision_passes_within_its_rounding(checkpoint_directory):
    assert not_passed(verify(checkpoint_directory, "float16")) == {}


def test_a_model_that_suffers_from_rounding_is_a_warning(checkpoint_directory):
    findings = verify(checkpoint_directory, "bfloat16")
    assert not_passed(findings) == {"pictures": Outcome.WARN}
    assert "ENCODER_PRECISION=float16 or float32" in findings["pictures"].advice


@pytest.mark.parametrize(
    ("changes", "figures"),
    [
        ({"model_max_length": 16}, "made for 16 tokens, the text tower for 64"),
        ({"eos_token": "<unk>"}, "eos_token_id is 2, config.json says 1"),
        ({"padding_side": "left"}, "90, 1] become 64 tokens [1, 1, "),
    ],
)
def test_a_tokenizer_that_is_configured_for_another_model_fails(copied, check, changes, figures):
    edit(copied / "tokenizer_config.json", **changes)
    found = check("tokenizer")
    assert found.outcome is Outcome.FAIL
    assert figures in found.figures
    assert found.advice


@pytest.mark.parametrize(
    ("corpus", "vocabulary", "figures"),
    [
        ([f"{number} and {number * 7}" for number in range(900)], 60, "'a photo of a dog in the garden' comes back as"),
        ([f"{number} and {number * 7}" for number in range(900)], 260, "gives ids up to 259, the text tower has 200"),
    ],
)
def test_the_vocabulary_of_another_model_fails(copied, check, corpus, vocabulary, figures):
    (copied / "spiece.model").write_bytes(sentencepiece_model(corpus, vocabulary))
    found = check("tokenizer")
    assert found.outcome is Outcome.FAIL
    assert figures in found.figures


def test_a_tokenizer_that_states_no_maximal_length_passes(copied, check):
    edit(copied / "tokenizer_config.json", model_max_length=1e30)
    assert check("tokenizer").outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("changes", "figures"),
    [
        # Its default mean is CLIP's, where SigLIP's is 0.5.
        ({**CROPPING, "crop_size": 96, "image_mean": None}, "ours differ from those of CLIPImageProcessor"),
        ({"size": {"height": 64, "width": 64}}, "makes [64, 64], the network takes [96, 96]"),
        ({"image_mean": [127.5] * 3}, "black is -255, white -253"),
        ({"do_rescale": False}, "black is -1, white 509"),
        ({"image_std": [50.0] * 3}, "black is -0.01, white 0.01"),
    ],
)
def test_pictures_that_are_prepared_in_another_way_fail(copied, check, changes, figures):
    edit(copied / "preprocessor_config.json", **changes)
    found = check("pixel values")
    assert found.outcome is Outcome.FAIL
    assert figures in found.figures
    assert found.advice


def test_a_mean_that_is_not_siglips_is_a_warning(copied):
    edit(copied / "preprocessor_config.json", image_mean=[0.48, 0.46, 0.41], image_std=[0.27, 0.26, 0.28])
    assert not_passed(verify(copied)) == {"pixel values": Outcome.WARN}


@pytest.mark.parametrize("changes", [{"resample": 0}, {"resample": 1}, {**CROPPING, "crop_size": 96}])
def test_another_way_of_resizing_fails(copied, check, changes):
    edit(copied / "preprocessor_config.json", **changes)
    found = check("resizing")
    assert found.outcome is Outcome.FAIL
    assert "cosine 0." in found.figures


def test_the_way_of_resizing_of_siglip_2_is_a_warning(copied, check):
    edit(copied / "preprocessor_config.json", resample=2)
    found = check("resizing")
    assert found.outcome is Outcome.WARN
    assert "frames of videos are resized bicubic" in found.advice


@pytest.mark.parametrize(
    ("tensor", "failing"),
    [("vision_model.head.mlp.fc1.weight", {"pictures"}), ("text_model.head.weight", {"texts", "text padding"})],
)
def test_an_engine_that_computes_something_else_fails(copied, check, tensor, failing):
    edit_weights(copied, tensor, lambda value: value + np.eye(*value.shape) * value.std())
    findings = {name: check(name) for name in ("pictures", "texts", "text padding", "rows")}
    assert not_passed(findings) == dict.fromkeys(failing, Outcome.FAIL)


def test_weights_that_are_not_finite_fail(copied):
    edit_weights(copied, "vision_model.head.mlp.fc1.bias", lambda value: value * np.nan)
    findings = verify(copied)
    assert not_passed(findings) == dict.fromkeys(["resizing", "pictures", "rows"], Outcome.FAIL)
    assert findings["rows"].figures == "16 of 21 hold values that are not finite"


def test_a_tower_that_does_not_look_fails(copied):
    edit_weights(copied, "text_model.head.weight", np.zeros_like)
    edit_weights(copied, "text_model.head.bias", np.ones_like)
    findings = verify(copied)
    assert not_passed(findings) == dict.fromkeys(["text padding", "rows"], Outcome.FAIL)
    assert "does not look" in findings["text padding"].advice


@pytest.mark.parametrize(
    ("tensor", "value"),
    [("logit_scale", np.nan), ("logit_scale", -3), ("logit_scale", 6), ("logit_bias", np.nan), ("logit_bias", 3)],
)
def test_a_scale_or_bias_that_no_training_gives_fails(copied, tensor, value):
    edit_weights(copied, tensor, lambda old: np.full_like(old, value))
    checkpoint = resolve(str(copied), None)
    engine = siglip.load(checkpoint, device="cpu", precision="float32", torch_threads=1)
    assert Verification(checkpoint, engine).check("logit scale and bias").outcome is Outcome.FAIL


def test_the_scale_and_bias_before_training_are_a_warning(copied):
    edit_weights(copied, "logit_scale", np.zeros_like)
    edit_weights(copied, "logit_bias", np.zeros_like)
    findings = verify(copied)
    assert not_passed(findings) == {"logit scale and bias": Outcome.WARN}
    assert "untrained" in findings["logit scale and bias"].advice


def test_a_check_that_cannot_be_carried_out_fails_and_the_others_go_on(copied):
    edit(copied / "preprocessor_config.json", image_processor_type="UnheardOfProcessor")
    findings = verify(copied)
    assert list(findings) == CHECKS
    assert findings["pixel values"].outcome is Outcome.FAIL
    assert "cannot be checked (ValueError: Unrecognized image processor" in findings["pixel values"].figures
    assert findings["logit scale and bias"].outcome is Outcome.PASS


def test_resizing_is_skipped_where_pyav_is_not_installed(check, monkeypatch):
    monkeypatch.setitem(sys.modules, "av.video.frame", None)
    found = check("resizing")
    assert found.outcome is Outcome.SKIP
    assert "PyAV is not installed" in found.figures


def test_a_finding_reads_as_one_line():
    assert str(Finding("rows", Outcome.PASS, "as they should be")) == "pass  rows: as they should be"
    assert str(Finding("rows", Outcome.FAIL, "3 of 4", "Try again")) == "FAIL  rows: 3 of 4. Try again"
