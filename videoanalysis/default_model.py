"""The model of a stack that was given none, and what must be said beside the results of some models."""

from pathlib import Path

from videoanalysis.v1.encoder_pb2 import ModelInfo

# Also the name of its directory, by which its results are known wherever they are shown.
NAME = "random-weights"


def recipe(directory: Path) -> list[str]:
    """The module and arguments of a process that makes the model in `directory`."""
    return ["services.encoder.random_checkpoint", str(directory)]


def caveat(model: ModelInfo) -> str | None:
    """What a reader of this model's results must know before believing them."""
    if model.engine == "synthetic":
        return "The encoder is a stand-in with made-up embeddings: tags, caption and scores mean nothing."
    if Path(model.model_id).name == NAME:
        return (
            "The model has random weights: tags, caption and scores mean nothing. "
            "Name a trained one with --model, such as google/siglip-so400m-patch14-384."
        )
    return None
