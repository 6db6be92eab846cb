"""What the process in which media is opened can do, and what a hostile file can make it do."""

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from services.ingress.sampling.media import WholeFile
from services.ingress.sampling.pool import SamplingPool
from services.ingress.sampling.sampled_video import WorkerLimits
from tests.ingress.sampling.opened_files import files_opened_in
from tests.ingress.sampling.samplers import LIMITS, SPEC, check, next_piece, opened, sample
from tests.ingress.waiting import until
from tests.processes import environment
from tests.rendering import remux, render, steady
from videoanalysis.errors import InvalidInput
from videoanalysis.v1.error_reason_pb2 import ErrorReason

VARIABLES = {"PATH", "PYTHONPATH", "LC_ALL", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX"}

pytestmark = pytest.mark.asyncio(loop_scope="session")


def limits_of(pid: int) -> dict[str, str]:
    """The soft limits of a process."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines]
    return {row[0]: row[1] for row in rows}


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def held(pid: int, name: str) -> int:
    """How many descriptors and mappings a process has of files with `name` in their path."""
    targets = [os.path.realpath(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return sum(name in target for target in [*targets, *maps])


async def until_released(pool: SamplingPool, path: Path) -> None:
    """Wait until no worker holds the video or any frame memory."""
    names = (path.name, "memfd:frames")
    await until(lambda: not any(held(pid, name) for pid in pool.worker_pids for name in names))


def answers_to(requests: list[tuple[dict, int]], limits: WorkerLimits) -> list[dict]:
    """All that a worker sends after it is ready; each request is accompanied by a file."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [
        sys.executable,
        "-m",
        "services.ingress.sampling.worker",
        str(theirs.fileno()),
        json.dumps(asdict(limits)),
    ]
    with ours, subprocess.Popen(command, pass_fds=[theirs.fileno()]) as worker:
        theirs.close()
        for request, fd in requests:
            socket.send_fds(ours, [json.dumps(request).encode()], [fd])
        ours.shutdown(socket.SHUT_WR)
        messages = []
        while message := ours.recv(1 << 18):
            messages.append(json.loads(message))
        assert worker.wait() == 0
        return messages[1:]


async def test_it_reports_progress_while_it_decodes_a_long_chunk(five_seconds: Path) -> None:
    size = await asyncio.to_thread(os.path.getsize, five_seconds)
    spec = {
        "media_bytes": size,
        "media_complete": True,
        "frames_per_chunk": 1,
        "chunk_duration": [600, 1],
        "image_size": 32,
        "tolerance": [0, 1],
        "reuse_difference": 0.0,
        "first_chunk": 0,
        "frames_searched": 0,
        "decode_all": False,
        "detect_cuts": True,
        "threads": 1,
        "start": [0, 1],
        "end": None,
    }
    with opened(five_seconds) as fd, os.fdopen(os.memfd_create("frames"), "wb") as frames:
        os.truncate(frames.fileno(), 32 * 32 * 3)
        requests = [({"open": spec}, fd), ({"next": True}, frames.fileno())]
        opening, *rest = await asyncio.to_thread(answers_to, requests, replace(LIMITS, stall_seconds=0))
    assert opening.keys() == {"opened"}
    *progress, chunk = rest
    assert chunk["chunk"]["index"] == 0
    assert len(progress) >= 5 * 25  # one for each packet
    assert all(message == {"progress": True} for message in progress)


# ---- what it has


async def test_it_has_no_credentials(sampling_pool: SamplingPool) -> None:
    for pid in sampling_pool.worker_pids:
        assert set(environment(pid)) == VARIABLES


async def test_it_is_confined_before_the_first_video() -> None:
    async with SamplingPool(1, LIMITS) as pool:
        (pid,) = pool.worker_pids
        limits = limits_of(pid)
        assert limits["Max file size"] == "0"
        assert limits["Max core file size"] == "0"
        assert int(limits["Max open files"]) <= 64
        assert status_of(pid)["NoNewPrivs"] == "1"
        assert os.readlink(f"/proc/{pid}/cwd") == "/"


async def test_its_address_space_is_limited_to_what_the_video_needs(
    sampling_pool: SamplingPool, five_seconds: Path
) -> None:
    await sample(sampling_pool, five_seconds)
    limits = [limits_of(pid)["Max address space"] for pid in sampling_pool.worker_pids]
    idle = 600 << 20  # at most
    assert all(
        LIMITS.worker_bytes < int(limit) < LIMITS.worker_bytes + idle for limit in limits if limit != "unlimited"
    )
    assert set(limits) != {"unlimited"}


async def test_its_cpu_time_is_limited_for_each_video(sampling_pool: SamplingPool, five_seconds: Path) -> None:
    for _ in range(4):
        await sample(sampling_pool, five_seconds)
    limits = [limits_of(pid)["Max cpu time"] for pid in sampling_pool.worker_pids]
    seconds = [int(limit) for limit in limits if limit != "unlimited"]  # of those that have had a video
    used_so_far = 60  # at most, by far
    assert seconds
    assert all(LIMITS.cpu_seconds < limit < LIMITS.cpu_seconds + used_so_far for limit in seconds)


async def test_it_keeps_no_thread_of_a_video(sampling_pool: SamplingPool, five_seconds: Path) -> None:
    await sample(sampling_pool, five_seconds)
    # Those that decode end with the video, which the worker closes after its last answer.
    await until(lambda: all(status_of(pid)["Threads"] == "1" for pid in sampling_pool.worker_pids))


# ---- what it keeps


