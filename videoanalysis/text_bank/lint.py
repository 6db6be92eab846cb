"""Texts that make a valid bank and are of no use all the same: two that no video can tell apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from videoanalysis.text_bank.format import TextBank

# Texts whose embeddings have a higher cosine are ranked by rounding rather than by what is seen.
MAX_COSINE = 0.995
# Found in each list; of a bank whose texts all coincide there would be billions.
MAX_PAIRS = 100

# Rows at a time: 4 MB of cosines, whatever the size of the bank.
_BLOCK = 1024
_PUNCTUATION = ".,;:!?…"


@dataclass(frozen=True, slots=True)
class Coincidence:
    """Two texts of one list, "tags" or "descriptions", that mean the same to the model."""

    kind: str
    first: str
    second: str
    # None for texts that need no model to tell: they differ only in capitals or spaces.
    cosine: float | None = None

    def __str__(self) -> str:
        how = "differ only in capitals or spaces" if self.cosine is None else f"have cosine {self.cosine:.4f}"
        return f"{self.kind}: {self.first!r} and {self.second!r} {how}"


def same_words(tags: Sequence[str], descriptions: Sequence[str]) -> list[Coincidence]:
    """Texts that are, but for capitals and spaces, one that comes before them in their list."""
    found = []
    for kind, texts in (("tags", tags), ("descriptions", descriptions)):
        seen: dict[str, str] = {}
        for text in texts:
            first = seen.setdefault(" ".join(text.casefold().split()), text)
            if first is not text:
                found.append(Coincidence(kind, first, text))
    return found


def same_embeddings(bank: TextBank) -> list[Coincidence]:
    """The pairs of texts with a cosine over MAX_COSINE, the nearest first, at most MAX_PAIRS in each list.

    Compares each text with each other of its list: seconds for 10,000 texts, minutes for 100,000.
    """
    found = []
    lists = (("tags", bank.tags, bank.tag_embeddings), ("descriptions", bank.descriptions, bank.description_embeddings))
    for kind, texts, embeddings in lists:
        pairs = sorted(islice(_near_pairs(embeddings), MAX_PAIRS), key=lambda pair: -pair[2])
        found += [Coincidence(kind, texts[first], texts[second], cosine) for first, second, cosine in pairs]
    return found


def hints(tags: Sequence[str], descriptions: Sequence[str]) -> list[str]:
    """What may be a slip of the pen, one sentence each."""
    found = []
    for kind, texts in (("tags", tags), ("descriptions", descriptions)):
        with_mark = [text for text in texts if text.endswith(tuple(_PUNCTUATION))]
        without = [text for text in texts if not text.endswith(tuple(_PUNCTUATION))]
        if with_mark and without:
            odd, how = (with_mark, "with") if len(with_mark) <= len(without) else (without, "without")
            found.append(f"{kind}: {len(odd)} of {len(texts)} end {how} a punctuation mark, such as {odd[0]!r}")
    return found


def _near_pairs(embeddings: NDArray[np.float32]) -> Iterator[tuple[int, int, float]]:
    """Places of two rows, the smaller first, and their cosine, where it is over MAX_COSINE."""
    # Rows are of length 1 only nearly, and the limit is nearer to 1 than that.
    lengths = np.linalg.norm(embeddings, axis=1)
    for top in range(0, len(embeddings), _BLOCK):
        rows, row_lengths = embeddings[top : top + _BLOCK], lengths[top : top + _BLOCK, np.newaxis]
        for left in range(top, len(embeddings), _BLOCK):
            cosines = rows @ embeddings[left : left + _BLOCK].T / (row_lengths * lengths[left : left + _BLOCK])
            near = cosines > MAX_COSINE
            for i, j in np.argwhere(np.triu(near, k=1) if left == top else near):
                yield top + int(i), left + int(j), float(cosines[i, j])
