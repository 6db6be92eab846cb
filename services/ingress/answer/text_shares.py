"""Sums up, over the scenes of a video, how long each text of a bank is probably shown."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from videoanalysis.v1.decoder_pb2 import TextProbabilities

# A text does not displace another for a scene in which its probability is lower.
_NEGLIGIBLE = 1e-4


@dataclass(frozen=True, slots=True)
class TextShare:
    """Sums over the scenes since the text came into the selection; numbers are as precise as float32."""

    position: int  # in the bank, or among the labels
    seconds: float  # of the scenes, each times the probability of the text in it; at least 0
    seconds_before: float  # at most these, before the text came into the selection
    max_probability: float
    peak_seconds: float  # the middle of the scene with max_probability, the first of equals

    @property
    def max_seconds(self) -> float:
        return self.seconds + self.seconds_before


class TextShares:
    """Keeps a selection of `size` texts, each with its sum of probability × seconds.

    Exact while no more than `size` texts are reported. From then on the Space-Saving algorithm (Metwally, Agrawal and
    El Abbadi, 2005) decides which texts stay: a new one displaces that with the smallest upper bound, and takes over
    this bound as what it may have had before. So a text with more than 1 / `size` of all sums is always there.
    """

    def __init__(self, size: int, known: Iterable[TextShare] = (), seconds_of_others: float = 0.0) -> None:
        self._size = size
        self._by_position = {text.position: text for text in known}
        # No text has more than these in scenes that did not report it or where it was negligible.
        self.seconds_of_others = seconds_of_others

    def add(self, start: float, end: float, leading: TextProbabilities) -> None:
        """The probabilities of texts in a scene, best first."""
        seconds, middle = end - start, _rounded((start + end) / 2)
        if seconds <= 0:
            return
        newcomers = []
        for position, probability in zip(leading.positions, leading.probabilities, strict=True):
            if (known := self._by_position.get(position)) is None:
                newcomers.append((position, probability))
                continue
            is_peak = _rounded(probability) > known.max_probability
            self._by_position[position] = replace(
                known,
                seconds=_rounded(known.seconds + seconds * probability),
                max_probability=_rounded(probability) if is_peak else known.max_probability,
                peak_seconds=middle if is_peak else known.peak_seconds,
            )
        max_of_others = leading.max_of_others
        for position, probability in newcomers:
            before = 0.0
            if len(self._by_position) == self._size:
                if probability < _NEGLIGIBLE:
                    max_of_others = max(max_of_others, probability)
                    continue
                displaced = min(self._by_position.values(), key=lambda text: (text.max_seconds, text.position))
                before = _rounded(displaced.max_seconds)
                del self._by_position[displaced.position]
            self._by_position[position] = TextShare(
                position, _rounded(seconds * probability), before, _rounded(probability), middle
            )
        self.seconds_of_others += seconds * max_of_others

    def of(self, position: int) -> TextShare:
        return self._by_position.get(position) or TextShare(position, 0.0, self._smallest_bound(), 0.0, 0.0)

    def uncertain_seconds(self, position: int) -> float:
        """An upper bound of what is missing from the seconds of a text."""
        return self.of(position).seconds_before + self.seconds_of_others

    def items(self) -> tuple[TextShare, ...]:
        """By position."""
        return tuple(sorted(self._by_position.values(), key=lambda text: text.position))

    def probabilities(self, duration: float) -> TextProbabilities:
        """Of the texts in a video of `duration` seconds."""
        texts = self.items()
        return TextProbabilities(
            positions=[text.position for text in texts],
            probabilities=[min(1.0, text.seconds / duration) for text in texts],
        )

    def _smallest_bound(self) -> float:
        """What a text outside of the selection may have had before it was displaced."""
        if len(self._by_position) < self._size:
            return 0.0
        return min(text.max_seconds for text in self._by_position.values())


def _rounded(value: float) -> float:
    """As it travels in a resume token."""
    return float(np.float32(value))
