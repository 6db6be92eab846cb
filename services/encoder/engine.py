"""What an encoder engine is: synchronous, called from several threads, without gRPC and without settings."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class StartupError(Exception):
    """The engine cannot serve as configured; the message is for the operator and names the setting to change."""


@dataclass(frozen=True, slots=True)
class Model:
    """What is served; see ModelInfo in encoder.proto, which has the same fields."""

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


@dataclass(frozen=True, slots=True)
class Encoded:
    """Embeddings, float32 [frames, embedding_dim] with unit rows, and the time on the accelerator they took.

    The time includes the copies and excludes the wait for another chunk that holds the accelerator.
    """

    embeddings: NDArray[np.float32]
    compute_seconds: float


class Engine(Protocol):
    @property
    def model(self) -> Model: ...

    def allocate(self, nbytes: int) -> NDArray[np.uint8]:
        """A buffer, uint8 [nbytes], from which `encode` reads fastest."""
        ...

    def encode(self, frames: NDArray[np.uint8]) -> Encoded:
        """Embed RGB pictures, uint8 [frames, image_size, image_size, 3]; raises ValueError on another shape."""
        ...

    def encode_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed texts: float32 [texts, embedding_dim], unit rows."""
        ...

    def warm_up(self) -> Encoded:
        """Pay on this thread what the first call would pay; the pictures that this encoded."""
        ...
