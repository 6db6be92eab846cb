"""The files other than a SigLIP checkpoint's weights that transformers does not write by itself."""

import io
import json
from collections.abc import Iterable
from pathlib import Path


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
