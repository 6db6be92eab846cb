"""Finds texts that no video can distinguish, although their bank is valid."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from videoanalysis.text_bank.format import TextBank

# Texts whose embeddings have a higher cosine are ranked by rounding errors.
MAX_COSINE = 0.995
# Maximum for each list; a bank of equal texts would have billions.
MAX_PAIRS = 100

# Rows at a time: 4 MB of cosines, whatever the size of the bank.
_BLOCK = 1024
_PUNCTUATION = ".,;:!?…"


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Two texts of one list, "tags" or "descriptions", that the model does not distinguish."""

    kind: str
    first: str
    second: str
    # None for texts that differ only in capitals or spaces.
    cosine: float | None = None

    def __str__(self) -> str:
        how = "differ only in capitals or spaces" if self.cosine is None else f"have cosine {self.cosine:.4f}"
        return f"{self.kind}: {self.first!r} and {self.second!r} {how}"


def same_words(tags: Sequence[str], descriptions: Sequence[str]) -> list[Duplicate]:
    """Texts that equal an earlier text of their list except for capitals and spaces."""
    found = []
    for kind, texts in (("tags", tags), ("descriptions", descriptions)):
        seen: dict[str, str] = {}
        for text in texts:
            first = seen.setdefault(" ".join(text.casefold().split()), text)
            if first is not text:
                found.append(Duplicate(kind, first, text))
    return found


def same_embeddings(bank: TextBank) -> list[Duplicate]:
    """The pairs of texts with a cosine over MAX_COSINE, highest first, at most MAX_PAIRS in each list.

    Quadratic: seconds for 10,000 texts, minutes for 100,000.
    """
    found = []
    lists = (("tags", bank.tags, bank.tag_embeddings), ("descriptions", bank.descriptions, bank.description_embeddings))
    for kind, texts, embeddings in lists:
        pairs = sorted(islice(_near_pairs(embeddings), MAX_PAIRS), key=lambda pair: -pair[2])
        found += [Duplicate(kind, texts[first], texts[second], cosine) for first, second, cosine in pairs]
    return found


def hints(tags: Sequence[str], descriptions: Sequence[str]) -> list[str]:
    """Possible typing mistakes, one sentence each."""
    found = []
    for kind, texts in (("tags", tags), ("descriptions", descriptions)):
        punctuated = [text for text in texts if text.endswith(tuple(_PUNCTUATION))]
        without = [text for text in texts if not text.endswith(tuple(_PUNCTUATION))]
        if punctuated and without:
            odd, how = (punctuated, "with") if len(punctuated) <= len(without) else (without, "without")
            found.append(f"{kind}: {len(odd)} of {len(texts)} end {how} a punctuation mark, such as {odd[0]!r}")
    return found


def _near_pairs(embeddings: NDArray[np.float32]) -> Iterator[tuple[int, int, float]]:
    """Indices of two rows, the smaller first, and their cosine, where it exceeds MAX_COSINE."""
    # Row lengths deviate from 1 by more than MAX_COSINE does: divided out.
    lengths = np.linalg.norm(embeddings, axis=1)
    for top in range(0, len(embeddings), _BLOCK):
        rows, row_lengths = embeddings[top : top + _BLOCK], lengths[top : top + _BLOCK, np.newaxis]
        for left in range(top, len(embeddings), _BLOCK):
            cosines = rows @ embeddings[left : left + _BLOCK].T / (row_lengths * lengths[left : left + _BLOCK])
            near = cosines > MAX_COSINE
            for i, j in np.argwhere(np.triu(near, k=1) if left == top else near):
                yield top + int(i), left + int(j), float(cosines[i, j])
