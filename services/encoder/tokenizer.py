"""Turns texts into token ids as the checkpoint's text tower was trained."""

from pathlib import Path
from typing import Any

from torch import Tensor


class Tokenizer:
    """The checkpoint's own tokenizer, preceded by the text normalisation of training that it does not do itself.

    SigLIP's tokenizer itself removes capitals and punctuation. SigLIP 2 has the tokenizer of Gemma, which keeps both,
    but was trained on lower-case texts. Raises OSError or ValueError, as transformers does, if a file cannot be read.
    """

    def __init__(self, directory: Path, context_length: int) -> None:
        # Imported for the first texts only: this takes longer than loading the vision tower.
        from transformers import AutoTokenizer

        self._context_length = context_length
        self._tokenizer: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        self._keeps_capitals = type(self._tokenizer).__name__.startswith("Gemma")

    def __call__(self, texts: list[str]) -> Tensor:
        """Token ids, int64 [texts, context length].

        Always padded to the full length and without an attention mask: SigLIP is trained with padding, and pools a text
        at its last position.
        """
        if self._keeps_capitals:
            # Letter by letter, as tokenizers do it: str.lower on a whole text depends on context for a Greek sigma.
            texts = ["".join(map(str.lower, text)) for text in texts]
        tokens: Tensor = self._tokenizer(
            texts, padding="max_length", truncation=True, max_length=self._context_length, return_tensors="pt"
        )["input_ids"]
        return tokens
