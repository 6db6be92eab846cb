"""Builds a text bank from two text files with the encoder that also embeds the videos."""

import asyncio
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

_BATCH_TEXTS = 256
# A model on a CPU takes tens of milliseconds per text.
_CALL_SECONDS = 60
ATTEMPTS = 6
_MAX_BACKOFF_SECONDS = 5.0
_RETRYABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}


def read_texts(directory: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tags and descriptions from tags.txt and descriptions.txt, one per line.

    Blank lines and lines that begin with "#" are skipped. Raises InvalidTextBank naming file and line.
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
    prompts = [template.replace("{}", text) for text in tags + descriptions]
    model_digest, embeddings = await _embed(prompts, EncoderServiceStub(encoder), first_backoff_seconds)  # type: ignore[no-untyped-call]
    return TextBank(
        name=name,
        model_digest=model_digest,
        template=template,
        created_at=datetime.now(UTC).strftime(CREATED_AT_FORMAT),
        tags=tags,
        descriptions=descriptions,
        tag_embeddings=embeddings[: len(tags)],
        description_embeddings=embeddings[len(tags) :],
    )


def _read_lines(path: Path) -> tuple[str, ...]:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidTextBank(f"{path}: cannot be read as UTF-8 text ({error})") from error
    first_line: dict[str, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if len(text) > MAX_TEXT_CHARACTERS:
            raise InvalidTextBank(f"{path}, line {number}: {len(text)} characters, at most {MAX_TEXT_CHARACTERS}")
        if text in first_line:
            raise InvalidTextBank(f"{path}, line {number}: {text!r} is already on line {first_line[text]}")
        first_line[text] = number
    if not first_line:
        raise InvalidTextBank(f"{path}: empty, must contain at least one text")
    return tuple(first_line)


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