async def test_between_videos_it_holds_neither_media_nor_frames(
    sampling_pool: SamplingPool, five_seconds: Path
) -> None:
    await sample(sampling_pool, five_seconds)
    await until_released(sampling_pool, five_seconds)


async def test_nor_after_a_video_that_its_caller_left_between_two_chunks(
    sampling_pool: SamplingPool, five_seconds: Path
) -> None:
    with opened(five_seconds) as fd:
        async with sampling_pool.sample(WholeFile.of(fd), SPEC) as video:
            await next_piece(video)
            assert sum(held(pid, five_seconds.name) for pid in sampling_pool.worker_pids) >= 1
    await until_released(sampling_pool, five_seconds)


async def test_nor_after_a_video_that_was_refused_in_the_middle(sampling_pool: SamplingPool, tmp_path: Path) -> None:
    options = {"g": "1000", "cpu-used": "8", "deadline": "realtime", "error-resilient": "1"}
    whole = render(tmp_path / "whole.webm", steady(25, 4), codec="libvpx-vp9", options=options)
    video = remux(tmp_path / "damaged.webm", whole, damaged=range(50, 100))
    with pytest.raises(InvalidInput) as caught:
        await sample(sampling_pool, video)
    assert caught.value.reason == ErrorReason.TOO_MANY_DECODE_FAILURES
    await until_released(sampling_pool, video)


# ---- what a hostile file makes it do

PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"
MASTER_PLAYLIST = '#EXTM3U\n#EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID="a",URI="{0}"\n#EXT-X-STREAM-INF:BANDWIDTH=9\n{0}\n'
ENCRYPTED_PLAYLIST = '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{0}"\n#EXTINF:9,\n{0}\n#EXT-X-ENDLIST\n'
CONCAT = "ffconcat version 1.0\nfile '{}'\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT9S">'
    "<Period><AdaptationSet><Representation id='1' bandwidth='1' mimeType='video/mp2t'><BaseURL>{}</BaseURL>"
    "<SegmentList><SegmentURL media='{}'/></SegmentList></Representation></AdaptationSet></Period></MPD>"
)
SESSION = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\na=control:{}\nm=video 9 RTP/AVP 96\n"
SCRIPTS = {
    "playlist": PLAYLIST,
    "master playlist": MASTER_PLAYLIST,
    "playlist with a key": ENCRYPTED_PLAYLIST,
    "concat script": CONCAT,
    "DASH manifest": DASH,
    "session description": SESSION,
    "Windows shortcut to media": "[Reference]\nRef1={}\n",
    "RealMedia link": "<smil><body><video src='{}'/></body></smil>",
}


async def refused(pool: SamplingPool, path: Path) -> str:
    with pytest.raises(InvalidInput) as caught:
        await sample(pool, path)
    return caught.value.reason


@pytest.mark.parametrize("disguise", ["video.mp4", "video.m3u8", "video"])
@pytest.mark.parametrize("script", SCRIPTS)
async def test_a_script_that_names_another_file_opens_none(
    sampling_pool: SamplingPool, five_seconds: Path, tmp_path: Path, script: str, disguise: str
) -> None:
    (tmp_path / "canaries").mkdir()
    canary = tmp_path / "canaries" / "canary.ts"
    shutil.copy(five_seconds, canary)
    names = [str(canary), f"file:{canary}", f"file://{canary}", f"../../..{canary}", "canary.ts"]
    with files_opened_in(canary.parent) as opened_there:
        for name in names:
            (tmp_path / disguise).write_text(SCRIPTS[script].format(name, name))
            assert await refused(sampling_pool, tmp_path / disguise) == ErrorReason.NOT_A_VIDEO
    assert opened_there == set()


@pytest.mark.parametrize("script", SCRIPTS)
async def test_a_script_cannot_name_descriptors_of_the_worker(
    sampling_pool: SamplingPool, tmp_path: Path, script: str
) -> None:
    for fd in range(10):
        (tmp_path / "video.mp4").write_text(SCRIPTS[script].format(fd, f"pipe:{fd}"))
        assert await refused(sampling_pool, tmp_path / "video.mp4") == ErrorReason.NOT_A_VIDEO


@pytest.mark.parametrize("script", SCRIPTS)
async def test_a_script_that_names_an_address_contacts_no_server(
    sampling_pool: SamplingPool, tmp_path: Path, script: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        for scheme in ("http", "tcp", "rtsp", "ftp"):
            address = f"{scheme}://127.0.0.1:{server.getsockname()[1]}/canary.ts"
            (tmp_path / "video.mp4").write_text(SCRIPTS[script].format(address, address))
            assert await refused(sampling_pool, tmp_path / "video.mp4") == ErrorReason.NOT_A_VIDEO
        with pytest.raises(BlockingIOError):
            server.accept()


def damaged_copies(path: Path, folder: Path) -> Iterator[Path]:
    content = path.read_bytes()
    for place in range(0, len(content), len(content) // 60):
        copy = folder / f"{place}"
        copy.write_bytes(content[:place] + b"\xff\xff\xff\xff" + content[place + 4 :])
        yield copy


async def test_damaged_files_of_every_kind_are_sampled_or_refused_by_one_and_the_same_worker(
    sampling_pool: SamplingPool, five_seconds: Path, tmp_path: Path
) -> None:
    before = set(sampling_pool.worker_pids)
    for video in damaged_copies(five_seconds, tmp_path):
        with suppress(InvalidInput):
            await sample(sampling_pool, video)
    assert set(sampling_pool.worker_pids) == before
    check((await sample(sampling_pool, five_seconds))[0], five_seconds)
