"""SigLIP computed by transformers in float32 on the CPU: the reference that the engine is compared with."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, Siglip2Tokenizer, SiglipConfig, SiglipModel

from services.encoder.checkpoint import Checkpoint


class ReferenceModel:
    """Network, tokenizer and image processor of a checkpoint. Raises OSError or ValueError if one cannot be loaded."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        directory = checkpoint.directory
        # transformers does not type this class.
        image_processors: Any = AutoImageProcessor
        options = {"local_files_only": True, "trust_remote_code": False}
        self.tokenizer: Any = AutoTokenizer.from_pretrained(directory, **options)
        if type(self.tokenizer).__name__.startswith("Gemma"):
            # SigLIP 2 names Gemma's tokenizer; this one is the same and removes capitals, as in training.
            self.tokenizer = Siglip2Tokenizer.from_pretrained(directory, **options)
        self.image_processor: Any = image_processors.from_pretrained(directory, **options)
        self._network = _network(checkpoint).eval()

    @property
    def text_config(self) -> Any:
        return self._network.config.text_config

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self._network.parameters())

    def pixels(self, pictures: Iterable[NDArray[Any]]) -> Tensor:
        """Preprocesses RGB pictures, uint8 [height, width, 3] of any size each, with the checkpoint's image processor.

        float32 [pictures, 3, image_size, image_size], where the processor is that of the network.
        """
        images = [Image.fromarray(picture) for picture in pictures]
        pixels: Tensor = self.image_processor(images=images, return_tensors="pt")["pixel_values"]
        return pixels

    def embed_pixels(self, pixels: Tensor) -> NDArray[np.float32]:
        """[pictures, embedding_dim], unit rows."""
        with torch.inference_mode():
            return _unit_rows(self._network.get_image_features(pixel_values=pixels))

    def tokens(self, texts: list[str]) -> Any:
        """input_ids and attention_mask, both int64 [texts, context length], padded to the full length."""
        length = self.text_config.max_position_embeddings
        return self.tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=length,
            return_attention_mask=True,
            return_tensors="pt",
        )

    def embed_tokens(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> NDArray[np.float32]:
        """[texts, embedding_dim], unit rows."""
        with torch.inference_mode():
            return _unit_rows(self._network.get_text_features(input_ids=input_ids, attention_mask=attention_mask))


def _network(checkpoint: Checkpoint) -> Any:
    if checkpoint.record is None:
        return SiglipModel.from_pretrained(
            checkpoint.directory, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    config: Any = SiglipConfig.from_pretrained(checkpoint.directory, local_files_only=True)
    weights = {name: tensor for path in checkpoint.weights("") for name, tensor in load_file(path).items()}
    return SiglipModel.from_pretrained(None, config=config, state_dict=weights, dtype=torch.float32)


def _unit_rows(features: Any) -> NDArray[np.float32]:
    # transformers 5 wraps the features, 4 returns them.
    rows = getattr(features, "pooler_output", features).numpy()
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
