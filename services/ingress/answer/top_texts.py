"""The texts of a video that scored highest in any chunk, each with its best chunk."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from videoanalysis.v1.decoder_pb2 import LeadingTexts


@dataclass(frozen=True, slots=True)
class BestChunk:
    chunk_index: int
    score: float  # as precise as float32


class TopTexts:
    """The highest score of each text so far and the first chunk that has it, by the text's position in the bank.

    Keeps the `size` texts with the highest scores. They are the true ones as long as every chunk reports at least as
    many: a text that a chunk does not report cannot be among the video's highest because of that chunk.
    """

    def __init__(self, size: int, known: Iterable[tuple[int, BestChunk]] = ()) -> None:
        self._size = size
        self._by_position = dict(known)

    def __len__(self) -> int:
        return len(self._by_position)

    def add(self, chunk_index: int, leading: LeadingTexts) -> None:
        """Chunks come in order."""
        for position, score in zip(leading.positions, leading.scores, strict=True):
            known = self._by_position.get(position)
            if known is None or score > known.score:
                self._by_position[position] = BestChunk(chunk_index, float(np.float32(score)))
        if len(self._by_position) > self._size:
            highest = sorted(self._by_position.items(), key=lambda item: (-item[1].score, item[0]))
            self._by_position = dict(highest[: self._size])

    def of(self, position: int) -> BestChunk | None:
        """None if `size` others scored higher."""
        return self._by_position.get(position)

    def items(self) -> list[tuple[int, BestChunk]]:
        return sorted(self._by_position.items(), key=lambda item: item[0])
