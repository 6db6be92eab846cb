import json
import pickle
from contextlib import suppress
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from tests.decoder.samples import OTHER_MODEL, make_bank, unit_rows
from videoanalysis.limits import MAX_TEXT_CHARACTERS
from videoanalysis.text_bank.format import InvalidTextBank, TextBank


def test_a_bank_survives_its_file():
    bank = make_bank(tags=("küche", 'a "quoted" tag', "a, b"))
    read = TextBank.from_bytes(bank.to_bytes())
    for field in ("name", "model_digest", "template", "created_at", "tags", "descriptions", "digest"):
        assert getattr(read, field) == getattr(bank, field)
    np.testing.assert_array_equal(read.tag_embeddings, bank.tag_embeddings)
    np.testing.assert_array_equal(read.description_embeddings, bank.description_embeddings)


def test_least_probabilities_survive_the_file():
    bank = make_bank(tag_min_probabilities=np.array([0, 0.8, 1]))
    read = TextBank.from_bytes(bank.to_bytes())
    np.testing.assert_array_equal(read.tag_min_probabilities, [0, 0.8, 1])
    assert read.description_min_probabilities is None
    assert read.digest == bank.digest


def test_a_strided_view_is_written_as_it_reads():
    rows = unit_rows(6)[::2]
    read = TextBank.from_bytes(make_bank(tag_embeddings=rows).to_bytes())
    np.testing.assert_array_equal(read.tag_embeddings, rows)


def test_the_longest_text_counts_in_utf_8_bytes():
    assert make_bank(tags=("a", "b", "c"), descriptions=("d", "eee")).longest_text_bytes == 3
    assert make_bank(tags=("a", "ßßß", "c"), descriptions=("d", "eeee")).longest_text_bytes == 6


def test_a_bank_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        make_bank().name = "other"


def test_the_digest_depends_on_content_not_on_name_or_time():
    bank = make_bank()
    assert bank.digest.startswith("sha256:")
    assert bank.digest == make_bank(name="renamed", created_at="2027-01-31T12:00:00Z").digest
    changed = [
        make_bank(model_digest=OTHER_MODEL),
        make_bank(template="a photo of {}"),
        make_bank(tags=("x", "y", "z")),
        make_bank(descriptions=("x", "y")),
        make_bank(tag_embeddings=unit_rows(3, seed=9)),
        make_bank(description_embeddings=unit_rows(2, seed=9)),
        make_bank(tag_min_probabilities=np.array([0, 0.8, 1])),
        make_bank(tag_min_probabilities=np.array([0, 0.8, 0.9])),
        make_bank(description_min_probabilities=np.array([0.5, 0.5])),
    ]
    assert len({bank.digest, *(other.digest for other in changed)}) == len(changed) + 1


