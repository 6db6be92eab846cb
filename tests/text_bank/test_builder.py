import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.decoder.samples import MODEL, OTHER_MODEL
from videoanalysis import tensors
from videoanalysis.channels import connect
from videoanalysis.errors import FailedPrecondition, Unavailable
from videoanalysis.text_bank import builder as bank_builder
from videoanalysis.text_bank.builder import TextList, build, read_texts
from videoanalysis.text_bank.format import InvalidTextBank, TextBank
from videoanalysis.v1 import encoder_pb2, encoder_pb2_grpc

DEFAULT_TEXTS = Path(__file__).parents[2] / "textbanks" / "default"


class FakeEncoder(encoder_pb2_grpc.EncoderServiceServicer):
    """Embeds a text as a direction drawn from its characters; `refusals` are the codes of its first answers."""

    def __init__(self, refusals: list[grpc.StatusCode] | None = None, answered_digest: str = MODEL) -> None:
        self.refusals = refusals or []
        self.answered_digest = answered_digest
        self.batches: list[list[str]] = []
        self.digests: list[str] = []

    async def GetModel(self, request, context):
        return encoder_pb2.GetModelResponse(model=encoder_pb2.ModelInfo(digest=MODEL, embedding_dim=16))

    async def EncodeTexts(self, request, context):
        assert context.time_remaining() < 3600
        if self.refusals:
            await context.abort(self.refusals.pop(0), "not now")
        self.batches.append(list(request.texts))
        self.digests.append(request.model_digest)
        rows = np.stack([embed(text) for text in request.texts])
        return encoder_pb2.EncodeTextsResponse(embeddings=tensors.to_proto(rows), model_digest=self.answered_digest)


def embed(text: str) -> np.ndarray:
    drawn = np.random.default_rng(list(text.encode())).standard_normal(16)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


