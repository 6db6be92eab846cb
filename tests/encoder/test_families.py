"""Every kind of SigLIP with a fixed picture size is computed as by transformers; other models are refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoProcessor,
    CLIPConfig,
    LlamaConfig,
    Siglip2Config,
    Siglip2Tokenizer,
    SiglipModel,
    SiglipTextConfig,
    SiglipVisionConfig,
    ViTConfig,
)

from services.encoder import siglip
from services.encoder.checkpoint import resolve
from services.encoder.engine import StartupError
from services.encoder.preparation import prepare
from services.encoder.tokenizer import Tokenizer
from services.encoder.verification import Outcome, Verification
from tests.encoder import families
from tests.encoder.families import FAMILIES

SIGLIP2 = [name for name in FAMILIES if name.startswith("siglip2")]
TEXTS = [
    "a dog walks in the garden",
    "A DOG walks in the Garden",
    "Train, stops: in the STATION!",
    "zebra",
    "ÄPFEL und Öl, Σίσυφος, İstanbul, 東京",
    "a car " * 60,
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    """A directory for each family; not to be changed, copy it first."""
    directory = tmp_path_factory.mktemp("families")
    for name in FAMILIES:
        families.write(directory / name, name)
    return directory


def load(directory: Path) -> siglip.SiglipEngine:
    return siglip.load(resolve(str(directory), None), device="cpu", precision="float32", torch_threads=1)


def noise(size: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (3, size, size, 3), dtype=np.uint8)


def unit_rows(features) -> np.ndarray:
    rows = getattr(features, "pooler_output", features).detach().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def token_ids(directory: Path, texts: list[str], length: int) -> torch.Tensor:
    """By transformers' tokenizer of that model; SigLIP 2 names another in its files, which keeps capitals."""
    if directory.name in SIGLIP2:
        tokenizer = Siglip2Tokenizer.from_pretrained(directory)
    else:
        tokenizer = AutoProcessor.from_pretrained(directory).tokenizer
    return tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")["input_ids"]


@pytest.mark.parametrize("name", FAMILIES)
def test_embeddings_and_calibration_are_those_of_transformers(checkpoints, name):
    directory = checkpoints / name
    engine, network = load(directory), SiglipModel.from_pretrained(directory).eval()
    frames = noise(FAMILIES[name].image_size)
    pixels = AutoProcessor.from_pretrained(directory)(
        images=[Image.fromarray(frame) for frame in frames], return_tensors="pt"
    )["pixel_values"]
    tokens = token_ids(directory, TEXTS, FAMILIES[name].context_length)
    with torch.inference_mode():
        pictures = unit_rows(network.get_image_features(pixel_values=pixels))
        texts = unit_rows(network.get_text_features(input_ids=tokens))
        logits = network(pixel_values=pixels, input_ids=tokens).logits_per_image.numpy()
    assert np.abs(engine.encode(frames).embeddings - pictures).max() < 1e-5
    assert np.abs(engine.encode_texts(TEXTS) - texts).max() < 1e-5
    model = engine.model
    assert (model.image_size, model.embedding_dim) == (FAMILIES[name].image_size, pictures.shape[1])
    cosines = engine.encode(frames).embeddings @ engine.encode_texts(TEXTS).T
    assert np.abs(cosines * model.logit_scale + model.logit_bias - logits).max() < 1e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_token_ids_are_those_of_transformers(checkpoints, name):
    length = FAMILIES[name].context_length
    ids = Tokenizer(checkpoints / name, length)(TEXTS)
    assert ids.shape == (len(TEXTS), length)
    assert torch.equal(ids, token_ids(checkpoints / name, TEXTS, length))
    # Capitals make no difference, and a text that is cut ends as others do.
    assert torch.equal(ids[0], ids[1])
    end = ids[0, (ids[0] != ids[0, -1]).nonzero().max() + 1] if name not in SIGLIP2 else 1
    assert ids[-1, -1] == end


def test_punctuation_matters_to_siglip_2_alone(checkpoints):
    texts = ["a train, stops!", "a train stops"]
    for name in ("siglip-base-patch16-224", "siglip2-base-patch16-224"):
        ids = Tokenizer(checkpoints / name, 64)(texts)
        assert torch.equal(ids[0], ids[1]) is (name not in SIGLIP2)


