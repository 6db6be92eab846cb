import gc
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from services.ingress.sampling.limits import SamplingLimits
from services.ingress.sampling.media_reader import MediaFile
from services.ingress.sampling.sampled_chunk import SampledChunk
from services.ingress.sampling.sampler import Sampler
from services.ingress.sampling.video_file import VideoFile
from tests.ingress.sampling import oracle
from tests.ingress.sampling.opened_files import files_opened_in
from tests.rendering import calm_picture, remux, render, steady, uneven
from videoanalysis.errors import InvalidInput
from videoanalysis.v1.error_reason_pb2 import ErrorReason

SHARED_VIDEOS = Path(__file__).parents[4] / "shared" / "videos"
REAL_VIDEOS = sorted(path.name for path in SHARED_VIDEOS.glob("*.*") if path.suffix not in {".md", ".json"})
SIZE = 32
LIMITS = SamplingLimits()


@dataclass(frozen=True)
class Sampled:
    chunks: list[SampledChunk]
    pixels: list[NDArray[np.uint8]]
    duration: Fraction
    decode_failures: int
    frames_decoded: int
    claimed_duration_seconds: float | None

    @property
    def frame_times(self) -> list[tuple[Fraction, ...]]:
        return [chunk.frame_times for chunk in self.chunks]


def sample(
    path: Path,
    frames: int = 4,
    chunk: Fraction | int = 1,
    size: int = SIZE,
    limits: SamplingLimits = LIMITS,
    first_chunk: int = 0,
    start: Fraction = Fraction(0),
    end: Fraction | None = None,
    media: MediaFile | None = None,
) -> Sampled:
    out = np.zeros((frames, size, size, 3), np.uint8)
    chunks, pixels = [], []
    with Sampler(
        media or str(path),
        frames_per_chunk=frames,
        chunk_duration=Fraction(chunk),
        image_size=size,
        limits=limits,
        first_chunk=first_chunk,
        start=start,
        end=end,
    ) as sampler:
        while (sampled := sampler.next_chunk(out)) is not None:
            chunks.append(sampled)
            pixels.append(out[list(sampled.frame_indices)])
        return Sampled(
            chunks,
            pixels,
            sampler.duration,
            sampler.decode_failures,
            sampler.frames_decoded,
            sampler.claimed_duration_seconds,
        )


def check_against_full_decode(path: Path, frames: int = 4, chunk: Fraction | int = 1, size: int = SIZE) -> Sampled:
    sampled = sample(path, frames, chunk, size)
    expected = oracle.expected(path, frames, Fraction(chunk), size)
    assert [(c.index, c.start, c.duration) for c in sampled.chunks] == [
        (index, c.start, c.duration) for index, c in enumerate(expected.chunks)
    ]
    assert sampled.frame_times == [c.frame_times for c in expected.chunks]
    assert all(np.array_equal(ours, c.pixels) for ours, c in zip(sampled.pixels, expected.chunks, strict=True))
    assert sampled.duration == expected.duration
    return sampled


def noise_picture(index: int, scene: int, width: int, height: int) -> NDArray[np.uint8]:
    """So that a video is mostly pictures, not container."""
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)


