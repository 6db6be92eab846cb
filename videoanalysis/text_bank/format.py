"""The file format of text banks: the tags and descriptions that embeddings are ranked against.

A safetensors file, so that reading it runs no code: two float32 tensors, and the texts and their origin in the
metadata of the header.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from videoanalysis.embeddings import UNIT_TOLERANCE
from videoanalysis.limits import MAX_EMBEDDING_DIM, MAX_TEXT_CHARACTERS, is_bank_name

FORMAT = "videoanalysis.text_bank.v1"
CREATED_AT_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
MAX_TEXTS = 1_000_000

# Valid in JSON, not in UTF-8 and therefore not in protobuf.
_SURROGATE = re.compile("[\ud800-\udfff]")


class InvalidTextBank(ValueError):
    """Texts or a bank break a rule; the message is one sentence for the operator."""


@dataclass(frozen=True, eq=False)
class TextBank:
    """Texts with their embeddings by one model. The constructor raises InvalidTextBank if a rule is broken."""

    name: str
    # ModelInfo.digest of the encoder.
    model_digest: str
    # The text replaces "{}" before it is embedded.
    template: str
    # UTC in CREATED_AT_FORMAT, which sorts by time.
    created_at: str
    tags: tuple[str, ...]
    descriptions: tuple[str, ...]
    # float32 [tags, embedding_dim] and [descriptions, embedding_dim], unit rows.
    tag_embeddings: NDArray[np.float32]
    description_embeddings: NDArray[np.float32]
    # float64 [tags] and [descriptions], 0 to 1: below it a text is no answer, unless a request sets its own. None: 0.
    tag_min_probabilities: NDArray[np.float64] | None = None
    description_min_probabilities: NDArray[np.float64] | None = None
    # "sha256:…" over texts, embeddings, minimum probabilities, model digest and template.
    digest: str = field(init=False)
    # The longest tag or description in UTF-8.
    longest_text_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        if not is_bank_name(self.name):
            raise InvalidTextBank(f"name {self.name[:100]!r}: 1 to 100 letters, digits, dots, dashes or underscores")
        if not 1 <= len(self.model_digest) <= 200:
            raise InvalidTextBank("model_digest: empty or over 200 characters")
        check_template(self.template)
        _check_time(self.created_at)
        _check_texts(self.tags, "tags")
        _check_texts(self.descriptions, "descriptions")
        _check_embeddings(self.tag_embeddings, len(self.tags), "tag_embeddings")
        _check_embeddings(self.description_embeddings, len(self.descriptions), "description_embeddings")
        _check_probabilities(self.tag_min_probabilities, len(self.tags), "tag_min_probabilities")
        _check_probabilities(
            self.description_min_probabilities, len(self.descriptions), "description_min_probabilities"
        )
        if self.description_embeddings.shape[1] != self.embedding_dim:
            raise InvalidTextBank(
                f"embeddings: tags have {self.embedding_dim} dimensions, "
                f"descriptions {self.description_embeddings.shape[1]}"
            )
        object.__setattr__(self, "digest", self._compute_digest())
        longest = max(len(text.encode()) for text in self.tags + self.descriptions)
        object.__setattr__(self, "longest_text_bytes", longest)

    @property
    def embedding_dim(self) -> int:
        return int(self.tag_embeddings.shape[1])

    def to_bytes(self) -> bytes:
        metadata = {
            "format": FORMAT,
            "name": self.name,
            "model_digest": self.model_digest,
            "template": self.template,
            "created_at": self.created_at,
            "tags": json.dumps(self.tags, ensure_ascii=False),
            "descriptions": json.dumps(self.descriptions, ensure_ascii=False),
        }
        # safetensors copies memory from the first element on: the arrays must be contiguous.
        arrays = {name: np.ascontiguousarray(array) for name, array in self._arrays()}
        return safetensors.numpy.save(arrays, metadata)

    @classmethod
    def from_bytes(cls, data: bytes) -> "TextBank":
        """Inverse of to_bytes; raises InvalidTextBank for anything else."""
        try:
            embeddings = safetensors.numpy.load(data)
        except (SafetensorError, KeyError, ValueError) as error:
            raise InvalidTextBank(f"not a safetensors file: {error}") from error
        # Safe after a successful load; safetensors reads metadata of files on disk only.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata: dict[str, str] = header.get("__metadata__") or {}
        if metadata.get("format") != FORMAT:
            raise InvalidTextBank(f"format {metadata.get('format', '')[:100]!r}: this version reads {FORMAT}")
        try:
            return cls(
                name=metadata["name"],
                model_digest=metadata["model_digest"],
                template=metadata["template"],
                created_at=metadata["created_at"],
                tags=_parse_texts(metadata["tags"], "tags"),
                descriptions=_parse_texts(metadata["descriptions"], "descriptions"),
                tag_embeddings=embeddings["tag_embeddings"],
                description_embeddings=embeddings["description_embeddings"],
                tag_min_probabilities=embeddings.get("tag_min_probabilities"),
                description_min_probabilities=embeddings.get("description_min_probabilities"),
            )
        except KeyError as missing:
            raise InvalidTextBank(f"{missing.args[0]}: missing from the file") from missing

    def _compute_digest(self) -> str:
        description = [self.model_digest, self.template, self.tags, self.descriptions, self.embedding_dim]
        hasher = hashlib.sha256(json.dumps(description).encode())
        for name, array in self._arrays():
            if array.dtype == np.float64:
                hasher.update(name.encode())
            hasher.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
        return f"sha256:{hasher.hexdigest()}"

    def _arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        yield "tag_embeddings", self.tag_embeddings
        yield "description_embeddings", self.description_embeddings
        if self.tag_min_probabilities is not None:
            yield "tag_min_probabilities", self.tag_min_probabilities
        if self.description_min_probabilities is not None:
            yield "description_min_probabilities", self.description_min_probabilities


def check_template(template: str) -> None:
    """Raises InvalidTextBank unless `template` contains "{}" exactly once."""
    if template.count("{}") != 1 or len(template) > 200:
        raise InvalidTextBank("template: must contain {} exactly once, in at most 200 characters")


def _check_time(created_at: str) -> None:
    try:
        canonical = datetime.strptime(created_at, CREATED_AT_FORMAT).strftime(CREATED_AT_FORMAT)
    except ValueError:
        canonical = ""
    if created_at != canonical:
        raise InvalidTextBank(f"created_at {created_at[:50]!r}: not of the form 2026-01-31T23:59:59Z")


def _check_texts(texts: tuple[str, ...], kind: str) -> None:
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise InvalidTextBank(f"{kind}: {len(texts)} texts, 1 to {MAX_TEXTS} are allowed")
    seen: set[str] = set()
    for text in texts:
        if not text.strip() or len(text) > MAX_TEXT_CHARACTERS:
            raise InvalidTextBank(f"{kind}: {text[:50]!r} is empty or over {MAX_TEXT_CHARACTERS} characters")
        if _SURROGATE.search(text):
            raise InvalidTextBank(f"{kind}: {text[:50]!r} contains a lone surrogate")
        if text in seen:
            raise InvalidTextBank(f"{kind}: {text!r} occurs twice")
        seen.add(text)


def _check_embeddings(embeddings: NDArray[Any], texts: int, kind: str) -> None:
    if embeddings.dtype != np.float32:
        raise InvalidTextBank(f"{kind}: {embeddings.dtype}, must be float32")
    if embeddings.ndim != 2 or len(embeddings) != texts or embeddings.shape[1] == 0:
        raise InvalidTextBank(f"{kind}: shape {list(embeddings.shape)} does not match {texts} texts")
    if embeddings.shape[1] > MAX_EMBEDDING_DIM:
        raise InvalidTextBank(f"{kind}: {embeddings.shape[1]} dimensions, at most {MAX_EMBEDDING_DIM} are allowed")
    if not np.isfinite(embeddings).all():
        raise InvalidTextBank(f"{kind}: contains values that are not finite")
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(embeddings, axis=1)
    worst = int(np.argmax(np.abs(lengths - 1)))
    if not abs(lengths[worst] - 1) <= UNIT_TOLERANCE:
        raise InvalidTextBank(f"{kind}: row {worst} has length {lengths[worst]:.4g}, must be 1")


def _check_probabilities(probabilities: NDArray[Any] | None, texts: int, kind: str) -> None:
    if probabilities is None:
        return
    if probabilities.dtype != np.float64 or probabilities.shape != (texts,):
        raise InvalidTextBank(
            f"{kind}: {probabilities.dtype} {list(probabilities.shape)}, must be float64, one for each of {texts} texts"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise InvalidTextBank(f"{kind}: one is not from 0 to 1")


def _parse_texts(encoded: str, kind: str) -> tuple[str, ...]:
    try:
        texts = json.loads(encoded)
    except (ValueError, RecursionError) as error:
        raise InvalidTextBank(f"{kind}: not JSON") from error
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidTextBank(f"{kind}: not a list of strings")
    return tuple(texts)
