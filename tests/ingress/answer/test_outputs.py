import json

import pytest

from services.ingress.answer.outputs import Outputs
from videoanalysis.errors import InvalidInput, PermissionDenied
from videoanalysis.storage import S3Uri, Storage
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse


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
    await outputs.write(uri, AnalyzeVideoResponse(stream_id="a", video_duration_seconds=2.5))
    written = json.loads(await storage.read(uri, 1 << 20))
    assert written == {"streamId": "a", "videoDurationSeconds": 2.5}
