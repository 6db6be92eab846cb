"""The whole system as processes: what a Stack starts, serves and leaves."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from tests import processes
from tests.rendering import render, steady
from videoanalysis.channels import connect
from videoanalysis.client import AsyncClient
from videoanalysis.errors import FailedPrecondition, NotFound
from videoanalysis.stack.service_environment import CREDENTIALS, Kind
from videoanalysis.stack.stack import Stack, StackError
from videoanalysis.storage import S3Uri, Storage
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoRequest
from videoanalysis.v1.analysis_pb2_grpc import VideoAnalysisServiceStub
from videoanalysis.v1.decoder_pb2 import ListTextBanksRequest
from videoanalysis.v1.decoder_pb2_grpc import DecoderServiceStub
from videoanalysis.video_analysis import Progress, VideoAnalysis

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS: dict[Kind, dict[str, object]] = {
    "ingress": {"max_object_bytes": 1_000_000},
    "encoder": {"synthetic_image_size": 32, "synthetic_embedding_dim": 64, "synthetic_service_ms": 1},
}


async def analyze(stack: Stack, video_uri: str, **options: object) -> VideoAnalysis:
    async with AsyncClient(stack.address) as client:
        return await client.analyze(video_uri, timeout_seconds=60, **options)


def without_test_name(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name != "PYTEST_CURRENT_TEST"}


@pytest.fixture(scope="module")
def users_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a user with settings of AWS and of a proxy."""
    config = tmp_path_factory.mktemp("aws") / "config"
    config.write_text("[profile production]\nendpoint_url = http://127.0.0.1:9\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_CONFIG_FILE", str(config))
        patch.setenv("AWS_PROFILE", "production")
        patch.setenv("AWS_SESSION_TOKEN", "secret")
        patch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        patch.setenv("http_proxy", "http://127.0.0.1:9")
        yield without_test_name(os.environ)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(users_environment) -> AsyncIterator[Stack]:
    async with Stack(engine="synthetic", encoders=2, settings=SETTINGS) as stack:
        yield stack


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("clip") / "six seconds.mp4", steady(25, 6))


async def test_answers_a_unary_call_for_the_clip_of_the_service(stack):
    async with connect(stack.address) as channel:
        request = AnalyzeVideoRequest(video_uri="sample://clip", top_k_tags=3)
        answer = await VideoAnalysisServiceStub(channel).AnalyzeVideo(request, timeout=60)
    assert len(answer.tags) == 3
    assert answer.caption.text
    assert answer.chunks
    assert answer.model.engine == "synthetic"


async def test_analyses_a_file_of_this_machine(stack, clip):
    received: list[Progress] = []
    answer = await analyze(stack, await stack.upload(clip), chunk_duration_seconds=2, on_progress=received.append)
    assert answer.video_duration_seconds == pytest.approx(6)
    assert [chunk.start_seconds for chunk in answer.chunks] == [0, 2, 4]
    assert {len(chunk.frame_times_seconds) for chunk in answer.chunks} == {16}
    assert any(progress.total_bytes == clip.stat().st_size for progress in received)


async def test_objects_that_others_put_into_any_bucket_are_analysed(stack, clip):
    async with Storage.open(stack.s3_endpoint, "us-east-1", ("any", "thing")) as storage:
        await storage.create_bucket("of-my-own")
        await storage.write(S3Uri("of-my-own", "clip.mp4"), clip.read_bytes(), "video/mp4")
    await analyze(stack, "s3://of-my-own/clip.mp4", output_uri="s3://videoanalysis/results/a.json")
    async with Storage.open(stack.s3_endpoint, "us-east-1", CREDENTIALS) as storage:
        assert (await storage.stat(S3Uri("videoanalysis", "results/a.json"))).size > 0


async def test_a_missing_object_is_not_found(stack):
    with pytest.raises(NotFound):
        await analyze(stack, "s3://videoanalysis/none.mp4")


async def test_settings_reach_the_services(stack, tmp_path):
    assert (stack.model.image_size, stack.model.embedding_dim) == (32, 64)
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(1_000_001))
    with pytest.raises(FailedPrecondition):
        await analyze(stack, await stack.upload(large))


async def test_the_decoder_serves_the_default_bank_of_the_encoders_model(stack):
    (decoder,) = stack.services["decoder"]
    async with connect(decoder.address) as channel:
        banks = (await DecoderServiceStub(channel).ListTextBanks(ListTextBanksRequest(), timeout=10)).text_banks
    assert [(bank.name, bank.model_digest) for bank in banks] == [("default", stack.model.digest)]


async def test_the_services_have_no_access_to_the_users_cloud(stack, users_environment):
    children = [child for children in stack.services.values() for child in children]
    assert len(children) == 4
    for child in children:
        variables = processes.environment(child.pid)
        assert (variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"]) == CREDENTIALS
        assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN"} & variables.keys()
    assert without_test_name(os.environ) == users_environment


async def test_a_process_that_ends_is_reported_and_a_stopped_stack_leaves_nothing(stack):
    async with Stack(engine="synthetic", settings=SETTINGS) as mortal:
        (encoder,) = mortal.services["encoder"]
        directory = Path(processes.environment(encoder.pid)["TMPDIR"])
        started = {pid for child in mortal.services["ingress"] for pid in processes.descendants(child.pid)}
        started |= {child.pid for children in mortal.services.values() for child in children}
        assert os.listdir(directory)
        os.kill(encoder.pid, signal.SIGKILL)
        with pytest.raises(StackError, match=rf"encoder-0 \(process {encoder.pid}\) was killed by SIGKILL"):
            await asyncio.wait_for(mortal.guard(asyncio.Event().wait()), 20)
    assert not [pid for pid in started if processes.runs(pid)]
    assert directory.name not in os.listdir(directory.parent)
    assert all(child.exit_code is None for children in stack.services.values() for child in children)


async def test_services_start_again_at_their_addresses_and_with_other_settings(clip):
    async with Stack(engine="synthetic", settings=SETTINGS) as restarted:
        first = await analyze(restarted, uri := await restarted.upload(clip))
        ((ingress,), (encoder,), (decoder,)) = restarted.services.values()
        addresses = ingress.address, encoder.address, decoder.address
        ingress.kill()
        decoder.kill()
        await asyncio.gather(
            restarted.restart(ingress),
            restarted.restart(decoder),
            # Still runs; ends at once.
            restarted.restart(encoder, synthetic_embedding_dim=96),
        )
        await restarted.provide_bank()
        again = await analyze(restarted, uri)
        assert (ingress.address, encoder.address, decoder.address) == addresses
    assert (first.model.embedding_dim, again.model.embedding_dim) == (64, 96)
    assert first.chunks[0].frame_times_seconds == again.chunks[0].frame_times_seconds


async def test_a_service_that_does_not_restart_is_reported():
    async with Stack(engine="synthetic", settings=SETTINGS) as restarted:
        (decoder,) = restarted.services["decoder"]
        with pytest.raises(StackError, match=r"(?s)decoder-0 .* ended with exit code 2; .*DECODER_MAX_BANK_BYTES"):
            await restarted.restart(decoder, max_bank_bytes="many")


async def test_a_model_that_cannot_be_served_is_reported_with_the_encoders_message(tmp_path):
    with pytest.raises(StackError, match=r"(?s)encoder-0 .* ended with exit code 2; .*no config.json"):
        async with Stack(model=str(tmp_path)):
            pass
