"""The results of a trial for services with scripted faults, and for a real service."""

import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system import system
from videoanalysis.client import AsyncClient
from videoanalysis.errors import DeadlineExceeded, InvalidInput, ServiceError, Unavailable
from videoanalysis.selftest import canaries, clips
from videoanalysis.selftest.attack import Attack
from videoanalysis.selftest.corpus import corpus
from videoanalysis.selftest.trial import Trial
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse
from videoanalysis.v1.error_reason_pb2 import ErrorReason
from videoanalysis.video_analysis import VideoAnalysis

ATTACK = Attack("cut off", "video.mp4", b"hostile")
SCRIPT = Attack("script", "script.mp4", b"hostile", must_be_refused=True)


class Service:
    """Analyses every video as one of a second, except the hostile one, for which its answer is scripted."""

    def __init__(self, answer: Callable[[], VideoAnalysis], seconds_after: float = 1.0) -> None:
        self._answer = answer
        self._seconds, self._seconds_after = 1.0, seconds_after

    async def analyze(self, uri: str, **_: Any) -> VideoAnalysis:
        if uri == "good.mp4":
            return analysis(self._seconds)
        self._seconds = self._seconds_after
        return self._answer()


def analysis(seconds: float = 1.0) -> VideoAnalysis:
    return VideoAnalysis.from_message(AnalyzeVideoResponse(video_duration_seconds=seconds))


def raises(error: ServiceError) -> Callable[[], VideoAnalysis]:
    def answer() -> VideoAnalysis:
        raise error

    return answer


async def upload(name: str, content: bytes) -> str:
    return name


@pytest.fixture
async def address() -> AsyncIterator[canaries.AddressCanary]:
    async with canaries.listening() as canary:
        yield canary


async def faults(
    service: Service, address: canaries.AddressCanary, attack: Attack = ATTACK, **more: Any
) -> tuple[str, ...]:
    (result,) = await Trial(service, upload, address, **more).run([attack])
    return result.faults


@pytest.mark.parametrize("attack", [ATTACK, SCRIPT])
async def test_a_refusal_is_no_fault(address: canaries.AddressCanary, attack: Attack) -> None:
    assert await faults(Service(raises(InvalidInput("no", reason=ErrorReason.NOT_A_VIDEO))), address, attack) == ()


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("internal error", reason=ErrorReason.INTERNAL),
        DeadlineExceeded("no answer"),
        InvalidInput("it crashed", reason=ErrorReason.DECODER_CRASHED),
    ],
)
async def test_a_bug_a_hang_and_a_crash_are_faults(address: canaries.AddressCanary, error: ServiceError) -> None:
    assert await faults(Service(raises(error)), address) == (error.message,)


async def test_an_analysis_is_a_fault_only_of_a_file_that_has_no_pictures(address: canaries.AddressCanary) -> None:
    assert await faults(Service(analysis), address) == ()
    assert await faults(Service(analysis), address, SCRIPT) == ("was analysed, although it has no pictures of its own",)


async def test_another_result_of_the_ordinary_video_is_a_fault(address: canaries.AddressCanary) -> None:
    found = await faults(Service(analysis, seconds_after=2.0), address)
    assert found == ("an ordinary video gives another result",)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_a_contact_is_a_fault_by_tcp_and_by_udp(address: canaries.AddressCanary, kind: socket.SocketKind) -> None:
    host, _, port = address.address.rpartition(":")
    with socket.socket(socket.AF_INET, kind) as caller:
        caller.connect((host, int(port)))
        caller.send(b"GET")
        await address.contacted.wait()
        assert await faults(Service(analysis), address) == ("an address in the file was contacted",)
    assert await faults(Service(analysis), address) == ()


async def test_opening_the_secret_file_is_a_fault(address: canaries.AddressCanary, tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"secret")

    def answer() -> VideoAnalysis:
        secret.read_bytes()
        return analysis()

    with canaries.watched(secret) as canary:
        assert await faults(Service(answer), address, file=canary) == ("a file named in the file was opened",)
        assert await faults(Service(analysis), address, file=canary) == ()


async def test_the_service_passes(address: canaries.AddressCanary, tmp_path: Path) -> None:
    """Scripts and references of every kind, and some of the rest, through real servers and workers."""
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(clips.clip("mp4"))

    async def put(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return f"file://{tmp_path / name}"

    async with system(tmp_path, allowed_file_roots=[tmp_path]) as running, AsyncClient(running.address) as service:
        with canaries.watched(secret) as canary:
            attacks = list(corpus(str(secret), address.address))
            scripts = {attack.family: attack for attack in attacks if attack.must_be_refused}
            others = attacks[len(attacks) // 2 :: 40]
            results = await Trial(service, put, address, canary).run([*scripts.values(), *others])
    assert [result for result in results if result.faults] == []
    assert {result.status for result in results} == {"OK", "INVALID_ARGUMENT"}
    assert len(results) > 25
