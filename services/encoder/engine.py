"""The interface of an engine: synchronous, called from several threads, independent of gRPC and settings."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from videoanalysis.limits import MAX_EMBEDDING_DIM


class StartupError(Exception):
    """The engine cannot start as configured; the message is for the operator and names the setting to change."""


@dataclass(frozen=True, slots=True)
class Model:
    """The served model; the fields are those of ModelInfo in encoder.proto."""

    model_id: str
    revision: str
    digest: str
    embedding_dim: int
    image_size: int
    logit_scale: float
    logit_bias: float
    precision: str
    device: str
    engine: str

    def __post_init__(self) -> None:
        if not 1 <= self.embedding_dim <= MAX_EMBEDDING_DIM:
            raise StartupError(
                f"{self.model_id}: {self.embedding_dim} dimensions, at most {MAX_EMBEDDING_DIM} fit into messages"
            )


@dataclass(frozen=True, slots=True)
class Encoded:
    """Embeddings, float32 [frames, embedding_dim] with unit rows, and their time on the accelerator.

    The time includes copies and excludes waiting for another chunk on the accelerator.
    """

    embeddings: NDArray[np.float32]
    compute_seconds: float


class Engine(Protocol):
    """Embeds pictures and texts into one space: the dot product of two embeddings is their cosine, -1 to 1."""

    @property
    def model(self) -> Model: ...

    def allocate(self, nbytes: int) -> NDArray[np.uint8]:
        """A buffer, uint8 [nbytes], in the memory that `encode` reads fastest."""
        ...

    def encode(self, frames: NDArray[np.uint8]) -> Encoded:
        """Embeds RGB pictures, uint8 [frames, image_size, image_size, 3], from 0 to 255.

        Raises ValueError for another shape.
        """
        ...

    def encode_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Embeds texts, each cut off at the model's context: float32 [texts, embedding_dim], unit rows in their order.

        Raises Unavailable if the engine cannot load what it needs for texts.
        """
        ...

    def warm_up(self) -> Encoded:
        """Loads and compiles what the first call on this thread needs; returns the embeddings of its test pictures."""
        ...