def test_the_tokenizer_that_siglip_2_names_would_tell_capitals_apart(checkpoints):
    processor = AutoProcessor.from_pretrained(checkpoints / "siglip2-base-patch16-224")
    kept, lower = processor.tokenizer(["A DOG", "a dog"])["input_ids"]
    assert kept != lower


@pytest.mark.parametrize("name", FAMILIES)
def test_model_verify_knows_the_rules_of_each(checkpoints, name):
    checkpoint = resolve(str(checkpoints / name), None)
    findings = {finding.check: finding for finding in Verification(checkpoint, load(checkpoints / name)).findings()}
    assert {check for check, finding in findings.items() if finding.outcome is not Outcome.PASS} == set()
    came_back = "'a boat, two dogs!'" if name in SIGLIP2 else "'a boat two dogs'"
    assert findings["tokenizer"].figures.endswith(f"and 'A Boat, two DOGS!' as {came_back}")


@pytest.mark.parametrize("name", ["siglip2-so400m-patch14-384", "siglip2-giant-opt-patch16-384"])
def test_siglip_2_is_prepared_like_any_other(checkpoints, tmp_path, name):
    source = resolve(str(checkpoints / name), None)
    prepare(source, tmp_path / "prepared")
    engine = load(tmp_path / "prepared")
    assert engine.model.digest == source.digest
    assert (engine.encode_texts(TEXTS) * load(checkpoints / name).encode_texts(TEXTS)).sum(axis=1).min() > 0.98


def test_shards_and_half_precision_are_read_as_transformers_writes_them(checkpoints, tmp_path):
    families.write(tmp_path, "siglip2-base-patch16-224", max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    frames = noise(64)
    whole = load(checkpoints / "siglip2-base-patch16-224").encode(frames).embeddings
    # Other addresses in memory, another order of additions.
    np.testing.assert_allclose(load(tmp_path).encode(frames).embeddings, whole, atol=1e-6)
    half = tmp_path / "half"
    shutil.copytree(checkpoints / "siglip2-base-patch16-224", half)
    SiglipModel.from_pretrained(half, dtype=torch.float16).save_pretrained(half)
    assert (load(half).encode(frames).embeddings * whole).sum(axis=1).min() > 0.999


@pytest.mark.parametrize(
    ("config", "advice"),
    [
        (Siglip2Config, "NaFlex SigLIP 2 model.*such as google/siglip2-so400m-patch14-384"),
        (CLIPConfig, "'clip' model.*use google/siglip-so400m-patch14-384 or google/siglip2"),
        (ViTConfig, "'vit' model.*use google/siglip"),
        (LlamaConfig, "'llama' model.*use google/siglip"),
        (SiglipVisionConfig, "one tower of a SigLIP model; use a whole one"),
        (SiglipTextConfig, "one tower of a SigLIP model; use a whole one"),
    ],
)
def test_another_model_is_refused_by_its_configuration_alone(tmp_path, config, advice):
    config().save_pretrained(tmp_path)
    with pytest.raises(StartupError, match=f"^ENCODER_MODEL={tmp_path} (is a|holds) {advice}"):
        resolve(str(tmp_path), None)


@pytest.mark.parametrize(
    ("tower", "change", "complaint"),
    [
        ("vision_config", {"image_size": [384, 256]}, "no square picture or no pooling head"),
        ("vision_config", {"vision_use_head": False}, "no square picture or no pooling head"),
        ("vision_config", {"hidden_act": "swish"}, "hidden_act 'swish' is none of gelu_pytorch_tanh, gelu"),
        ("text_config", {"num_attention_heads": 7}, "hidden_size 64 is no multiple of 7 heads"),
        ("text_config", {"vocab_size": 99}, r"token_embedding.weight is \[\d+, 64\], config.json makes it \[99, 64\]"),
    ],
)
def test_a_network_that_is_no_siglip_is_refused(checkpoints, tmp_path, tower, change, complaint):
    directory = Path(shutil.copytree(checkpoints / "siglip2-base-patch16-224", tmp_path / "copy"))
    config = json.loads((directory / "config.json").read_text())
    config[tower] |= change
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(StartupError, match=complaint):
        load(directory)
