"""Ranks the texts of a bank for the scenes of stored results: which texts win, and what another bank would change."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videoanalysis.text_bank.format import TextBank
from videoanalysis.text_bank.stored_scenes import StoredScenes

_NAMES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Wins:
    """Of one list of texts, "tags" or "descriptions": in which scenes which text is the best and likely enough."""

    kind: str
    scenes: int
    always: tuple[str, ...]
    never: tuple[str, ...]
    without: int  # scenes in which no text is likely enough

    def __str__(self) -> str:
        parts = [f"{self.kind}, best of {self.scenes} scenes"]
        if self.always:
            parts.append(f"always {self.always[0]!r}")
        if self.never:
            names = ", ".join(map(repr, self.never[:_NAMES_SHOWN]))
            hidden = len(self.never) - _NAMES_SHOWN
            parts.append(f"never {names}" + (f" and {hidden} more" if hidden > 0 else ""))
        parts.append(f"none of these in {self.without}")
        return "; ".join([": ".join(parts[:2]), *parts[2:]])


@dataclass(frozen=True, slots=True)
class Answer:
    tags: tuple[str, ...]
    caption: str | None

    def change(self, other: "Answer") -> str:
        """The results of `other` that differ; empty if they are equal."""
        changes = []
        if self.tags != other.tags:
            changes.append(f"tags {', '.join(self.tags) or 'none'} → {', '.join(other.tags) or 'none'}")
        if self.caption != other.caption:
            changes.append(f"caption {_quoted(self.caption)} → {_quoted(other.caption)}")
        return "; ".join(changes)


@dataclass(frozen=True, slots=True)
class Change:
    """The answer for a stored result with one bank and with another. `scenes` are those that differ."""

    name: str
    video: tuple[Answer, Answer]
    scenes: tuple[tuple[float, float, Answer, Answer], ...]
    scene_count: int

    @property
    def is_any(self) -> bool:
        return self.video[0] != self.video[1] or bool(self.scenes)


def wins(bank: TextBank, results: Sequence[StoredScenes]) -> list[Wins]:
    """For tags, then for descriptions; bank and results are of the same model."""
    found = []
    for kind, texts, embeddings, limits in _lists(bank):
        best = np.concatenate([_best(*_ranked(embeddings, result), limits) for result in results])
        counts = np.bincount(best[best >= 0], minlength=len(texts))
        found.append(
            Wins(
                kind=kind,
                scenes=len(best),
                always=tuple(texts[i] for i in np.flatnonzero(counts == len(best))),
                never=tuple(texts[i] for i in np.flatnonzero(counts == 0)),
                without=int((best < 0).sum()),
            )
        )
    return found


def changes(
    before: TextBank, after: TextBank, results: Sequence[StoredScenes], *, top_k: int, min_probability: float
) -> list[Change]:
    """For each result; banks and results are of the same model.

    Texts below `min_probability`, or below that of their bank, are no answer.
    """
    compared = []
    for result in results:
        (video, *scenes), (other_video, *other_scenes) = (
            _answers(bank, result, top_k, min_probability) for bank in (before, after)
        )
        times = zip(result.starts.tolist(), result.ends.tolist(), scenes, other_scenes, strict=True)
        differing = tuple(scene for scene in times if scene[2] != scene[3])
        compared.append(Change(result.name, (video, other_video), differing, len(scenes)))
    return compared


def _answers(bank: TextBank, result: StoredScenes, top_k: int, min_probability: float) -> list[Answer]:
    """Of the video, then of its scenes."""
    weights = (result.ends - result.starts) / (result.ends - result.starts).sum()
    texts_of_rows = []
    for (_, texts, embeddings, limits), count in zip(_lists(bank), (top_k, 1), strict=True):
        scores, probabilities = _ranked(embeddings, result)
        scores, probabilities = (np.vstack([weights @ rows, rows]) for rows in (scores, probabilities))
        limits = np.maximum(limits, min_probability)
        orders = np.lexsort((-scores, -probabilities), axis=1)
        likely = zip(orders, probabilities >= limits, strict=True)
        texts_of_rows.append([tuple(texts[i] for i in order[row[order]][:count]) for order, row in likely])
    tags_of_rows, captions_of_rows = texts_of_rows
    return [
        Answer(tags, captions[0] if captions else None)
        for tags, captions in zip(tags_of_rows, captions_of_rows, strict=True)
    ]


def _ranked(embeddings: NDArray[np.float32], result: StoredScenes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores and probabilities, [scenes, texts]."""
    scores = result.embeddings.astype(np.float64) @ embeddings.astype(np.float64).T
    logits = result.calibration.logit_scale * scores + result.calibration.logit_bias
    return scores, 0.5 * (1 + np.tanh(0.5 * logits))


def _best(
    scores: NDArray[np.float64], probabilities: NDArray[np.float64], limits: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Of each scene the best text that is likely enough; -1 where none is."""
    likely = probabilities >= limits
    return np.where(likely.any(axis=1), np.where(likely, scores, -np.inf).argmax(axis=1), -1)


def _lists(
    bank: TextBank,
) -> Iterator[tuple[str, tuple[str, ...], NDArray[np.float32], NDArray[np.float64]]]:
    """Kind, texts, embeddings and minimum probabilities."""
    for kind, texts, embeddings, limits in (
        ("tags", bank.tags, bank.tag_embeddings, bank.tag_min_probabilities),
        ("descriptions", bank.descriptions, bank.description_embeddings, bank.description_min_probabilities),
    ):
        yield kind, texts, embeddings, np.zeros(len(texts)) if limits is None else limits


def _quoted(caption: str | None) -> str:
    return "none" if caption is None else f"“{caption}”"
