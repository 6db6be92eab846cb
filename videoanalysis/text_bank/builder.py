"""Builds a text bank from two text files with the encoder that also embeds the videos."""

import asyncio
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from videoanalysis import tensors
from videoanalysis.errors import Overloaded
from videoanalysis.limits import MAX_TEXT_CHARACTERS
from videoanalysis.status import from_rpc_error
from videoanalysis.text_bank.format import (
    CREATED_AT_FORMAT,
    InvalidTextBank,
    TextBank,
    check_template,
)
from videoanalysis.v1.encoder_pb2 import EncodeTextsRequest, GetModelRequest
from videoanalysis.v1.encoder_pb2_grpc import EncoderServiceStub

# "kitchen >= 0.8", or ">= 0.2" for all texts.
_LIMITED = re.compile(r"(?:(?P<text>.*\S)\s+)?>=\s*(?P<limit>.*)")

_BATCH_TEXTS = 256
# A model on a CPU takes tens of milliseconds per text.
_CALL_SECONDS = 60
ATTEMPTS = 6
_MAX_BACKOFF_SECONDS = 5.0
_RETRYABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}


@dataclass(frozen=True, slots=True)
class TextList:
    texts: tuple[str, ...]
    # float64 [texts]; None if none has one.
    min_probabilities: NDArray[np.float64] | None


def read_texts(directory: Path) -> tuple[TextList, TextList]:
    """Tags and descriptions from tags.txt and descriptions.txt, one per line.

    Blank lines and lines that begin with "#" are skipped. A line may end with the text's minimum probability, as in
    "smoke >= 0.8"; one of the form ">= 0.2" before the first text is for every text without its own. Raises
    InvalidTextBank naming file and line.
    """
    return _read_lines(directory / "tags.txt"), _read_lines(directory / "descriptions.txt")


async def build(
    directory: Path, *, name: str, encoder: grpc.aio.Channel, template: str = "{}", first_backoff_seconds: float = 0.1
) -> TextBank:
    """Embed the texts of `directory`, each put into `template` in place of "{}".

    Calls to an encoder that is starting or busy are retried with exponential backoff. Raises InvalidTextBank for
    invalid texts or embeddings, ServiceError for errors of the encoder.
    """
    check_template(template)
    tags, descriptions = await asyncio.to_thread(read_texts, directory)
    prompts = [template.replace("{}", text) for text in tags.texts + descriptions.texts]
    model_digest, embeddings = await _embed(prompts, EncoderServiceStub(encoder), first_backoff_seconds)  # type: ignore[no-untyped-call]
    return TextBank(
        name=name,
        model_digest=model_digest,
        template=template,
        created_at=datetime.now(UTC).strftime(CREATED_AT_FORMAT),
        tags=tags.texts,
        descriptions=descriptions.texts,
        tag_embeddings=embeddings[: len(tags.texts)],
        description_embeddings=embeddings[len(tags.texts) :],
        tag_min_probabilities=tags.min_probabilities,
        description_min_probabilities=descriptions.min_probabilities,
    )


def _read_lines(path: Path) -> TextList:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidTextBank(f"{path}: cannot be read as UTF-8 text ({error})") from error
    first_line: dict[str, int] = {}
    limits: list[float | None] = []
    default: float | None = None
    for number, line in enumerate(content.splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        limit = None
        if (limited := _LIMITED.fullmatch(text)) is not None:
            text, limit = limited["text"] or "", _probability(limited["limit"], f"{path}, line {number}")
            if not text:
                if first_line or default is not None:
                    raise InvalidTextBank(f"{path}, line {number}: only one >= without a text, before the first text")
                default = limit
                continue
        if len(text) > MAX_TEXT_CHARACTERS:
            raise InvalidTextBank(f"{path}, line {number}: {len(text)} characters, at most {MAX_TEXT_CHARACTERS}")
        if text in first_line:
            raise InvalidTextBank(f"{path}, line {number}: {text!r} is already on line {first_line[text]}")
        first_line[text] = number
        limits.append(limit)
    if not first_line:
        raise InvalidTextBank(f"{path}: empty, must contain at least one text")
    if default is None and all(limit is None for limit in limits):
        return TextList(tuple(first_line), None)
    return TextList(tuple(first_line), np.array([(default or 0.0) if limit is None else limit for limit in limits]))


def _probability(written: str, line: str) -> float:
    try:
        probability = float(written)
    except ValueError:
        probability = math.nan
    if not 0 <= probability <= 1:
        raise InvalidTextBank(f"{line}: {written!r} after >= is not a probability from 0 to 1")
    return probability


async def _embed(
    prompts: list[str], stub: EncoderServiceStub, first_backoff_seconds: float
) -> tuple[str, NDArray[np.float32]]:
    """The model's digest and float32 [prompts, embedding_dim]; all batches are of the same model."""
    model = (await _call(stub.GetModel, GetModelRequest(), first_backoff_seconds)).model
    batches = []
    for start in range(0, len(prompts), _BATCH_TEXTS):
        texts = prompts[start : start + _BATCH_TEXTS]
        request = EncodeTextsRequest(texts=texts, model_digest=model.digest)
        response = await _call(stub.EncodeTexts, request, first_backoff_seconds)
        if response.model_digest != model.digest:
            raise InvalidTextBank(f"the encoder's model changed from {model.digest} to {response.model_digest}")
        embeddings = tensors.from_proto(response.embeddings, "embeddings")
        if embeddings.shape != (len(texts), model.embedding_dim):
            raise InvalidTextBank(f"the encoder returned shape {list(embeddings.shape)} for {len(texts)} texts")
        batches.append(embeddings)
    return model.digest, np.concatenate(batches)


async def _call(method: grpc.aio.UnaryUnaryMultiCallable, request: Message, first_backoff_seconds: float) -> Any:
    """One unary call, retried with exponential backoff.

    Own code, not tenacity or stamina: the server sets the delay of a refusal.
    """
    backoff_seconds, attempt = first_backoff_seconds, 1
    while True:
        try:
            return await method(request, timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error)
            if error.code() not in _RETRYABLE or attempt == ATTEMPTS:
                raise failure from error
        requested = failure.retry_after_seconds if isinstance(failure, Overloaded) else 0.0
        await asyncio.sleep(min(max(backoff_seconds, requested), _MAX_BACKOFF_SECONDS))
        backoff_seconds, attempt = 2 * backoff_seconds, attempt + 1
