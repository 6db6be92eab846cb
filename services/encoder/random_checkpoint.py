"""A tiny SigLIP checkpoint with random weights: `python -m services.encoder.random_checkpoint DIRECTORY`.

Loaded by the code that loads the real one, so that everything can be tried without a download. Its embeddings mean
nothing.
"""

import io
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

_SEED = 7
IMAGE_SIZE = 96
EMBEDDING_DIM = 64
_CONTEXT_LENGTH = 64

_PLACES = ["kitchen", "office", "garden", "street", "beach", "forest", "station", "market", "harbour", "workshop"]
_THINGS = ["person", "car", "bicycle", "dog", "cat", "boat", "train", "table", "tree", "lamp", "bird", "horse"]
_ACTIONS = ["walks", "runs", "waits", "turns", "stops", "works", "plays", "sleeps", "moves", "looks"]


def write(directory: Path) -> None:
    """Write configuration, weights, tokenizer and preprocessing; the same bytes every time."""
    import torch
    from transformers import SiglipConfig, SiglipModel, SiglipTokenizer

    directory.mkdir(parents=True, exist_ok=True)
    spiece = directory / "spiece.model"
    spiece.write_bytes(sentencepiece_model(_corpus(), vocab_size=200))
    tokenizer = SiglipTokenizer(str(spiece), model_max_length=_CONTEXT_LENGTH)
    tokenizer.save_pretrained(directory)

    tower = {"hidden_size": EMBEDDING_DIM, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = SiglipConfig(
        text_config={
            **tower,
            "vocab_size": tokenizer.vocab_size,
            "max_position_embeddings": _CONTEXT_LENGTH,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={**tower, "image_size": IMAGE_SIZE, "patch_size": 16},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        network = SiglipModel(config)
        with torch.no_grad():
            # Widely spread, so that different inputs get clearly different embeddings.
            for parameter in network.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.5)
            network.logit_scale.fill_(4.72)
            network.logit_bias.fill_(-16.5)
    network.save_pretrained(directory)
    write_preprocessing(directory, IMAGE_SIZE)


def write_preprocessing(directory: Path, image_size: int) -> None:
    """preprocessor_config.json as google/siglip-so400m-patch14-384 has it, for pictures of another size."""
    half = [0.5, 0.5, 0.5]
    preprocessing = {
        "image_processor_type": "SiglipImageProcessor",
        "do_resize": True,
        "size": {"height": image_size, "width": image_size},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": half,
        "image_std": half,
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n")


def _corpus() -> list[str]:
    return [f"a {thing} {action} in the {place}" for place in _PLACES for thing in _THINGS for action in _ACTIONS]


def sentencepiece_model(corpus: Iterable[str], vocab_size: int) -> bytes:
    """A spiece.model for SiglipTokenizer, learnt from `corpus`; the same bytes every time."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        # As in SigLIP's own: texts end in </s>, which also pads them; there is no <s>.
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        pad_piece="<pad>",
        minloglevel=2,
    )
    return model.getvalue()


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if len(sys.argv) != 2:
        sys.exit("usage: python -m services.encoder.random_checkpoint DIRECTORY")
    write(Path(sys.argv[1]))
