"""The small bundled model, the default of a stack, and the caveat for models that were not trained on real videos."""

from videoanalysis.stack import source_tree
from videoanalysis.v1.encoder_pb2 import ModelInfo

NAME = "the bundled model"
DIRECTORY = source_tree.ROOT / "services" / "encoder" / "bundled" / "rendered-scenes"
# A constant, since a client without the source tree may call a service that serves this model.
DIGEST = "sha256:dacb9cb95f1ce4f14bbb1a8418305ea2bd0ea99466401172cdbc2e4e4060b19f"
# Directory in textbanks/ with the texts that the model was trained on: its default bank.
TEXTS = "rendered"


def caveat(model: ModelInfo) -> str | None:
    """A warning to show with results of `model`, None for a model of real videos."""
    if model.engine == "synthetic":
        return "The encoder is the synthetic engine, with made-up embeddings: tags, caption and scores mean nothing."
    if model.digest == DIGEST:
        return (
            "The model is the bundled one, trained on rendered scenes: it recognises their places, colours and shapes "
            "and nothing in real videos. Choose another with --model, such as google/siglip-so400m-patch14-384."
        )
    return None
