"""Small checkpoints with random weights, one for each kind of SigLIP on the hub, written by transformers."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.encoder.bundled.siglip_files import sentencepiece_model, write_preprocessing

_SEED = 11
_TOWER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


@dataclass(frozen=True)
class Family:
    """Sizes that differ from those of `_TOWER`, in the proportions of the real one."""

    image_size: int
    patch_size: int
    gemma: bool = False
    context_length: int = 64
    vision: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)


FAMILIES = {
    "siglip-base-patch16-224": Family(64, 16),
    "siglip-large-patch16-256": Family(64, 16, vision={"num_attention_heads": 8, "num_hidden_layers": 3}),
    # Neither the picture is a multiple of the patch, nor the layer's width one of 16.
    "siglip-so400m-patch14-384": Family(
        62, 14, vision={"hidden_size": 72, "intermediate_size": 269}, text={"hidden_size": 72, "intermediate_size": 269}
    ),
    "siglip-so400m-patch14-224": Family(56, 14, context_length=16),
    "siglip2-base-patch16-224": Family(64, 16, gemma=True),
    "siglip2-large-patch16-512": Family(96, 16, gemma=True, vision={"num_attention_heads": 8}),
    "siglip2-so400m-patch14-384": Family(62, 14, gemma=True, vision={"intermediate_size": 269}),
    # The text tower is narrower than its embeddings.
    "siglip2-giant-opt-patch16-384": Family(
        64, 16, gemma=True, vision={"hidden_size": 96}, text={"projection_size": 96}
    ),
}


def write(directory: Path, name: str, **save_options: Any) -> None:
    """Configuration, weights, tokenizer and preprocessing as the hub has them."""
    import torch
    from transformers import SiglipConfig, SiglipModel

    family = FAMILIES[name]
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = _write_gemma_tokenizer(directory) if family.gemma else _write_siglip_tokenizer(directory, family)
    config = SiglipConfig(
        # Real files state neither padding nor the end of texts, whose defaults are those of no tokenizer.
        text_config={
            **_TOWER,
            "vocab_size": vocabulary,
            "max_position_embeddings": family.context_length,
            **family.text,
        },
        vision_config={**_TOWER, "image_size": family.image_size, "patch_size": family.patch_size, **family.vision},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        network = SiglipModel(config)
        with torch.no_grad():
            # Widely spread, so that different inputs get clearly different embeddings.
            for parameter in network.parameters():
                parameter.normal_(std=0.5)
            network.logit_scale.fill_(4.6)
            network.logit_bias.fill_(-15.25)
    network.save_pretrained(directory, **save_options)
    write_preprocessing(directory, family.image_size)
    if family.gemma:
        path = directory / "preprocessor_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"resample": 2, "do_convert_rgb": None}))


def _write_siglip_tokenizer(directory: Path, family: Family) -> int:
    from transformers import SiglipTokenizer

    spiece = directory / "spiece.model"
    spiece.write_bytes(sentencepiece_model(_sentences(), vocab_size=150))
    tokenizer = SiglipTokenizer(str(spiece), model_max_length=family.context_length, model_input_names=["input_ids"])
    tokenizer.save_pretrained(directory)
    return tokenizer.vocab_size


def _write_gemma_tokenizer(directory: Path) -> int:
    """Pieces of words, bytes for all else; Gemma's special tokens, and what SigLIP 2 changes of its configuration."""
    from tokenizers import Tokenizer, models, normalizers, trainers
    from transformers import GemmaTokenizerFast

    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.train_from_iterator(_sentences(), trainers.BpeTrainer(vocab_size=200, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(model["vocab"], key=model["vocab"].get)]
    added = {"add_bos_token": False, "add_eos_token": True, "padding_side": "right", "model_input_names": ["input_ids"]}
    GemmaTokenizerFast(
        vocab={piece: index for index, piece in enumerate(pieces)}, merges=list(map(tuple, model["merges"])), **added
    ).save_pretrained(directory)
    # transformers 5 leaves out what tokenizer.json says too; the files on the hub are of version 4.
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | added | {"processor_class": "SiglipProcessor"}))
    return len(pieces)


def _sentences() -> Iterator[str]:
    for place in ("kitchen", "office", "garden", "street", "station"):
        for thing in ("person", "car", "dog", "boat", "train"):
            for action in ("walks", "waits", "turns", "stops"):
                yield f"a {thing} {action} in the {place}"
                yield f"Photo of {thing}s, {place}!"