def refusal(path: Path, **arguments: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        sample(path, **arguments)
    error = caught.value
    assert error.field == "video_uri"
    assert str(path) not in error.message
    assert error.message.endswith(".")
    return error


# ---- every kind of stream

RATES = {
    **{str(rate): Fraction(rate) for rate in (12, 15, 24, 25, 30, 50, 60)},
    "23.976": Fraction(24000, 1001),
    "29.97": Fraction(30000, 1001),
}
OPEN_GOP = {"x264-params": "open-gop=1:keyint=20:bframes=3:scenecut=0"}
X265 = "keyint=20:bframes=3:log-level=none"

CLIPS: dict[str, tuple[list[Fraction], dict[str, Any]]] = {
    **{f"h264_{name}fps.mp4": (steady(rate, 5.3), {}) for name, rate in RATES.items()},
    **{
        f"h264_{name}fps_no_b_frames.mp4": (steady(rate, 4.3), {"options": {"bf": "0", "g": "20", "sc_threshold": "0"}})
        for name, rate in RATES.items()
    },
    "variable_rate.mp4": (uneven(5), {"options": {"g": "30"}}),
    "variable_rate.mkv": (uneven(5), {}),
    "starts_at_3.6.mkv": (steady(25, 5), {"start": Fraction(18, 5)}),
    "starts_at_3.6.mp4": (steady(25, 5), {"start": Fraction(18, 5)}),
    "starts_at_3.6.ts": (steady(25, 5), {"start": Fraction(18, 5)}),
    "open_gop.mp4": (steady(25, 8), {"options": OPEN_GOP}),
    "open_gop.mkv": (steady(25, 8), {"options": OPEN_GOP}),
    "open_gop.ts": (steady(25, 8), {"options": OPEN_GOP}),
    "pyramid.mp4": (steady(30, 6), {"options": {"x264-params": "keyint=30:bframes=8:b-pyramid=normal:b-adapt=0"}}),
    "intra_refresh.mp4": (
        steady(25, 6),
        {"options": {"x264-params": "intra-refresh=1:keyint=20:bframes=2:scenecut=0"}},
    ),
    "intra_refresh.ts": (steady(25, 6), {"options": {"x264-params": "intra-refresh=1:keyint=20:bframes=2:scenecut=0"}}),
    "interlaced.ts": (steady(25, 5), {"options": {"x264-params": "tff=1:keyint=20:bframes=2"}}),
    "fragmented.mp4": (steady(25, 5), {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    "packets_without_pts.avi": (steady(25, 5.3), {}),
    "h264.flv": (steady(25, 5), {}),
    "hevc_open_gop.mp4": (steady(25, 6), {"codec": "libx265", "options": {"x265-params": X265}}),
    "hevc_open_gop.ts": (steady(25, 6), {"codec": "libx265", "options": {"x265-params": X265}}),
    "hevc_closed_gop.mkv": (steady(25, 6), {"codec": "libx265", "options": {"x265-params": X265 + ":open-gop=0"}}),
    "hevc_temporal_layers.mp4": (
        steady(25, 6),
        {"codec": "libx265", "options": {"x265-params": X265 + ":temporal-layers=3:b-adapt=0"}},
    ),
    "vp9.webm": (
        steady(25, 5),
        {"codec": "libvpx-vp9", "options": {"g": "15", "cpu-used": "8", "deadline": "realtime"}},
    ),
    "vp9_hidden_frames.webm": (
        steady(25, 5),
        {"codec": "libvpx-vp9", "options": {"g": "30", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16"}},
    ),
    "vp8_hidden_frames.webm": (
        steady(25, 5),
        {"codec": "libvpx", "options": {"g": "30", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16"}},
    ),
    "av1.mkv": (steady(25, 5), {"codec": "libsvtav1", "height": 64, "options": {"preset": "12", "g": "20"}}),
    "mpeg4.avi": (steady(25, 5), {"codec": "mpeg4"}),
    "mpeg4_b_frames.avi": (steady(25, 5), {"codec": "mpeg4", "options": {"bf": "2"}}),
    "mpeg2.ts": (steady(25, 5), {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}}),
    "mpeg2.mpg": (steady(25, 5), {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}}),
    "mjpeg.avi": (steady(25, 5), {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
    "wmv2.asf": (steady(25, 5), {"codec": "wmv2"}),
    "flv1_without_last_duration.flv": (steady(25, 5), {"codec": "flv"}),
    "animation.gif": (steady(10, 3), {"codec": "gif", "pixel_format": "rgb8"}),
    "ten_bit.mov": (steady(25, 2), {"codec": "prores_ks", "pixel_format": "yuv422p10le"}),
    "odd_size.mkv": (steady(25, 2), {"codec": "ffv1", "width": 67, "height": 45, "pixel_format": "yuv444p"}),
    "one_frame.mp4": (steady(25, 0.04), {}),
    "one_frame.mkv": (steady(25, 0.04), {}),
    "two_frames.mp4": (steady(25, 0.08), {}),
}


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("clips")

    def rendered(name: str) -> Path:
        times, how = CLIPS[name]
        return folder / name if (folder / name).exists() else render(folder / name, times, **how)

    return rendered


@pytest.mark.parametrize("name", CLIPS)
def test_samples_are_those_of_a_full_decode_bit_for_bit(clip: Callable[[str], Path], name: str) -> None:
    check_against_full_decode(clip(name), frames=4, chunk=1)
    check_against_full_decode(clip(name), frames=16, chunk=10)
    check_against_full_decode(clip(name), frames=3, chunk=Fraction(5, 2))


@pytest.mark.parametrize("frames", [1, 7, 64])
@pytest.mark.parametrize("chunk", ["1", "4/3", "2.6", "600"])
def test_any_chunk_duration_and_count_will_do(clip: Callable[[str], Path], frames: int, chunk: str) -> None:
    check_against_full_decode(clip("variable_rate.mp4"), frames, Fraction(chunk))


@pytest.mark.skipif(not SHARED_VIDEOS.is_dir(), reason="the folder of shared videos is not there")
@pytest.mark.parametrize("name", REAL_VIDEOS)
def test_real_videos_are_sampled_without_error(name: str) -> None:
    path = SHARED_VIDEOS / name
    expected_refusals = {
        "nasa_13013_audio_only.mp3": ErrorReason.NO_VIDEO_STREAM,
        "vp9_invalid_bitstream.webm": ErrorReason.TOO_MANY_DECODE_FAILURES,
    }
    if name in expected_refusals:
        assert refusal(path).reason == expected_refusals[name]
    else:
        check_against_full_decode(path, frames=16, chunk=10, size=64)
        sampled = check_against_full_decode(path, frames=5, chunk=1)
        assert sampled.decode_failures == (1 if name == "decord_corrupted.mp4" else 0)


# ---- ranges

RANGES = [("1.7", "3.9"), ("3", None), ("0.02", "1"), ("2.2", "60"), ("0", "2.3")]


def check_range(path: Path, start: str, end: str | None, frames: int = 4, chunk: Fraction | int = 1) -> Sampled:
    first, last = Fraction(start), Fraction(end) if end else None
    sampled = sample(path, frames, chunk, start=first, end=last)
    expected = oracle.expected(path, frames, Fraction(chunk), SIZE, first, last)
    assert [(c.index, c.start, c.duration) for c in sampled.chunks] == [
        (index, c.start, c.duration) for index, c in enumerate(expected.chunks)
    ]
    assert sampled.frame_times == [c.frame_times for c in expected.chunks]
    assert all(np.array_equal(ours, c.pixels) for ours, c in zip(sampled.pixels, expected.chunks, strict=True))
    assert sampled.duration == expected.duration
    return sampled


@pytest.mark.parametrize("name", [name for name in CLIPS if "fps" not in name and "_frame" not in name])
def test_a_range_is_sampled_as_in_a_full_decode_with_the_times_of_the_whole(
    clip: Callable[[str], Path], name: str
) -> None:
    for start, end in RANGES:
        if Fraction(start) < oracle.expected(clip(name), 4, Fraction(1), SIZE).duration:
            check_range(clip(name), start, end)


@pytest.mark.parametrize("rate", RATES)
def test_a_range_starts_between_frames_at_any_rate(clip: Callable[[str], Path], rate: str) -> None:
    check_range(clip(f"h264_{rate}fps.mp4"), "1.234", "3.21", frames=16, chunk=10)
    check_range(clip(f"h264_{rate}fps.mp4"), "0.999", "4.2", frames=5, chunk=1)


@pytest.mark.skipif(not SHARED_VIDEOS.is_dir(), reason="the folder of shared videos is not there")
@pytest.mark.parametrize("name", ["nasa_13013_audio_only.mp3", "decord_corrupted.mp4"])
def test_damage_outside_a_range_does_not_matter_to_it(name: str) -> None:
    if name.endswith("mp3"):
        assert refusal(SHARED_VIDEOS / name, start=Fraction(2)).reason == ErrorReason.NO_VIDEO_STREAM
    else:
        check_range(SHARED_VIDEOS / name, "1", "2")


def test_a_range_is_read_and_decoded_alone(tmp_path: Path) -> None:
    for suffix in ("mp4", "mkv"):
        video = render(tmp_path / f"video.{suffix}", steady(25, 120), options=SHORT_GROUPS, draw=noise_picture)
        whole = sample(video)
        read: list[tuple[int, int]] = []

        def fetch(start: int, end: int, read: list[tuple[int, int]] = read) -> int:
            read.append((start, end))
            return end

        with video.open("rb") as file:
            media = MediaFile(file.fileno(), video.stat().st_size, fetch)
            part = sample(video, start=Fraction(100), end=Fraction(104), media=media)
        assert part.frame_times == whole.frame_times[100:104]
        assert part.frames_decoded <= whole.frames_decoded / 20
        assert sum(end - start for start, end in read) < video.stat().st_size / 8


SHORT_GROUPS = {"g": "25", "sc_threshold": "0"}
WITHOUT_INDEX: dict[str, dict[str, Any]] = {
    "h264.ts": {"options": SHORT_GROUPS},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}},
    "vp8.ogg": {"codec": "libvpx", "options": {"g": "25", "deadline": "realtime", "cpu-used": "8"}},
}


@pytest.mark.parametrize("name", WITHOUT_INDEX)
def test_without_an_index_a_range_is_decoded_alone(tmp_path: Path, name: str) -> None:
    video = render(tmp_path / name, steady(25, 30), draw=noise_picture, **WITHOUT_INDEX[name])
    whole = sample(video)
    part = sample(video, start=Fraction(20), end=Fraction(24))
    assert part.frame_times == whole.frame_times[20:24]
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(part.pixels, whole.pixels[20:24], strict=True))
    assert part.frames_decoded <= whole.frames_decoded / 4


# Where the clock of the second of two parts of 6 s starts, in seconds. That of the first one starts at 10 s.
@pytest.mark.parametrize("second", [10, 12, 40, 1000])
@pytest.mark.parametrize(("start", "end"), [(2, 4), (5, 8), (7, 10)])
def test_a_range_is_where_it_is_in_the_whole_though_the_clock_jumps(
    tmp_path: Path, second: int, start: int, end: int
) -> None:
    parts = [
        render(tmp_path / f"{clock}_{color}.ts", steady(25, 6), start=clock, cuts=[-1] * color, options=SHORT_GROUPS)
        for color, clock in enumerate((10, second))
    ]
    video = tmp_path / "video.ts"
    video.write_bytes(b"".join(part.read_bytes() for part in parts))
    whole = sample(video)
    assert len(whole.chunks) == 12
    part = sample(video, start=Fraction(start), end=Fraction(end))
    assert part.frame_times == whole.frame_times[start:end]
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(part.pixels, whole.pixels[start:end], strict=True))


@pytest.mark.parametrize("name", ["h264_25fps.mp4", "mpeg2.ts", "open_gop.mkv", "packets_without_pts.avi"])
@pytest.mark.parametrize("start", ["duration", "duration + 1", "500000"])
def test_a_range_beyond_the_end_is_refused_with_the_true_duration(
    clip: Callable[[str], Path], name: str, start: str
) -> None:
    duration = oracle.expected(clip(name), 4, Fraction(1), SIZE).duration
    seconds = {"duration": duration, "duration + 1": duration + 1, "500000": Fraction(500000)}[start]
    with pytest.raises(InvalidInput, match=f"end of the video, at {float(duration):g}") as caught:
        sample(clip(name), start=seconds, end=seconds + 1)
    assert (caught.value.reason, caught.value.field) == (ErrorReason.RANGE_BEYOND_END, "start_seconds")


@pytest.mark.parametrize("name", ["h264_25fps.mp4", "mpeg2.ts"])
def test_a_resumed_range_goes_on_behind_its_chunks(clip: Callable[[str], Path], name: str) -> None:
    whole = sample(clip(name), start=Fraction(1, 2), end=Fraction(9, 2))
    rest = sample(clip(name), start=Fraction(1, 2), end=Fraction(9, 2), first_chunk=2)
    assert [(c.index, c.start) for c in rest.chunks] == [(2, Fraction(5, 2)), (3, Fraction(7, 2))]
    assert rest.frame_times == whole.frame_times[2:]


# ---- the video's end


@pytest.mark.parametrize(
    ("frames", "durations"),
    [
        (2, ["0.04"]),
        (24, ["0.48"]),
        (100, ["2"]),
        (101, ["2.02"]),
        (124, ["2.48"]),
        (125, ["2", "0.5"]),
        (126, ["2", "0.52"]),
        (199, ["2", "1.98"]),
        (224, ["2", "2.48"]),
    ],
)
def test_only_a_last_piece_of_half_a_second_is_a_chunk_of_its_own(
    tmp_path: Path, frames: int, durations: list[str]
) -> None:
    video = render(tmp_path / "video.mkv", steady(50, Fraction(frames, 50)))
    sampled = check_against_full_decode(video, chunk=2)
    assert [chunk.duration for chunk in sampled.chunks] == [Fraction(duration) for duration in durations]


def test_a_frame_that_lasts_for_several_chunks_fills_them(tmp_path: Path) -> None:
    times = [*steady(25, 1), Fraction(5), Fraction(12)]
    sampled = check_against_full_decode(render(tmp_path / "video.mkv", times), chunk=1)
    assert sampled.frame_times[3] == (Fraction(24, 25),) * 4
    assert len(sampled.chunks) == 12


def test_so_does_the_last_frame(tmp_path: Path) -> None:
    video = render(tmp_path / "video.mp4", [*steady(25, 2), Fraction(2)], last=Fraction(5), codec="mpeg4")
    sampled = check_against_full_decode(video, chunk=1)
    assert sampled.frame_times[2:] == [(Fraction(2),) * 4] * 5


def test_the_containers_duration_is_known_before_the_first_chunk(clip: Callable[[str], Path]) -> None:
    assert sample(clip("h264_25fps.mp4")).claimed_duration_seconds == pytest.approx(5.28, abs=0.1)


def test_duration_is_unknown_before_the_end(clip: Callable[[str], Path]) -> None:
    with (
        Sampler(
            str(clip("h264_25fps.mp4")),
            frames_per_chunk=4,
            chunk_duration=Fraction(1),
            image_size=SIZE,
            limits=LIMITS,
        ) as sampler,
        pytest.raises(ValueError, match="end of the video"),
    ):
        _ = sampler.duration


# ---- what is left out


def test_pictures_that_nothing_refers_to_are_left_out(clip: Callable[[str], Path]) -> None:
    sampled = sample(clip("pyramid.mp4"), frames=4, chunk=10)
    assert sampled.frames_decoded < 0.5 * 180


def test_what_follows_the_last_wanted_frame_of_a_group_is_left_out(clip: Callable[[str], Path]) -> None:
    sampled = sample(clip("h264_50fps_no_b_frames.mp4"), frames=3, chunk=10)
    assert sampled.frames_decoded < 0.6 * 215


@pytest.mark.parametrize(
    ("name", "entry_points"),
    [
        ("intra_refresh.mp4", 1),  # its later key pictures go on being repaired from the pictures before
        ("intra_refresh.ts", 1),
        ("open_gop.mp4", 1),  # no IDR after the first
        ("h264_25fps_no_b_frames.mp4", 6),
        ("hevc_open_gop.mp4", 8),
        ("mjpeg.avi", 125),
    ],
)
def test_decoding_can_start_afresh_only_where_nothing_older_is_needed(
    clip: Callable[[str], Path], name: str, entry_points: int
) -> None:
    with VideoFile(str(clip(name)), max_pixels=LIMITS.max_pixels, max_packets=LIMITS.max_packets) as video:
        assert sum(packet.entry_point for packet in video.packets()) == entry_points


@pytest.mark.parametrize(
    "name",
    [
        "h264_29.97fps.mp4",
        "h264_25fps_no_b_frames.mp4",
        "open_gop.ts",
        "vp9_hidden_frames.webm",
        "flv1_without_last_duration.flv",
    ],
)
def test_the_first_chunks_can_be_passed_over(clip: Callable[[str], Path], name: str) -> None:
    whole = sample(clip(name))
    for first_chunk in range(1, len(whole.chunks) + 2):
        rest = sample(clip(name), first_chunk=first_chunk)
        # Of what lies between the chunks passed over and the first one nothing is known.
        expected = [
            replace(chunk, largest_changes=(None, *chunk.largest_changes[1:]))
            for chunk in whole.chunks[first_chunk:][:1]
        ]
        assert rest.chunks == expected + whole.chunks[first_chunk + 1 :]
        assert all(np.array_equal(a, b) for a, b in zip(rest.pixels, whole.pixels[first_chunk:], strict=True))
        assert rest.duration == whole.duration


def test_with_too_many_bytes_to_read_ahead_every_frame_is_decoded(clip: Callable[[str], Path]) -> None:
    path = clip("h264_25fps.mp4")
    frugal = sample(path, limits=replace(LIMITS, max_bytes_ahead=1000))
    usual = sample(path)
    assert frugal.frame_times == usual.frame_times
    assert all(np.array_equal(a, b) for a, b in zip(frugal.pixels, usual.pixels, strict=True))
    assert frugal.frames_decoded > 132


def test_decoded_frames_are_freed_without_the_garbage_collector(clip: Callable[[str], Path]) -> None:
    def decoded_frames() -> int:
        return sum(isinstance(alive, av.VideoFrame) and alive.width == 64 for alive in gc.get_objects())

    out = np.zeros((4, SIZE, SIZE, 3), np.uint8)
    gc.collect()
    gc.disable()
    try:
        with Sampler(
            str(clip("pyramid.mp4")), frames_per_chunk=4, chunk_duration=Fraction(1), image_size=SIZE, limits=LIMITS
        ) as sampler:
            while sampler.next_chunk(out) is not None:
                assert decoded_frames() <= 5
    finally:
        gc.enable()


# ---- more than one thread


@pytest.mark.parametrize(
    "name",
    [
        "h264_29.97fps.mp4",
        "pyramid.mp4",
        "open_gop.ts",
        "hevc_open_gop.mp4",
        "vp9_hidden_frames.webm",
        "av1.mkv",
        "mpeg2.ts",
        "mpeg4_b_frames.avi",
        "variable_rate.mkv",
    ],
)
def test_with_several_threads_frames_are_the_same_bit_for_bit(clip: Callable[[str], Path], name: str) -> None:
    expected = oracle.expected(clip(name), 4, Fraction(1), SIZE)
    chunks, pixels, _ = sampled_with(clip(name), chunk=1, frames=4, threads=3)
    assert [chunk.frame_times for chunk in chunks] == [chunk.frame_times for chunk in expected.chunks]
    for chunk, frames, whole in zip(chunks, pixels, expected.chunks, strict=True):
        assert np.array_equal(frames[list(chunk.frame_indices)], whole.pixels)


def test_damage_that_is_found_with_several_threads_is_that_of_one(tmp_path: Path) -> None:
    whole = render(tmp_path / "whole.mkv", steady(25, 5), codec="mjpeg", pixel_format="yuvj420p")
    video = remux(tmp_path / "video.mkv", whole, damaged={60, 124})
    one, several = (sampled_with(video, threads=threads) for threads in (1, 4))
    assert one[0] == several[0]
    assert all(np.array_equal(a, b) for a, b in zip(one[1], several[1], strict=True))


@pytest.mark.parametrize("name", ["packets_without_pts.avi", "vp8_hidden_frames.webm"])
def test_damage_that_no_error_tells_of_looks_the_same_with_any_number_of_threads(
    clip: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    for seed in range(5):
        content = bytearray(clip(name).read_bytes())
        chance = np.random.default_rng(seed)
        for place in chance.integers(len(content) // 6, len(content), 4):
            content[place] ^= chance.integers(1, 256)
        path = tmp_path / name
        path.write_bytes(content)
        one, several = (sampled_with(path, threads=threads) for threads in (1, 3))
        assert one[0] == several[0]
        assert all(np.array_equal(a, b) for a, b in zip(one[1], several[1], strict=True))


# ---- frames near enough, and frames that are alike


def sampled_with(
    path: Path, chunk: int = 2, frames: int = 8, **how: Any
) -> tuple[list[SampledChunk], list[Any], Sampler]:
    out = np.zeros((frames, SIZE, SIZE, 3), np.uint8)
    chunks, pixels = [], []
    with Sampler(
        str(path), frames_per_chunk=frames, chunk_duration=Fraction(chunk), image_size=SIZE, limits=LIMITS, **how
    ) as sampler:
        while (sampled := sampler.next_chunk(out)) is not None:
            chunks.append(sampled)
            pixels.append(out[: sampled.frame_count].copy())
    return chunks, pixels, sampler


GROUPS_OF_25 = {"g": "25", "bf": "2", "sc_threshold": "0"}


@pytest.mark.parametrize("tolerance", [Fraction(1, 10), Fraction(1, 2), Fraction(7, 10)])
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("h264.mp4", {"options": GROUPS_OF_25}),
        ("h264.ts", {"options": GROUPS_OF_25}),
        ("h264_no_b_frames.mkv", {"options": {**GROUPS_OF_25, "bf": "0"}}),
        ("one_group.mp4", {"options": {"g": "1000", "bf": "2"}}),
        ("hevc.mp4", {"codec": "libx265", "options": {"x265-params": "keyint=25:scenecut=0:log-level=none"}}),
        ("vp9.webm", {"codec": "libvpx-vp9", "options": {"g": "25", "cpu-used": "8", "deadline": "realtime"}}),
    ],
)
def test_with_a_tolerance_every_frame_is_true_and_near_enough(
    tmp_path: Path, name: str, how: dict[str, Any], tolerance: Fraction
) -> None:
    path = render(tmp_path / name, steady(25, 7), **how)
    exact = oracle.expected(path, 8, Fraction(2), SIZE)
    shown, _, time_base = oracle.decoded(path, SIZE)
    pictures = {(frame.pts - shown[0].pts) * time_base: frame.pixels for frame in shown}
    chunks, pixels, sampler = sampled_with(path, tolerance=tolerance)
    assert [(chunk.start, chunk.duration) for chunk in chunks] == [(c.start, c.duration) for c in exact.chunks]
    assert sampler.duration == exact.duration
    for chunk, frames in zip(chunks, pixels, strict=True):
        assert list(chunk.frame_times) == sorted(chunk.frame_times)
        for place, (time, index) in enumerate(zip(chunk.frame_times, chunk.frame_indices, strict=True)):
            wanted = chunk.start + place * chunk.duration / 8
            assert abs(time - wanted) <= max(tolerance, Fraction(1, 25))
            assert np.array_equal(frames[index], pictures[time])


def test_a_tolerance_is_exact_however_coarse_the_clock_is(tmp_path: Path) -> None:
    # Wanted at 1.7 s, which no tick of 1/25 s is: the key frame at 1.48 s is too far.
    path = render(
        tmp_path / "video.avi", steady(25, 4), codec="mpeg4", options={"g": "37", "sc_threshold": "1000000000"}
    )
    (chunk, *_), _, _ = sampled_with(path, chunk=2, frames=20, tolerance=Fraction(1, 5))
    for place, time in enumerate(chunk.frame_times):
        assert abs(time - Fraction(place, 10)) <= Fraction(1, 5)


def test_with_a_tolerance_of_half_a_group_little_more_than_key_frames_is_decoded(tmp_path: Path) -> None:
    path = render(tmp_path / "video.mp4", steady(25, 20), options=GROUPS_OF_25)
    _, pixels, near = sampled_with(path, chunk=10, frames=16, tolerance=Fraction(1, 2))
    _, _, exact = sampled_with(path, chunk=10, frames=16)
    assert sum(map(len, pixels)) <= 22
    assert near.frames_decoded <= 25
    assert exact.frames_decoded > 200


def test_with_a_tolerance_of_a_few_frames_only_frames_that_others_refer_to_are_decoded(tmp_path: Path) -> None:
    # A rate at which wanted times fall on frames of each kind.
    path = render(tmp_path / "video.mp4", steady(24, 10), options={"g": "1000", "bf": "3", "sc_threshold": "0"})
    (chunk,), _, near = sampled_with(path, chunk=10, frames=16, tolerance=Fraction(1, 10))
    (shown,), _, exact = sampled_with(path, chunk=10, frames=16)
    assert near.frames_decoded <= exact.frames_decoded - 8
    assert max(abs(a - b) for a, b in zip(chunk.frame_times, shown.frame_times, strict=True)) <= Fraction(1, 10)


def test_a_frame_that_is_wanted_several_times_is_handed_out_once(tmp_path: Path) -> None:
    path = render(tmp_path / "video.mkv", [Fraction(0), Fraction(1), Fraction(3), Fraction(5)])
    ((chunk, *_), (pixels, *_), _) = sampled_with(path, chunk=5, frames=10)
    assert chunk.frame_indices == (0, 0, 1, 1, 1, 1, 2, 2, 2, 2)
    assert chunk.frame_times == tuple(map(Fraction, (0, 0, 1, 1, 1, 1, 3, 3, 3, 3)))
    assert len(pixels) == 3


def slides(index: int, scene: int, width: int, height: int) -> NDArray[np.uint8]:
    """A new picture every 2 s, with a little of each frame's own in it."""
    pixels = calm_picture(index // 50, index // 50, width, height)
    pixels[:4, :4] = 120 + 2 * (index % 25)
    return pixels


def test_frames_that_differ_little_are_returned_once_with_a_reuse_difference(tmp_path: Path) -> None:
    path = render(tmp_path / "video.mkv", steady(25, 8), codec="ffv1", draw=slides, pixel_format="bgr0")
    exact, _, _ = sampled_with(path, chunk=8, frames=32)
    alike, pixels, _ = sampled_with(path, chunk=8, frames=32, reuse_difference=0.02)
    assert exact[0].frame_indices == tuple(range(32))
    assert alike[0].frame_indices == tuple(place // 8 for place in range(32))
    assert alike[0].frame_times == exact[0].frame_times
    assert len(pixels[0]) == 4


def test_identical_pictures_are_handed_out_once(tmp_path: Path) -> None:
    def draw(index: int, scene: int, width: int, height: int) -> NDArray[np.uint8]:
        return calm_picture(0, index // 50, width, height)

    path = render(tmp_path / "video.mkv", steady(25, 8), codec="ffv1", draw=draw, pixel_format="bgr0")
    chunks, _, _ = sampled_with(path, chunk=4, frames=8)
    assert [chunk.frame_indices for chunk in chunks] == [(0, 0, 0, 0, 1, 1, 1, 1)] * 2


# ---- streams that are not what their packets promise


@pytest.mark.parametrize("damaged", [{60}, {0}, {124}, {110, 111, 112, 124}, {1, 30, 31, 32, 77}])
def test_a_refused_packet_leaves_the_frame_before_it_on_display(tmp_path: Path, damaged: set[int]) -> None:
    whole = render(tmp_path / "whole.mkv", steady(25, 5), codec="mjpeg", pixel_format="yuvj420p")
    video = remux(tmp_path / "video.mkv", whole, damaged=damaged)
    sampled = check_against_full_decode(video, frames=25, chunk=1)
    assert sampled.decode_failures == len(damaged)


def test_a_refused_end_changes_the_last_chunk(tmp_path: Path) -> None:
    whole = render(tmp_path / "whole.mkv", steady(25, Fraction(62, 25)), codec="mjpeg", pixel_format="yuvj420p")
    video = remux(tmp_path / "video.mkv", whole, damaged=range(56, 62))
    assert [chunk.duration for chunk in check_against_full_decode(video, chunk=2).chunks] == [Fraction(56, 25)]


def vp9_with_refused_packets(folder: Path, damaged: set[int]) -> Path:
    options = {"g": "1000", "cpu-used": "8", "deadline": "realtime", "error-resilient": "1"}
    whole = render(folder / "whole.webm", steady(25, 8), codec="libvpx-vp9", options=options)
    return remux(folder / "video.webm", whole, damaged=damaged)


def test_eight_refusals_in_a_row_are_borne(tmp_path: Path) -> None:
    video = vp9_with_refused_packets(tmp_path, set(range(180, 188)))
    assert check_against_full_decode(video).decode_failures == 8


@pytest.mark.parametrize("damaged", [set(range(190, 199)), set(range(10, 200, 15))], ids=["nine in a row", "over 5 %"])
def test_a_video_with_too_many_refused_packets_is_refused(tmp_path: Path, damaged: set[int]) -> None:
    assert refusal(vp9_with_refused_packets(tmp_path, damaged)).reason == ErrorReason.TOO_MANY_DECODE_FAILURES


@pytest.mark.parametrize("name", ["h264_25fps.mp4", "open_gop.ts", "hevc_closed_gop.mkv", "mpeg2.ts"])
@pytest.mark.parametrize("left", [0.97, 0.8, 0.6])
def test_a_truncated_file_gives_what_is_there_or_an_error(
    clip: Callable[[str], Path], tmp_path: Path, name: str, left: float
) -> None:
    whole = clip(name).read_bytes()
    video = tmp_path / f"truncated{Path(name).suffix}"
    video.write_bytes(whole[: int(left * len(whole))])
    if name.endswith("mp4"):  # its index was at the end
        assert refusal(video).reason == ErrorReason.NOT_A_VIDEO
    else:
        check_against_full_decode(video)


def test_the_size_may_change_on_the_way(tmp_path: Path) -> None:
    parts = [
        render(tmp_path / f"{width}.ts", steady(25, 2), width=width, height=48, start=start)
        for start, width in ((10, 64), (12, 96))
    ]
    video = tmp_path / "video.ts"
    video.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert len(check_against_full_decode(video).chunks) == 4
    error = refusal(video, limits=replace(LIMITS, max_pixels=64 * 48))
    assert error.reason in {ErrorReason.VIDEO_OVER_LIMIT, ErrorReason.TOO_MANY_DECODE_FAILURES}


# ---- which stream, and how its pictures look


def test_the_best_video_stream_is_taken(tmp_path: Path) -> None:
    small = render(tmp_path / "small.mp4", steady(25, 2))
    large = render(tmp_path / "large.mp4", steady(30, 3), width=128, height=96)
    video = remux(tmp_path / "video.mp4", small, large)
    assert check_against_full_decode(video).duration == 3


def test_a_cover_picture_is_not_the_video(tmp_path: Path) -> None:
    cover = render(tmp_path / "cover.mkv", steady(25, 0.04), codec="mjpeg", width=320, pixel_format="yuvj420p")
    clip = render(tmp_path / "clip.mp4", steady(25, 2))
    video = remux(tmp_path / "video.mp4", clip, cover=cover)
    with av.open(str(video)) as container:
        assert len(container.streams.video) == 2
    assert sample(video).duration == 2


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_pictures_are_upright(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    # MPEG-4: of pictures this small, x264 does not always make the same file.
    video = render(tmp_path / "video.mp4", steady(25, 1), codec="mpeg4", rotation=rotation, mirrored=mirrored)
    upright = render(tmp_path / "upright.mp4", steady(25, 1), codec="mpeg4")
    turned = check_against_full_decode(video).pixels[0]
    stored = sample(upright).pixels[0]
    expected = np.rot90(stored, rotation // 90, axes=(1, 2))
    if mirrored:
        expected = stored[:, :, ::-1] if rotation % 180 == 0 else stored[:, ::-1]
        expected = np.rot90(expected, rotation // 90, axes=(1, 2))
    assert np.array_equal(turned, expected)


def test_a_display_matrix_that_is_no_quarter_turn_is_not_followed(tmp_path: Path) -> None:
    video = render(tmp_path / "video.mp4", steady(25, 1), codec="mpeg4", rotation=30)
    upright = render(tmp_path / "upright.mp4", steady(25, 1), codec="mpeg4")
    assert np.array_equal(sample(video).pixels, sample(upright).pixels)


@pytest.mark.parametrize(("colour_range", "white"), [("tv", 235), ("pc", 255)])
def test_white_is_255_whatever_the_range(tmp_path: Path, colour_range: str, white: int) -> None:
    video = single_colour(tmp_path / "video.mkv", (white, 128, 128), height=48, colour_range=colour_range)
    assert (sample(video).pixels[0] >= 254).all()


@pytest.mark.parametrize(("height", "matrix"), [(719, "bt601"), (720, "bt709")])
def test_untagged_pictures_are_bt709_from_720_lines_on(tmp_path: Path, height: int, matrix: str) -> None:
    video = single_colour(tmp_path / "video.mkv", (100, 90, 180), height=height)
    red = {"bt601": 1.402, "bt709": 1.5748}[matrix] * (180 - 128) * 255 / 224 + (100 - 16) * 255 / 219
    assert sample(video).pixels[0][0, 5, 5, 0] == pytest.approx(red, abs=2)


def single_colour(path: Path, yuv: tuple[int, int, int], height: int, colour_range: str | None = None) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, height, "yuv444p"
        if colour_range is not None:
            stream.codec_context.color_range = {"tv": 1, "pc": 2}[colour_range]
        planes = np.empty((3, height, 16), np.uint8)
        planes[:] = np.array(yuv, np.uint8)[:, None, None]
        for pts in range(10):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
            frame.pts = pts
            if colour_range is not None:
                frame.color_range = {"tv": 1, "pc": 2}[colour_range]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


# ---- hostile files

NOT_VIDEOS: dict[str, bytes] = {
    "empty": b"",
    "text": b"Dear Sir or Madam,\n" * 200,
    "noise": np.random.default_rng(3).bytes(50_000),
    "playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nneighbour.ts\n#EXT-X-ENDLIST\n",
    "concat script": b"ffconcat version 1.0\nfile neighbour.ts\n",
    "dash manifest": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
    b"<BaseURL>neighbour.ts</BaseURL></Period></MPD>",
    "session description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "subtitles": b"1\n00:00:00,000 --> 00:00:09,000\nneighbour.ts\n",
    "picture": b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 13, b"IHDR") + bytes(40),
}


@pytest.mark.parametrize("name", NOT_VIDEOS)
@pytest.mark.parametrize("suffix", ["", ".mp4", ".m3u8", ".ffconcat", ".mpd"])
def test_what_is_not_a_video_is_refused_and_leads_to_no_other_file(
    clip: Callable[[str], Path], tmp_path: Path, name: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "neighbour.ts").write_bytes(clip("mpeg2.ts").read_bytes())
    video = tmp_path / f"video{suffix}"
    video.write_bytes(NOT_VIDEOS[name])
    monkeypatch.chdir(tmp_path)
    with files_opened_in(tmp_path) as opened:
        assert refusal(video).reason == ErrorReason.NOT_A_VIDEO
    assert opened <= {video.name}


def test_a_path_is_never_read_as_an_address(tmp_path: Path, clip: Callable[[str], Path]) -> None:
    (tmp_path / "neighbour.ts").write_bytes(clip("mpeg2.ts").read_bytes())
    with pytest.raises(FileNotFoundError):
        sample(Path(f"concat:{tmp_path}/neighbour.ts"))


def test_sound_without_pictures_has_no_video_stream(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        for _ in range(20):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            samples.rate = 48000
            container.mux(stream.encode(samples))
        container.mux(stream.encode(None))
    assert refusal(path).reason == ErrorReason.NO_VIDEO_STREAM


@pytest.mark.parametrize(
    "name", ["h264_25fps.mp4", "mpeg2.ts", "mpeg4.avi", "vp9.webm", "animation.gif", "wmv2.asf", "odd_size.mkv"]
)
def test_pictures_over_the_limit_are_refused_before_they_are_decoded(clip: Callable[[str], Path], name: str) -> None:
    error = refusal(clip(name), limits=replace(LIMITS, max_pixels=45 * 48))
    assert error.reason == ErrorReason.VIDEO_OVER_LIMIT
    assert "2160" in error.message
    if name == "h264_25fps.mp4":
        assert "64 x 48" in error.message


@pytest.mark.parametrize("name", ["h264_25fps.mp4", "packets_without_pts.avi", "mpeg2.ts"])
def test_a_video_longer_than_allowed_is_refused(clip: Callable[[str], Path], name: str) -> None:
    assert refusal(clip(name), limits=replace(LIMITS, max_duration_seconds=4)).reason == ErrorReason.VIDEO_OVER_LIMIT


def test_a_video_with_too_many_packets_is_refused(clip: Callable[[str], Path]) -> None:
    assert (
        refusal(clip("h264_25fps.mp4"), limits=replace(LIMITS, max_packets=100)).reason == ErrorReason.VIDEO_OVER_LIMIT
    )


def test_a_gap_of_ages_between_frames_is_over_the_limit(tmp_path: Path) -> None:
    video = render(tmp_path / "video.mkv", [*steady(25, 1), Fraction(10**7)])
    assert refusal(video).reason == ErrorReason.VIDEO_OVER_LIMIT
