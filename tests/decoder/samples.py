"""Small banks and embeddings for the decoder's tests."""

import numpy as np

from videoanalysis.text_bank.format import TextBank

DIMENSIONS = 8
MODEL = "sha256:model-one"
OTHER_MODEL = "sha256:model-two"


def unit_rows(rows: int, dimensions: int = DIMENSIONS, seed: int = 0) -> np.ndarray:
    """float32 [rows, dimensions] in random directions."""
    drawn = np.random.default_rng(seed).standard_normal((rows, dimensions))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def make_bank(seed: int = 1, **changes: object) -> TextBank:
    """Three tags and two descriptions, unless `changes` says otherwise."""
    values: dict[str, object] = {
        "name": "default",
        "model_digest": MODEL,
        "template": "{}",
        "created_at": "2026-01-31T12:00:00Z",
        "tags": ("kitchen", "office", "beach"),
        "descriptions": ("A person cooking", "A person at a desk"),
        "tag_embeddings": unit_rows(3, seed=seed),
        "description_embeddings": unit_rows(2, seed=seed + 1),
    }
    return TextBank(**(values | changes))
