"""Workers that are killed here, or left in the middle of something, belong to a pool of the test's own."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.ingress.admission import ByteBudget
from services.ingress.sampling.frame_buffer import FrameBuffer
from services.ingress.sampling.media import WholeFile
from services.ingress.sampling.pool import SamplingPool
from services.ingress.sampling.sampled_chunk import LargestChange
from services.ingress.sampling.sampled_video import SampledVideo
from tests.ingress.sampling.samplers import (
    LIMITS,
    SPEC,
    ArrivingMedia,
    Piece,
    StalledMedia,
    check,
    next_piece,
    opened,
    rest_of,
    sample,
)
from tests.ingress.waiting import until
from tests.processes import runs
from tests.rendering import render, steady
from videoanalysis.errors import InvalidInput, Unavailable
from videoanalysis.v1.error_reason_pb2 import ErrorReason

ROOT = Path(__file__).parents[3]
SHARED_VIDEOS = ROOT.parent / "shared" / "videos"

with_shared_pool = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module")
def growing_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of small pictures, then larger ones than any worker has memory for."""
    folder = tmp_path_factory.mktemp("growing")
    small = render(folder / "small.ts", steady(25, 2))
    large = render(
        folder / "large.ts",
        steady(25, Fraction(6, 25)),
        start=2,
        width=4096,
        height=4096,
        pixel_format="yuv444p",
        draw=blank,
        options={"preset": "ultrafast", "x264-params": "bframes=0:ref=4"},
    )
    path = folder / "video.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    return path


def blank(index: int, scene: int, width: int, height: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), index, np.uint8)


@asynccontextmanager
async def opened_video(pool: SamplingPool, path: Path) -> AsyncIterator[SampledVideo]:
    with opened(path) as fd:
        async with pool.sample(WholeFile.of(fd), SPEC) as video:
            await video.open()
            yield video


async def piece_of(video: SampledVideo) -> Piece:
    piece = await next_piece(video)
    assert piece is not None
    return piece


