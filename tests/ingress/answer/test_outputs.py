import json

import pytest
from google.protobuf import json_format

from services.ingress.answer.outputs import Outputs
from videoanalysis.errors import InvalidInput, NotFound, PermissionDenied
from videoanalysis.storage import S3Uri, Storage
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, ChunkResult, Scene
from videoanalysis.v1.decoder_pb2 import SceneChange, TagScore, TextBankInfo
from videoanalysis.v1.encoder_pb2 import ModelInfo
from videoanalysis.v1.error_reason_pb2 import ErrorReason
from videoanalysis.v1.tensor_pb2 import Tensor


def test_without_a_uri_nothing_is_written():
    assert Outputs(None, []).locate("") is None


@pytest.mark.parametrize("uri", ["s3://results/other/a.json", "s3://results/done-by-others/a.json", "s3://x-results/a"])
def test_refuses_what_the_operator_does_not_allow(uri):
    with pytest.raises(PermissionDenied, match="INGRESS_ALLOWED_OUTPUT_PREFIXES") as caught:
        Outputs(None, ["s3://results/done"]).locate(uri)
    assert caught.value.field == "output_uri"


@pytest.mark.parametrize("key", ["done/../banks/a", "done/./a", "done/.."])
def test_refuses_dot_segments_under_an_allowed_prefix(key):
    with pytest.raises(InvalidInput) as caught:
        Outputs(None, ["s3://results/done"]).locate(f"s3://results/{key}")
    assert caught.value.field == "output_uri"


def test_refuses_a_uri_without_an_object_name():
    with pytest.raises(InvalidInput) as caught:
        Outputs(None, ["s3://results"]).locate("/tmp/answer.json")
    assert caught.value.field == "output_uri"


async def test_writes_the_answer_as_json(storage: Storage, bucket: str):
    outputs = Outputs(storage, [f"s3://{bucket}/done"])
    uri = outputs.locate(f"s3://{bucket}/done/a.json")
    assert uri == S3Uri(bucket, "done/a.json")
    tag = TagScore(text='caf\u00e9 "\U0001f600"', score=0.25, probability=0.5)
    change = SceneChange(timestamp_seconds=1.5, frame_index=1)
    scenes = [Scene(end_seconds=1.5, tags=[tag]), Scene(start_seconds=1.5, end_seconds=2.5)]
    chunks = [
        ChunkResult(duration_seconds=1, embeddings=Tensor(element_type=2, shape=[1, 2], data=b"\xff\x00\x01\xfe")),
        ChunkResult(chunk_index=1, duration_seconds=1.5, tags=[tag], scene_changes=[change]),
    ]
    summary = AnalyzeVideoResponse(stream_id="a", tags=[tag], video_duration_seconds=2.5, scenes=scenes[1:])
    async with outputs.open(uri) as output:
        await output.opened(2.5, ModelInfo(), TextBankInfo())
        await output.chunk(chunks[1], scenes, b"")
        await output.opened(2.5, ModelInfo(), TextBankInfo())  # the video restarts
        await output.chunk(chunks[0], [], b"")
        await output.chunk(chunks[1], scenes[:1], b"")
        await output.finish(summary)
    answer = AnalyzeVideoResponse(chunks=chunks, scene_changes=[change], scenes=scenes[:1])
    answer.MergeFrom(summary)
    written = (await storage.read(uri, 1 << 20)).decode()
    assert json.loads(written) == json.loads(json_format.MessageToJson(answer))


async def test_an_analysis_without_scenes_gives_a_document_too(storage: Storage, bucket: str):
    uri = S3Uri(bucket, "a.json")
    async with Outputs(storage, []).open(uri) as output:
        await output.finish(AnalyzeVideoResponse(stream_id="a", video_duration_seconds=2.5))
    assert json_format.Parse(await storage.read(uri, 1 << 20), AnalyzeVideoResponse()).stream_id == "a"


async def test_scenes_that_exceed_what_is_kept_are_refused_by_field(storage: Storage, bucket: str):
    scene = Scene(tags=[TagScore(text="x" * 1_000_000)])

    async def analysis() -> None:
        async with Outputs(storage, []).open(S3Uri(bucket, "a.json")) as output:
            for index in range(100):
                await output.chunk(ChunkResult(chunk_index=index), [scene], b"")

    with pytest.raises(InvalidInput) as caught:
        await analysis()
    assert (caught.value.field, caught.value.reason) == ("output_uri", ErrorReason.RESPONSE_TOO_LARGE)
    assert await storage.list(S3Uri(bucket, "")) == []


async def test_a_missing_bucket_is_reported_by_field(storage: Storage):
    async def analysis() -> None:
        async with Outputs(storage, []).open(S3Uri("no-such-bucket", "a.json")) as output:
            await output.finish(AnalyzeVideoResponse())

    with pytest.raises(NotFound) as caught:
        await analysis()
    assert caught.value.field == "output_uri"
