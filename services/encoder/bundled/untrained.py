"""The model before training: architecture, tokenizer and preprocessing."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from services.encoder.bundled import captions, siglip_files
from services.encoder.bundled.scenes import random_scene

IMAGE_SIZE = 96
CONTEXT_LENGTH = 64
_PATCH_SIZE = 12
_EMBEDDING_DIM = 128
_VISION_LAYERS, _TEXT_LAYERS = 4, 2
_VOCABULARY = 256
_CORPUS_SIZE = 5000


def write(directory: Path) -> tuple[Any, Any]:
    """A SiglipModel with random weights and its SiglipTokenizer; all but the weights is written to `directory`."""
    from transformers import SiglipConfig, SiglipModel, SiglipTokenizer

    directory.mkdir(parents=True, exist_ok=True)
    spiece = directory / "spiece.model"
    spiece.write_bytes(siglip_files.sentencepiece_model(_corpus(), _VOCABULARY))
    tokenizer = SiglipTokenizer(str(spiece), model_max_length=CONTEXT_LENGTH, model_input_names=["input_ids"])
    tokenizer.save_pretrained(directory)
    siglip_files.write_preprocessing(directory, IMAGE_SIZE)
    tower = {"hidden_size": _EMBEDDING_DIM, "intermediate_size": 320, "num_attention_heads": 4}
    config = SiglipConfig(
        text_config={
            **tower,
            "num_hidden_layers": _TEXT_LAYERS,
            "vocab_size": tokenizer.vocab_size,
            "max_position_embeddings": CONTEXT_LENGTH,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            **tower,
            "num_hidden_layers": _VISION_LAYERS,
            "image_size": IMAGE_SIZE,
            "patch_size": _PATCH_SIZE,
        },
    )
    config.save_pretrained(directory)
    network = SiglipModel(config)
    with torch.no_grad():
        # transformers initialises both with 0, from where training takes much longer.
        network.logit_scale.fill_(math.log(10))
        network.logit_bias.fill_(-5.0)
        # Sinusoidal positions: neighbouring positions are similar from the start.
        network.vision_model.embeddings.position_embedding.weight.copy_(0.3 * _grid(IMAGE_SIZE // _PATCH_SIZE))
        network.text_model.embeddings.position_embedding.weight.copy_(0.1 * _waves(CONTEXT_LENGTH, _EMBEDDING_DIM))
    return network, tokenizer


def _grid(side: int) -> Tensor:
    """[side · side, _EMBEDDING_DIM]: the row in the first half, the column in the second."""
    along = _waves(side, _EMBEDDING_DIM // 2)
    rows = along[:, None].expand(side, side, -1)
    columns = along[None].expand(side, side, -1)
    return torch.cat([rows, columns], dim=2).reshape(side * side, _EMBEDDING_DIM)


def _waves(length: int, width: int) -> Tensor:
    """[length, width]: sines and cosines of wavelengths from a few positions to hundreds."""
    frequencies = 0.01 ** (torch.arange(width // 2) / (width // 2))
    angles = torch.arange(length)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _corpus() -> Iterator[str]:
    random = np.random.default_rng(0)
    for _ in range(_CORPUS_SIZE):
        yield captions.phrase(captions.some_claims(random_scene(random), random), random).text.lower()
