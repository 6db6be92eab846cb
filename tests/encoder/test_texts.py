"""When the text tower is loaded, and when it is freed."""

import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from services.encoder import checkpoint, towers
from services.encoder.texts import TextEncoder
from videoanalysis.errors import Unavailable


def text_encoder(directory: Path, idle_seconds: float | None = None) -> TextEncoder:
    return TextEncoder(checkpoint.resolve(str(directory), None), "cpu", torch.float32, idle_seconds)


def compute(tokens: torch.Tensor, tower: towers.TextTower) -> np.ndarray:
    with torch.inference_mode():
        return tower(tokens).numpy()


def test_the_tower_is_loaded_for_the_first_texts_and_kept_for_the_next(checkpoint_directory):
    texts = text_encoder(checkpoint_directory)
    seen = []
    assert not texts.is_loaded
    for _ in range(2):
        texts.embed(["a dog"], lambda tokens, tower: seen.append(tower) or compute(tokens, tower))
    assert texts.is_loaded
    assert seen[0] is seen[1]


def test_the_tower_leaves_memory_when_no_texts_come(checkpoint_directory):
    texts = text_encoder(checkpoint_directory, idle_seconds=0.05)
    freed = threading.Event()

    def watched(tokens: torch.Tensor, tower: towers.TextTower) -> np.ndarray:
        weakref.finalize(tower.head.weight, freed.set)
        return compute(tokens, tower)

    first = texts.embed(["a dog"], watched)
    assert freed.wait(30)
    assert not texts.is_loaded
    assert np.array_equal(texts.embed(["a dog"], compute), first)


def test_files_that_miss_a_text_tensor_are_found_without_reading_weights(checkpoint_directory, tmp_path):
    weights = load_file(checkpoint_directory / "model.safetensors")
    del weights["text_model.head.bias"]
    for name in ("config.json", "preprocessor_config.json", "spiece.model"):
        (tmp_path / name).write_bytes((checkpoint_directory / name).read_bytes())
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(towers.WeightsInvalid, match=r"miss 1 tensors, such as text_model\.head\.bias"):
        text_encoder(tmp_path).check()


def test_a_tokenizer_that_cannot_be_read_makes_texts_unavailable_and_is_tried_again(checkpoint_directory, tmp_path):
    for path in checkpoint_directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "spiece.model").write_bytes(b"damaged")
    texts = text_encoder(tmp_path)
    with pytest.raises(Unavailable, match="its log says why"):
        texts.embed(["a dog"], compute)
    (tmp_path / "spiece.model").write_bytes((checkpoint_directory / "spiece.model").read_bytes())
    assert texts.embed(["a dog"], compute).shape == (1, 64)