@asynccontextmanager
async def encoder_address(encoder: FakeEncoder) -> AsyncIterator[str]:
    server = grpc.aio.server()
    encoder_pb2_grpc.add_EncoderServiceServicer_to_server(encoder, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def serving(encoder: FakeEncoder) -> AsyncIterator[grpc.aio.Channel]:
    async with encoder_address(encoder) as address, connect(address) as channel:
        yield channel


def write_texts(directory: Path, tags: str = "kitchen\n", descriptions: str = "A person cooking\n") -> Path:
    (directory / "tags.txt").write_text(tags)
    (directory / "descriptions.txt").write_text(descriptions)
    return directory


def test_the_default_bank_has_20_tags_and_40_descriptions():
    tags, descriptions = (found.texts for found in read_texts(DEFAULT_TEXTS))
    assert len(tags) == 20
    assert len(descriptions) == 40
    assert {"kitchen", "city street", "bedroom"} <= set(tags)
    assert all(re.fullmatch(r"[A-Z][A-Za-z ]+[a-z]", sentence) for sentence in descriptions)


def test_comments_and_blank_lines_are_skipped(tmp_path):
    write_texts(tmp_path, "# rooms\nkitchen\n\n  living room  \r\n#office\n")
    tags, descriptions = read_texts(tmp_path)
    assert tags == TextList(("kitchen", "living room"), None)
    assert descriptions == TextList(("A person cooking",), None)


def test_a_line_may_end_with_the_least_probability_of_its_text(tmp_path):
    write_texts(
        tmp_path, "kitchen\nsmoke >= 0.8\n", "# none of these below\n>= 0.2\nA fire   >=.5\nA hall >= 0\nA gym\n"
    )
    tags, descriptions = read_texts(tmp_path)
    assert (tags.texts, list(tags.min_probabilities)) == (("kitchen", "smoke"), [0, 0.8])
    assert (descriptions.texts, list(descriptions.min_probabilities)) == (("A fire", "A hall", "A gym"), [0.5, 0, 0.2])


async def test_the_built_bank_has_the_least_probabilities_of_its_texts(tmp_path):
    write_texts(tmp_path, "kitchen\nsmoke >= 0.8\n")
    encoder = FakeEncoder()
    async with serving(encoder) as channel:
        bank = await build(tmp_path, name="b", encoder=channel)
    assert encoder.batches == [["kitchen", "smoke", "A person cooking"]]
    assert list(bank.tag_min_probabilities) == [0, 0.8]
    assert bank.description_min_probabilities is None


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ("kitchen\nsmoke >= 1.5\n", "tags.txt, line 2: '1.5' after >= is not a probability from 0 to 1"),
        ("kitchen\nx >= y\n", "tags.txt, line 2: 'y' after >= is not a probability"),
        ("kitchen\n>= 0.2\n", "tags.txt, line 2: only one >= without a text, before the first text"),
        (">= 0.2\n>= 0.3\nkitchen\n", "tags.txt, line 2: only one >= without a text"),
        (">= 0.2\n", "tags.txt: empty"),
        ("", "tags.txt: empty"),
        ("# nothing but this\n\n", "tags.txt: empty"),
        ("kitchen\n# again\nkitchen\n", "tags.txt, line 3: 'kitchen' is already on line 1"),
        ("kitchen\n" + "x" * 201, "tags.txt, line 2: 201 characters, at most 200"),
    ],
)
def test_a_bad_line_is_named(tmp_path, tags, message):
    with pytest.raises(InvalidTextBank, match=message):
        read_texts(write_texts(tmp_path, tags))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InvalidTextBank, match=r"tags\.txt: cannot be read"):
        read_texts(tmp_path)
    write_texts(tmp_path)
    (tmp_path / "descriptions.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidTextBank, match=r"descriptions\.txt: cannot be read"):
        read_texts(tmp_path)


async def test_the_built_bank_holds_the_encoders_embeddings():
    async with serving(FakeEncoder()) as channel:
        bank = await build(DEFAULT_TEXTS, name="default", encoder=channel)
    assert (bank.name, bank.model_digest, bank.template) == ("default", MODEL, "{}")
    np.testing.assert_array_equal(bank.tag_embeddings, [embed(tag) for tag in bank.tags])
    np.testing.assert_array_equal(bank.description_embeddings, [embed(text) for text in bank.descriptions])
    assert TextBank.from_bytes(bank.to_bytes()).digest == bank.digest


async def test_each_text_is_put_into_the_template(tmp_path):
    encoder = FakeEncoder()
    async with serving(encoder) as channel:
        bank = await build(write_texts(tmp_path), name="b", encoder=channel, template="a {x} photo of {}.")
    assert encoder.batches == [["a {x} photo of kitchen.", "a {x} photo of A person cooking."]]
    assert bank.tags == ("kitchen",)


async def test_a_template_without_a_place_fails_before_any_call(tmp_path):
    encoder = FakeEncoder()
    async with serving(encoder) as channel:
        with pytest.raises(InvalidTextBank, match="template"):
            await build(write_texts(tmp_path), name="b", encoder=channel, template="a photo")
    assert not encoder.batches


async def test_many_texts_go_in_batches_of_one_model(tmp_path):
    encoder = FakeEncoder()
    write_texts(tmp_path, "\n".join(f"tag {i}" for i in range(300)), "\n".join(f"text {i}" for i in range(300)))
    async with serving(encoder) as channel:
        bank = await build(tmp_path, name="b", encoder=channel)
    assert [len(batch) for batch in encoder.batches] == [256, 256, 88]
    assert encoder.digests == [MODEL] * 3
    np.testing.assert_array_equal(bank.description_embeddings[299], embed("text 299"))


async def test_a_call_to_a_busy_or_starting_encoder_is_retried(tmp_path):
    encoder = FakeEncoder([grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
    async with serving(encoder) as channel:
        bank = await build(write_texts(tmp_path), name="b", encoder=channel)
    assert bank.tags == ("kitchen",)


async def test_an_encoder_that_stays_unavailable_is_an_error(tmp_path):
    encoder = FakeEncoder([grpc.StatusCode.UNAVAILABLE] * 20)
    async with serving(encoder) as channel:
        with pytest.raises(Unavailable, match="not now"):
            await build(write_texts(tmp_path), name="b", encoder=channel, first_backoff_seconds=0.005)
    assert len(encoder.refusals) == 20 - bank_builder.ATTEMPTS


async def test_another_failure_is_not_repeated(tmp_path):
    encoder = FakeEncoder([grpc.StatusCode.FAILED_PRECONDITION] * 2)
    async with serving(encoder) as channel:
        with pytest.raises(FailedPrecondition):
            await build(write_texts(tmp_path), name="b", encoder=channel)
    assert len(encoder.refusals) == 1


async def test_a_model_that_changes_on_the_way_makes_no_bank(tmp_path):
    async with serving(FakeEncoder(answered_digest=OTHER_MODEL)) as channel:
        with pytest.raises(InvalidTextBank, match="model changed"):
            await build(write_texts(tmp_path), name="b", encoder=channel)
