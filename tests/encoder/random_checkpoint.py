"""A tiny SigLIP checkpoint with random weights, for the code that loads the real one. Its embeddings mean nothing."""

from pathlib import Path

from services.encoder.bundled.siglip_files import sentencepiece_model, write_preprocessing

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


def _corpus() -> list[str]:
    return [f"a {thing} {action} in the {place}" for place in _PLACES for thing in _THINGS for action in _ACTIONS]
