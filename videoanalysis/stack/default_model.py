"""The model of a stack that was given none, and what must be said beside the results of some models."""

from videoanalysis.stack import checkout
from videoanalysis.v1.encoder_pb2 import ModelInfo

# What people read of it.
NAME = "the bundled one"
DIRECTORY = checkout.ROOT / "services" / "encoder" / "bundled" / "rendered-scenes"
# Known also where there is no checkout: the service may run anywhere.
DIGEST = "sha256:dacb9cb95f1ce4f14bbb1a8418305ea2bd0ea99466401172cdbc2e4e4060b19f"
# The directory with the texts that it knows, of which its default bank is made.
TEXTS = "rendered"


def caveat(model: ModelInfo) -> str | None:
    """What a reader of this model's results must know before believing them."""
    if model.engine == "synthetic":
        return "The encoder is a stand-in with made-up embeddings: tags, caption and scores mean nothing."
    if model.digest == DIGEST:
        return (
            "The model is the bundled one, trained on rendered scenes: it knows their places, colours and shapes, and "
            "nothing of real videos. Name another with --model, such as google/siglip-so400m-patch14-384."
        )
    return None