NOT_FINITE = unit_rows(3)
NOT_FINITE[1, 0] = np.nan
NOT_UNIT = unit_rows(3)
NOT_UNIT[2] *= 1.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name"),
        ({"name": "../etc"}, "name"),
        ({"model_digest": ""}, "model_digest"),
        ({"template": "no place"}, "template"),
        ({"template": "{} and {}"}, "template"),
        ({"created_at": "yesterday"}, "created_at"),
        ({"created_at": "2026-1-31T12:00:00Z"}, "created_at"),
        ({"created_at": "2026-01-31T12:00:00+01:00"}, "created_at"),
        ({"tags": (), "tag_embeddings": np.empty((0, 8), np.float32)}, "tags: 0 texts"),
        ({"descriptions": (), "description_embeddings": np.empty((0, 8), np.float32)}, "descriptions: 0 texts"),
        ({"tags": ("a", "b", "a")}, "'a' occurs twice"),
        ({"tags": ("a", " ", "b")}, "empty"),
        ({"tags": ("a", "b", "c" * (MAX_TEXT_CHARACTERS + 1))}, "over 200 characters"),
        ({"tags": ("a", "b", "\ud800")}, "a lone surrogate"),
        ({"tags": ("a", "b")}, "does not match 2 texts"),
        ({"tag_embeddings": unit_rows(3)[0]}, "does not match"),
        ({"tag_embeddings": np.empty((3, 0), np.float32)}, "does not match"),
        ({"tag_embeddings": unit_rows(3).astype(np.float64)}, "float64, must be float32"),
        ({"tag_embeddings": NOT_FINITE}, "not finite"),
        ({"tag_embeddings": NOT_UNIT}, "row 2 has length 1.01"),
        ({"tag_embeddings": np.zeros((3, 8), np.float32)}, "length 0"),
        ({"tag_min_probabilities": np.array([0.5, 0.5])}, r"float64 \[2\], must be float64, one for each of 3 texts"),
        ({"tag_min_probabilities": np.zeros(3, np.float32)}, "float32"),
        ({"tag_min_probabilities": np.array([0, 0, 1.1])}, "tag_min_probabilities: one is not from 0 to 1"),
        ({"description_min_probabilities": np.array([0, np.nan])}, "one is not from 0 to 1"),
        ({"description_embeddings": unit_rows(2, 4)}, "tags have 8 dimensions, descriptions 4"),
    ],
)
def test_a_bank_that_breaks_a_rule_cannot_be_made(changes, message):
    with pytest.raises(InvalidTextBank, match=message):
        make_bank(**changes)


def file_with(metadata: dict[str, str | None], **embeddings: np.ndarray) -> bytes:
    bank = make_bank()
    written = {
        "format": "videoanalysis.text_bank.v1",
        "name": bank.name,
        "model_digest": bank.model_digest,
        "template": bank.template,
        "created_at": bank.created_at,
        "tags": json.dumps(bank.tags),
        "descriptions": json.dumps(bank.descriptions),
    } | metadata
    arrays = {"tag_embeddings": bank.tag_embeddings, "description_embeddings": bank.description_embeddings}
    return safetensors.numpy.save(arrays | embeddings, {key: value for key, value in written.items() if value})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a safetensors file"),
        (make_bank().to_bytes()[:-1], "not a safetensors file"),
        (pickle.dumps({"tags": ["kitchen"]}), "not a safetensors file"),
        (safetensors.numpy.save({"tag_embeddings": unit_rows(3)}), "format ''"),
        (
            file_with({"format": "videoanalysis.text_bank.v2"}),
            "this version reads videoanalysis.text_bank.v1",
        ),
        (file_with({"model_digest": None}), "model_digest: missing"),
        (file_with({"tags": "[not json"}), "tags: not JSON"),
        (file_with({"tags": "[" * 100_000}), "tags: not JSON"),
        (file_with({"tags": '{"a": 1}'}), "tags: not a list of strings"),
        (file_with({"tags": "[1, 2, 3]"}), "tags: not a list of strings"),
        (file_with({}, tag_embeddings=unit_rows(3).astype(np.float16)), "float16, must be float32"),
        (file_with({}, description_embeddings=unit_rows(5)), "does not match 2 texts"),
    ],
)
def test_a_file_that_is_no_bank_is_refused_with_a_reason(data, message):
    with pytest.raises(InvalidTextBank, match=message):
        TextBank.from_bytes(data)


def test_a_missing_tensor_is_named():
    data = safetensors.numpy.save(
        {"tag_embeddings": unit_rows(3)},
        {**_metadata(make_bank().to_bytes()), "format": "videoanalysis.text_bank.v1"},
    )
    with pytest.raises(InvalidTextBank, match="description_embeddings: missing"):
        TextBank.from_bytes(data)


def _metadata(data: bytes) -> dict[str, str]:
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]


@given(position=st.integers(0), value=st.integers(0, 255))
def test_a_damaged_file_is_a_bank_or_refused_but_nothing_else(position, value):
    data = bytearray(make_bank().to_bytes())
    data[position % len(data)] = value
    with suppress(InvalidTextBank):
        TextBank.from_bytes(bytes(data))


def test_the_file_holds_no_pickle():
    data = make_bank().to_bytes()
    with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError)):
        pickle.loads(data)