def descriptors() -> list[str]:
    """What this process has open: paths, and kinds of what has none."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{fd}").split(":")[0])
    return sorted(found)


# ---- what it yields


@with_shared_pool
async def test_chunks_are_those_of_a_full_decode(sampling_pool: SamplingPool, five_seconds: Path) -> None:
    pieces, end = await sample(sampling_pool, five_seconds)
    check(pieces, five_seconds)
    assert len(pieces) == 5
    assert end.duration == 5
    assert end.decode_failures == 0
    assert 20 <= end.frames_decoded <= 125


@with_shared_pool
@pytest.mark.skipif(not SHARED_VIDEOS.is_dir(), reason="the folder of shared videos is not there")
@pytest.mark.parametrize("name", ["bbb_2500ms.ts", "decord_corrupted.mp4", "nasa_13013.mp4", "seabirds.avi"])
async def test_real_videos_are_sampled_like_a_full_decode(sampling_pool: SamplingPool, name: str) -> None:
    spec = replace(SPEC, frames_per_chunk=16, chunk_duration=Fraction(10), image_size=64)
    pieces, end = await sample(sampling_pool, SHARED_VIDEOS / name, spec)
    check(pieces, SHARED_VIDEOS / name, spec)
    assert end.decode_failures == (1 if name == "decord_corrupted.mp4" else 0)


@with_shared_pool
async def test_times_that_no_float_can_hold_stay_exact(sampling_pool: SamplingPool, tmp_path: Path) -> None:
    video = render(tmp_path / "video.mp4", steady(Fraction(30000, 1001), 3), codec="mpeg4")
    spec = replace(SPEC, chunk_duration=Fraction(4, 3))
    pieces, end = await sample(sampling_pool, video, spec)
    check(pieces, video, spec)
    assert end.duration == Fraction(90 * 1001, 30000)


@with_shared_pool
async def test_a_later_chunk_may_be_the_first(sampling_pool: SamplingPool, five_seconds: Path) -> None:
    for first_chunk in (1, 4, 5, 9):
        spec = replace(SPEC, first_chunk=first_chunk)
        pieces, end = await sample(sampling_pool, five_seconds, spec)
        check(pieces, five_seconds, spec)
        assert end.duration == 5


@with_shared_pool
async def test_the_containers_claim_is_known_once_it_is_open(sampling_pool: SamplingPool, five_seconds: Path) -> None:
    with opened(five_seconds) as fd:
        async with sampling_pool.sample(WholeFile.of(fd), SPEC) as video:
            assert video.claimed_duration_seconds is None
            await video.open()
            assert video.claimed_duration_seconds == pytest.approx(5)
            assert video.end is None


@with_shared_pool
async def test_after_the_end_there_is_nothing_more(sampling_pool: SamplingPool, five_seconds: Path) -> None:
    async with opened_video(sampling_pool, five_seconds) as video:
        await rest_of(video)
        assert await next_piece(video) is None


@with_shared_pool
async def test_a_file_without_a_name_will_do(sampling_pool: SamplingPool, five_seconds: Path) -> None:
    fd = os.open(five_seconds.parent, os.O_TMPFILE | os.O_RDWR, 0o600)
    with opened(five_seconds) as named:
        os.sendfile(fd, named, 0, os.fstat(named).st_size)
    async with sampling_pool.sample(WholeFile.of(fd), SPEC) as video:
        check(await rest_of(video), five_seconds)
    os.close(fd)


@with_shared_pool
async def test_a_video_is_sampled_while_it_arrives(sampling_pool: SamplingPool, five_seconds: Path) -> None:
    with closing(ArrivingMedia(five_seconds)) as media:
        async with sampling_pool.sample(media, SPEC) as video:
            await video.open()
            opened_with = list(media.fetched)
            check(await rest_of(video), five_seconds)
    assert opened_with[0][0] == 0
    assert any(end == media.size for _, end in opened_with)  # where this file has its index


@with_shared_pool
async def test_an_error_of_its_source_ends_a_video_and_no_other(
    sampling_pool: SamplingPool, five_seconds: Path
) -> None:
    def fail() -> None:
        raise Unavailable("the store does not answer")

    with closing(ArrivingMedia(five_seconds, on_fetch=fail)) as media:
        async with sampling_pool.sample(media, SPEC) as video:
            with pytest.raises(Unavailable, match="does not answer"):
                await video.open()
    check((await sample(sampling_pool, five_seconds))[0], five_seconds)


@with_shared_pool
async def test_a_buffer_of_another_size_is_a_mistake(sampling_pool: SamplingPool, five_seconds: Path) -> None:
    async with opened_video(sampling_pool, five_seconds) as video:
        buffer = await FrameBuffer.allocate(SPEC.chunk_bytes + 1, ByteBudget(1 << 20))
        with pytest.raises(ValueError, match="the buffer has 12289 bytes, a chunk 12288"):
            await video.next_chunk(buffer)
        buffer.close()


# ---- what it refuses


@with_shared_pool
async def test_a_refused_video_leaves_the_worker_to_the_next(
    sampling_pool: SamplingPool, five_seconds: Path, tmp_path: Path
) -> None:
    before = set(sampling_pool.worker_pids)
    (tmp_path / "text").write_text("no video")
    for _ in range(3):
        with pytest.raises(InvalidInput) as caught:
            await sample(sampling_pool, tmp_path / "text")
        assert (caught.value.reason, caught.value.field) == (ErrorReason.NOT_A_VIDEO, "video_uri")
        assert "/proc" not in caught.value.message
    check((await sample(sampling_pool, five_seconds))[0], five_seconds)
    assert set(sampling_pool.worker_pids) == before


@pytest.mark.parametrize("limit", [{"max_pixels": 64 * 48 - 1}, {"max_video_seconds": 4}, {"max_packets": 100}])
async def test_a_video_over_a_limit_is_refused(five_seconds: Path, limit: dict[str, int]) -> None:
    async with SamplingPool(1, replace(LIMITS, **limit)) as pool:
        with pytest.raises(InvalidInput) as caught:
            await sample(pool, five_seconds)
        assert caught.value.reason == ErrorReason.VIDEO_OVER_LIMIT


async def test_a_video_that_takes_more_memory_than_allowed_is_refused_before_it_is_decoded(five_seconds: Path) -> None:
    async with SamplingPool(1, replace(LIMITS, memory_bytes=512 << 20)) as pool:
        (pid,) = pool.worker_pids
        huge = replace(SPEC, frames_per_chunk=64, image_size=2048)  # 768 MiB of frames in a chunk
        with pytest.raises(InvalidInput, match=r"about 2\d\d\d MiB of memory, over the 768 MiB allowed") as caught:
            await sample(pool, five_seconds, huge)
        assert caught.value.reason == ErrorReason.VIDEO_OVER_LIMIT
        check((await sample(pool, five_seconds))[0], five_seconds)
        assert pool.worker_pids == [pid]


async def test_videos_of_large_pictures_share_the_memory(five_seconds: Path) -> None:
    large = replace(SPEC, frames_per_chunk=64, image_size=1024)  # takes over half of the budget, but not all
    async with SamplingPool(2, replace(LIMITS, memory_bytes=512 << 20)) as pool:
        with opened(five_seconds) as fd:
            async with pool.sample(WholeFile.of(fd), large) as first, pool.sample(WholeFile.of(fd), large) as second:
                await first.open()
                waiting = asyncio.create_task(second.open())
                assert not (await asyncio.wait([waiting], timeout=0.3))[0]
                first.close()
                await waiting


async def test_a_worker_without_memory_is_replaced_and_its_video_goes_on(five_seconds: Path) -> None:
    async with SamplingPool(1, LIMITS) as pool, opened_video(pool, five_seconds) as video:
        (pid,) = pool.worker_pids
        resource.prlimit(pid, resource.RLIMIT_AS, (1 << 20, resource.RLIM_INFINITY))
        check(await rest_of(video), five_seconds)
        assert not runs(pid)


async def test_after_a_video_that_exhausts_a_worker_fifty_others_are_sampled(
    five_seconds: Path, growing_pictures: Path
) -> None:
    async with SamplingPool(1, replace(LIMITS, memory_bytes=0, worker_bytes=220 << 20)) as pool:
        with pytest.raises(InvalidInput, match="more memory than allowed") as caught:
            await sample(pool, growing_pictures)
        assert caught.value.reason == ErrorReason.VIDEO_OVER_LIMIT
        for _ in range(50):
            pieces, _ = await sample(pool, five_seconds)
            assert len(pieces) == 5
        check(pieces, five_seconds)


# ---- workers that die


async def test_a_video_goes_on_where_its_worker_was_killed(five_seconds: Path) -> None:
    async with SamplingPool(1, LIMITS) as pool:
        for sampled_before in (0, 2, 5):
            pieces: list[Piece] = []
            async with opened_video(pool, five_seconds) as video:
                while len(pieces) < sampled_before:
                    pieces.append(await piece_of(video))
                (pid,) = pool.worker_pids
                os.kill(pid, signal.SIGKILL)
                pieces += await rest_of(video)
                assert video.end is not None
                assert video.end.duration == 5
            check(pieces, five_seconds)
            assert pid not in pool.worker_pids


async def test_so_it_does_if_it_is_killed_in_the_middle_of_a_chunk(five_seconds: Path) -> None:
    async with SamplingPool(1, LIMITS) as pool, opened_video(pool, five_seconds) as video:
        pieces = [await piece_of(video)]
        (pid,) = pool.worker_pids
        os.kill(pid, signal.SIGSTOP)
        sampling = asyncio.create_task(rest_of(video))
        await asyncio.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
        check([*pieces, *await sampling], five_seconds)


async def test_a_worker_that_hangs_is_replaced_when_its_time_is_up(five_seconds: Path) -> None:
    async with SamplingPool(1, replace(LIMITS, stall_seconds=2)) as pool, opened_video(pool, five_seconds) as video:
        pieces = [await piece_of(video)]
        (pid,) = pool.worker_pids
        os.kill(pid, signal.SIGSTOP)
        check([*pieces, *await rest_of(video)], five_seconds)
        assert not runs(pid)


async def test_the_second_death_at_the_same_video_is_the_videos_fault(five_seconds: Path) -> None:
    async with SamplingPool(1, LIMITS) as pool, opened_video(pool, five_seconds) as video:
        os.kill(pool.worker_pids[0], signal.SIGKILL)
        await next_piece(video)
        os.kill(pool.worker_pids[0], signal.SIGKILL)
        with pytest.raises(InvalidInput, match="crashed twice") as caught:
            await next_piece(video)
        assert (caught.value.reason, caught.value.field) == (ErrorReason.DECODER_CRASHED, "video_uri")


async def test_a_video_at_which_workers_hang_twice_is_over_the_limit() -> None:
    async with SamplingPool(1, replace(LIMITS, stall_seconds=1)) as pool:

        def stop_workers() -> None:
            for pid in pool.worker_pids:
                os.kill(pid, signal.SIGSTOP)

        with closing(ArrivingMedia(on_fetch=stop_workers)) as media:
            async with pool.sample(media, SPEC) as video:
                with pytest.raises(InvalidInput, match="no answer within 1 s") as caught:
                    await video.open()
        assert caught.value.reason == ErrorReason.VIDEO_OVER_LIMIT


async def test_a_video_that_uses_up_its_cpu_time_gets_no_second_worker(five_seconds: Path) -> None:
    async with SamplingPool(1, LIMITS) as pool, opened_video(pool, five_seconds) as video:
        os.kill(pool.worker_pids[0], signal.SIGXCPU)  # what the kernel sends
        with pytest.raises(InvalidInput, match="100 s of CPU time") as caught:
            await next_piece(video)
        assert caught.value.reason == ErrorReason.VIDEO_OVER_LIMIT


async def test_a_worker_that_dies_idle_is_replaced_and_no_video_is_the_worse_for_it(five_seconds: Path) -> None:
    async with SamplingPool(2, LIMITS) as pool:
        before = set(pool.worker_pids)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not any(runs(pid) for pid in before))
        check((await sample(pool, five_seconds))[0], five_seconds)
        await until(lambda: len(set(pool.worker_pids) - before) == 2)


# ---- who waits, and who leaves


@with_shared_pool
async def test_more_videos_than_workers_take_turns(sampling_pool: SamplingPool, five_seconds: Path) -> None:
    async with asyncio.TaskGroup() as tasks:
        videos = [tasks.create_task(sample(sampling_pool, five_seconds)) for _ in range(5)]
    for video in videos:
        check(video.result()[0], five_seconds)


async def test_a_video_gives_its_worker_back_when_it_is_left(five_seconds: Path) -> None:
    async with SamplingPool(1, LIMITS) as pool:
        async with opened_video(pool, five_seconds) as first:
            await rest_of(first)
        check((await sample(pool, five_seconds))[0], five_seconds)


async def test_after_its_last_chunk_a_video_still_answers_where_a_cut_is(five_seconds: Path) -> None:
    unknown = LargestChange(Fraction(1), Fraction(2), exact=False, confidence=0.5)
    async with SamplingPool(1, LIMITS) as pool, opened_video(pool, five_seconds) as video:
        await rest_of(video)
        found = await video.refine(unknown)
        assert unknown.before <= found.before < found.at <= unknown.at
        known = LargestChange(Fraction(1), Fraction(2), exact=True, confidence=0.5)
        assert await video.refine(known) is known
        for pid in pool.worker_pids:
            os.kill(pid, signal.SIGKILL)
        assert await video.refine(unknown) == unknown


async def test_one_that_leaves_while_it_waits_for_a_worker_takes_none(five_seconds: Path) -> None:
    async with SamplingPool(1, LIMITS) as pool:
        async with opened_video(pool, five_seconds) as first:
            waiting = [asyncio.create_task(sample(pool, five_seconds)) for _ in range(3)]
            await asyncio.sleep(0.02)
            waiting[0].cancel()
            await next_piece(first)
        waiting[1].cancel()  # in the moment in which its turn has come
        check((await waiting[2])[0], five_seconds)
        assert [task.cancelled() for task in waiting] == [True, True, False]


async def leave_while_opening(pool: SamplingPool, path: Path, about_to_wait: Callable[[], None]) -> None:
    with closing(StalledMedia()) as media:
        async with pool.sample(media, SPEC) as video:
            about_to_wait()
            await video.open()


async def leave_in_the_middle_of_a_chunk(pool: SamplingPool, path: Path, about_to_wait: Callable[[], None]) -> None:
    async with opened_video(pool, path) as video:
        await next_piece(video)
        os.kill(pool.worker_pids[0], signal.SIGSTOP)
        about_to_wait()
        await next_piece(video)


@pytest.mark.parametrize("leave", [leave_while_opening, leave_in_the_middle_of_a_chunk])
async def test_a_caller_that_leaves_frees_worker_descriptors_and_memory(
    five_seconds: Path, leave: Callable[[SamplingPool, Path, Callable[[], None]], Coroutine[None, None, None]]
) -> None:
    async with SamplingPool(1, LIMITS) as pool:
        (pid,) = pool.worker_pids
        descriptors_before, tasks_before = descriptors(), asyncio.all_tasks()
        waits = asyncio.Event()
        caller = asyncio.create_task(leave(pool, five_seconds, waits.set))
        await waits.wait()
        await asyncio.sleep(0.02)
        assert runs(pid)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await until(lambda: not runs(pid), seconds=1)
        assert asyncio.all_tasks() == tasks_before
        assert not any("memfd" in name for name in descriptors())
        check((await sample(pool, five_seconds))[0], five_seconds)
        assert descriptors() == descriptors_before


# ---- the pool as a whole


async def test_workers_run_on_entering_and_have_ended_on_leaving() -> None:
    descriptors_before, tasks_before = descriptors(), asyncio.all_tasks()
    async with SamplingPool(2, LIMITS) as pool:
        pids = pool.worker_pids
        assert len(set(pids)) == 2
        assert all(runs(pid) for pid in pids)
    assert not any(runs(pid) for pid in pids)
    assert pool.worker_pids == []
    assert descriptors() == descriptors_before
    assert asyncio.all_tasks() == tasks_before


async def test_leaving_while_a_worker_is_being_replaced_leaves_nothing_behind() -> None:
    descriptors_before = descriptors()
    async with SamplingPool(1, LIMITS) as pool:
        (old,) = pool.worker_pids
        os.kill(old, signal.SIGKILL)
        await until(lambda: pool.worker_pids not in ([], [old]))
        (new,) = pool.worker_pids
    assert not runs(new)
    assert descriptors() == descriptors_before


async def test_videos_in_progress_and_in_line_end_with_the_pool(five_seconds: Path) -> None:
    pool = await SamplingPool(1, LIMITS).__aenter__()
    with closing(StalledMedia()) as media:
        async with pool.sample(media, SPEC) as in_progress, pool.sample(media, SPEC) as in_line:
            opening = [asyncio.create_task(video.open()) for video in (in_progress, in_line)]
            await asyncio.sleep(0.02)
            await pool.__aexit__()
            for video in opening:
                with pytest.raises(Unavailable, match="shutting down"):
                    await video


async def test_a_pool_whose_workers_do_not_start_cannot_be_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors_before = descriptors()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Unavailable, match="did not start"):
        await SamplingPool(2, LIMITS).__aenter__()
    assert descriptors() == descriptors_before


async def test_workers_end_with_their_parent_even_in_the_middle_of_something() -> None:
    program = """
        import asyncio, os
        from services.ingress.sampling.pool import SamplingPool
        from tests.ingress.sampling.samplers import LIMITS, SPEC, StalledMedia

        async def main():
            async with SamplingPool(2, LIMITS) as pool, pool.sample(StalledMedia(), SPEC) as video:
                print(*pool.worker_pids, flush=True)
                await video.open()

        asyncio.run(main())
    """
    parent = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", "\n".join(line.removeprefix(" " * 8) for line in program.splitlines())],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in (await parent.stdout.readline()).split()]
    assert [runs(pid) for pid in pids] == [True, True]
    parent.kill()
    await parent.wait()
    await until(lambda: not any(runs(pid) for pid in pids))


def test_the_media_library_is_not_loaded_outside_of_workers() -> None:
    program = "import sys, services.ingress.sampling.pool; print('av' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert ended.stdout == "False\n"
