from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.ingress.job import AnalysisRequest, read_request
from services.ingress.resume.token import MAX_TOKEN_BYTES, RequestTokens, ResumeTokens
from tests.ingress.resume.states import largest, resume_state, same
from videoanalysis.errors import FailedPrecondition, InvalidInput, ServiceError
from videoanalysis.v1.analysis_pb2 import CUT_DETECTION_OFF, PRIORITY_BATCH, SCENE_BOUNDARIES_CUTS, AnalyzeVideoRequest
from videoanalysis.v1.decoder_pb2 import SCENE_DETECTION_EVERY_FRAME
from videoanalysis.v1.error_reason_pb2 import ErrorReason

OLD, KEY, NEW = b"o" * 32, b"k" * 32, b"n" * 32
URI, CALLER, VERSION = "s3://bucket/clip.mp4", "tenant-7", '"an etag"'
DAY = 24 * 3600


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def analysis(**options: object) -> AnalysisRequest:
    return read_request(AnalyzeVideoRequest(**options))


def tokens(*keys: bytes, caller: str = CALLER, uri: str = URI, clock: Clock | None = None, **options: object):
    return ResumeTokens(keys or [KEY], clock or Clock()).of(caller, uri, analysis(**options))


def refusal(reader: RequestTokens, token: bytes) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        reader.read(token)
    assert caught.value.field == "resume_token"
    return caught.value


TOKEN = tokens().issue(resume_state(), VERSION)


def test_a_token_holds_the_state_it_was_issued_for():
    read = tokens().read(TOKEN)
    assert same(read.state, resume_state())
    assert read.is_of(VERSION)


def test_a_token_distinguishes_its_object_from_others():
    read = tokens().read(TOKEN)
    assert not read.is_of('"another etag"')
    assert not read.is_of("")


def test_the_first_key_signs_and_all_verify():
    assert tokens(NEW, KEY).read(TOKEN)
    assert tokens(OLD, NEW, KEY).read(TOKEN)
    signed = tokens(NEW, KEY).issue(resume_state(), VERSION)
    assert tokens(NEW).read(signed)
    assert refusal(tokens(KEY), signed).reason == ErrorReason.TOKEN_FORGED


@given(st.integers(0, len(TOKEN) * 8 - 1))
def test_a_token_with_any_bit_flipped_is_forged(bit):
    changed = bytearray(TOKEN)
    changed[bit // 8] ^= 1 << bit % 8
    error = refusal(tokens(), bytes(changed))
    assert (type(error), error.reason) == (InvalidInput, ErrorReason.TOKEN_FORGED)


@given(st.one_of(st.integers(0, len(TOKEN) - 1).map(lambda end: TOKEN[:end]), st.binary(max_size=200)))
@example(TOKEN + b"\0")
@example(b"\x02" + bytes(100))
@example(b"\x02" + bytes(MAX_TOKEN_BYTES))
def test_a_token_signed_by_others_is_forged(token):
    error = refusal(tokens(), token)
    assert (type(error), error.reason) == (InvalidInput, ErrorReason.TOKEN_FORGED)


def test_without_a_key_no_token_is_issued_and_none_accepted():
    keyless = ResumeTokens([]).of(CALLER, URI, analysis())
    assert keyless.issue(resume_state(), VERSION) == b""
    assert refusal(keyless, TOKEN).reason == ErrorReason.TOKEN_FORGED


def test_an_object_without_a_version_has_no_tokens():
    assert tokens().issue(resume_state(), "") == b""


def test_a_token_is_valid_for_a_day():
    clock = Clock()
    clock.now += DAY
    assert tokens(clock=clock).read(TOKEN)
    clock.now += 1
    error = refusal(tokens(clock=clock), TOKEN)
    assert (type(error), error.reason) == (FailedPrecondition, ErrorReason.TOKEN_EXPIRED)


@pytest.mark.parametrize("caller", ["", "tenant-8", "tenant-70"])
def test_a_token_is_valid_for_its_caller_only(caller):
    error = refusal(tokens(caller=caller), TOKEN)
    assert (type(error), error.reason) == (FailedPrecondition, ErrorReason.TOKEN_OF_ANOTHER_CALLER)


@pytest.mark.parametrize(
    "other",
    [
        {"uri": "s3://bucket/other.mp4"},
        {"frames_per_chunk": 8},
        {"chunk_duration_seconds": 9.5},
        {"top_k_tags": 6},
        {"labels": ["a"]},
        {"text_bank": "places"},
        {"include_embeddings": True},
        {"include_scene_scores": True},
        {"scene_threshold": 0.2},
        {"ema_alpha": 0.8},
        {"min_probability": 0.1},
        {"sampling_tolerance_seconds": 0.5},
        {"reuse_difference": 0.01},
        {"start_seconds": 1.5},
        {"end_seconds": 60},
        {"cut_detection": CUT_DETECTION_OFF},
        {"scene_boundaries": SCENE_BOUNDARIES_CUTS},
        {"scene_detection": SCENE_DETECTION_EVERY_FRAME},
        {"min_scene_seconds": 1.5},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_token_is_valid_for_its_request_only(other):
    error = refusal(tokens(**other), TOKEN)
    assert (type(error), error.reason) == (FailedPrecondition, ErrorReason.TOKEN_OF_ANOTHER_REQUEST)


def test_every_field_of_the_request_is_bound_or_left_free_by_decision():
    """What the contract gains must be added to the test above, or here."""
    bound = {"video_uri", "frames_per_chunk", "chunk_duration_seconds", "top_k_tags", "labels", "text_bank"}
    bound |= {"include_embeddings", "include_scene_scores", "scene_threshold", "ema_alpha", "min_probability"}
    bound |= {"scene_detection", "sampling_tolerance_seconds", "reuse_difference", "start_seconds", "end_seconds"}
    bound |= {"cut_detection", "scene_boundaries", "min_scene_seconds"}
    free = {"stream_id", "priority", "output_uri"}
    assert {field.name for field in AnalyzeVideoRequest.DESCRIPTOR.fields} == bound | free


def test_labels_are_distinguished_wherever_they_are_split():
    signed = tokens(labels=["a", "b"]).issue(resume_state(), VERSION)
    for labels in (["a,b"], ["b", "a"], ['a", "b']):
        assert refusal(tokens(labels=labels), signed).reason == ErrorReason.TOKEN_OF_ANOTHER_REQUEST


def test_equivalent_requests_are_the_same_request():
    assert tokens(frames_per_chunk=16, chunk_duration_seconds=10, top_k_tags=5, text_bank="default").read(TOKEN)
    assert tokens(scene_threshold=0.15, ema_alpha=0.9).read(TOKEN)
    assert tokens(stream_id="another", priority=PRIORITY_BATCH).read(TOKEN)


def test_the_largest_token_of_the_real_model_leaves_room_for_longer_digests():
    assert 15_000 < len(tokens().issue(largest(1152), VERSION)) <= MAX_TOKEN_BYTES - 128
    assert MAX_TOKEN_BYTES == 16 << 10


@pytest.mark.parametrize("seed", range(5))
def test_the_size_of_a_token_follows_from_the_dimensions_and_not_from_the_numbers(seed):
    sizes = {
        len(tokens().issue(replace(state, summary=replace(state.summary, duration=Fraction(1, 3))), VERSION))
        for state in (largest(1152), largest(1152, seed))
    }
    assert len(sizes) == 1


def test_a_larger_token_is_not_issued():
    assert tokens().issue(largest(1163), VERSION)
    assert tokens().issue(largest(1164), VERSION) == b""
