"""Videos whose timestamps lie. Each picture shows its own number, so that pixels and not times are the truth."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.packet import Packet as MediaPacket
from av.video.stream import VideoStream
from numpy.typing import NDArray

from services.ingress.sampling.limits import SamplingLimits
from services.ingress.sampling.sampler import Sampler
from tests.rendering import render, steady
from videoanalysis.errors import InvalidInput
from videoanalysis.selftest import iso
from videoanalysis.v1.error_reason_pb2 import ErrorReason

ODD_VIDEOS = Path(__file__).parents[4] / "shared" / "videos" / "odd"
RATE, WIDTH, HEIGHT, BITS = 25, 160, 96, 10
DENSE = 200  # samples of a second
LIMITS = SamplingLimits(max_duration_seconds=60)
B_FRAMES = {"bf": "2", "g": "25"}


def bars(first: int = 0, numbers: Sequence[int] | None = None) -> Callable[[int, int, int, int], NDArray[np.uint8]]:
    """Draws the number `first` + index, or that of `numbers`, as upright bars: bar b is white where bit b is set."""

    def draw(index: int, scene: int, width: int, height: int) -> NDArray[np.uint8]:
        number = numbers[index] if numbers is not None else first + index
        row = [230 if number >> bit & 1 else 20 for bit in range(BITS) for _ in range(width // BITS)]
        return np.broadcast_to(np.array(row, np.uint8)[None, :, None], (height, width, 3)).copy()

    return draw


def clip(path: Path, frames: int, *, first: int = 0, codec: str = "libx264", **how: Any) -> Path:
    how.setdefault("options", B_FRAMES if codec in {"libx264", "mpeg4", "mpeg2video"} else {})
    times = steady(RATE, Fraction(frames, RATE))
    return render(path, times, codec=codec, width=WIDTH, height=HEIGHT, draw=bars(first), **how)


@dataclass(frozen=True)
class Seen:
    numbers: list[int]  # one for each wanted time, 1/25 s apart
    duration: Fraction
    claimed: float | None
    decode_failures: int
    frames_dropped: int
    frames_decoded: int
    pixels: NDArray[np.uint8]


def seen(path: Path, limits: SamplingLimits = LIMITS, numbered: bool = True) -> Seen:
    """What is on display in the middle of each 1/25 s."""
    out = np.empty((DENSE, WIDTH, WIDTH, 3), np.uint8)
    pixels = []
    with Sampler(
        str(path), frames_per_chunk=DENSE, chunk_duration=Fraction(1), image_size=WIDTH, limits=limits
    ) as sampler:
        while (chunk := sampler.next_chunk(out)) is not None:
            step = chunk.duration / DENSE
            count = round(chunk.duration * RATE)
            middles = [Fraction(2 * i + 1, 2 * RATE) for i in range(count)]
            pixels.append(out[[chunk.frame_indices[int(middle / step)] for middle in middles]])
        everything = np.concatenate(pixels)
        return Seen(
            [number(picture) for picture in everything] if numbered else [],
            sampler.duration,
            sampler.claimed_duration_seconds,
            sampler.decode_failures,
            sampler.frames_dropped,
            sampler.frames_decoded,
            everything,
        )


def number(picture: NDArray[np.uint8]) -> int:
    bar = WIDTH // BITS
    return sum(int(picture[20, bit * bar + bar // 2, 1] > 128) << bit for bit in range(BITS))


def check_in_order(path: Path, frames: int, **expected: object) -> Seen:
    found = seen(path)
    assert found.numbers == list(range(frames))
    assert found.duration == Fraction(frames, RATE)
    assert found.frames_dropped == 0
    return found


def joined(path: Path, parts: Sequence[Path]) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


# ---- clocks that start again or jump

CONTAINERS: dict[str, dict[str, Any]] = {
    "ts": {},
    "mpg": {"codec": "mpeg2video"},
    "vob": {"codec": "mpeg2video", "container_format": "vob"},
    "mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}},
    "mkv": {},
    "webm": {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}},
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_parts_joined_into_one_file_follow_each_other(tmp_path: Path, container: str) -> None:
    parts = [clip(tmp_path / f"{i}.{container}", 60, first=60 * i, **CONTAINERS[container]) for i in range(3)]
    found = seen(joined(tmp_path / f"joined.{container}", parts))
    # Of the last two pictures of a program stream the muxer may write one time.
    assert found.numbers[:178] == list(range(178))
    assert found.numbers[-1] == 179
    assert found.frames_dropped == 0


def test_a_part_that_cannot_follow_in_the_same_decoder_is_counted(tmp_path: Path) -> None:
    parts = [clip(tmp_path / f"{i}.mkv", 60, first=60 * i) for i in range(2)]
    last = render(tmp_path / "other.mkv", steady(RATE, 2), width=32, height=32)
    found = seen(joined(tmp_path / "joined.mkv", [*parts, last]))
    assert found.numbers == list(range(120))
    assert found.decode_failures == 1


@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "3", "g": "250"}])
def test_parts_may_be_reordered_in_different_ways(tmp_path: Path, options: dict[str, str]) -> None:
    parts = [clip(tmp_path / "0.ts", 60), clip(tmp_path / "1.ts", 60, first=60, options=options)]
    check_in_order(joined(tmp_path / "joined.ts", parts), 120)


@pytest.mark.parametrize("start", [Fraction(14), Fraction(600), Fraction(8 * 3600), Fraction(2)])
def test_a_clock_that_was_set_while_recording_goes_on(tmp_path: Path, start: Fraction) -> None:
    parts = [clip(tmp_path / "0.ts", 50, start=Fraction(1)), clip(tmp_path / "1.ts", 50, first=50, start=start)]
    check_in_order(joined(tmp_path / "joined.ts", parts), 100)


def test_a_clock_of_33_bits_may_run_over(tmp_path: Path) -> None:
    check_in_order(clip(tmp_path / "video.ts", 100, start=Fraction(2**33, 90000) - 3), 100)


def test_sampling_may_begin_after_a_clock_has_started_again(tmp_path: Path) -> None:
    parts = [clip(tmp_path / f"{i}.ts", 60, first=60 * i) for i in range(3)]
    path = joined(tmp_path / "joined.ts", parts)
    out = np.empty((50, WIDTH, WIDTH, 3), np.uint8)
    with Sampler(
        str(path), frames_per_chunk=50, chunk_duration=Fraction(2), image_size=WIDTH, limits=LIMITS, first_chunk=2
    ) as sampler:
        chunk = sampler.next_chunk(out)
    assert chunk is not None
    assert [number(picture) for picture in out[list(chunk.frame_indices)]] == list(range(100, 150))


# ---- single times out of line


def rewritten(source: Path, path: Path, change: Callable[[int, "MediaPacket[VideoStream]"], None]) -> Path:
    """The packets of `source`, in decoding order, each changed."""
    with av.open(str(source)) as original, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(original.streams.video[0])
        packets = [packet for packet in original.demux(video=0) if packet.size]
        for index, packet in enumerate(packets):
            change(index, packet)
            packet.stream = stream
            output.mux(packet)
    return path


@pytest.mark.parametrize("container", ["mkv", "mp4"])
@pytest.mark.parametrize(("moved", "place"), [(30, 40), (30, 28), (30, 55), (60, 53)])
def test_declared_times_out_of_line_are_put_in_order(tmp_path: Path, container: str, moved: int, place: int) -> None:
    source = clip(tmp_path / f"source.{container}", 75, options={"bf": "0"}, time_base=Fraction(1, 1000))
    to = Fraction(place, RATE) + Fraction(3, 4 * RATE)

    def change(index: int, packet: "MediaPacket[VideoStream]") -> None:
        packet.dts = (packet.dts or 0) - round(1 / cast(Fraction, packet.time_base))  # room for early pictures
        if index == moved:
            packet.pts = round(to / cast(Fraction, packet.time_base))

    path = rewritten(source, tmp_path / f"video.{container}", change)
    found = seen(path)
    assert found.numbers == [moved - 1 if n == moved else n for n in range(75)]
    assert found.frames_dropped == 0
    assert shown_at(path, to + Fraction(1, 1000)) == moved


def shown_at(path: Path, time: Fraction) -> int:
    out = np.empty((DENSE, WIDTH, WIDTH, 3), np.uint8)
    with Sampler(
        str(path), frames_per_chunk=DENSE, chunk_duration=Fraction(1), image_size=WIDTH, limits=LIMITS
    ) as sampler:
        while (chunk := sampler.next_chunk(out)) is not None:
            if chunk.start <= time < chunk.start + chunk.duration:
                return number(out[chunk.frame_indices[-int(-(time - chunk.start) / chunk.duration * DENSE // 1)]])
    raise AssertionError("the video ends before")


def test_a_time_far_ahead_of_all_others_is_dropped_and_counted(tmp_path: Path) -> None:
    source = clip(tmp_path / "source.mkv", 75, options={"bf": "0"})

    def change(index: int, packet: "MediaPacket[VideoStream]") -> None:
        if index == 30:
            packet.pts = (packet.pts or 0) + round(7200 / cast(Fraction, packet.time_base))

    found = seen(rewritten(source, tmp_path / "video.mkv", change))
    assert found.numbers == [*range(30), 29, *range(31, 75)]
    assert found.frames_dropped == 1


def test_of_several_pictures_with_one_time_the_last_is_on_display(tmp_path: Path) -> None:
    source = clip(tmp_path / "source.mkv", 75, codec="mjpeg", pixel_format="yuvj420p")

    def change(index: int, packet: "MediaPacket[VideoStream]") -> None:
        if index % 3:
            packet.pts = packet.dts = round(Fraction(index - index % 3, RATE) / cast(Fraction, packet.time_base))

    found = seen(rewritten(source, tmp_path / "video.mkv", change))
    assert found.numbers[:72] == [3 * (i // 3) + 2 for i in range(72)]
    assert found.frames_dropped == 0


# ---- invented or missing times


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_in_avi_pictures_are_shown_in_their_order(tmp_path: Path, codec: str) -> None:
    found = check_in_order(clip(tmp_path / "video.avi", 100, codec=codec), 100)
    assert found.frames_decoded == 100  # once


def test_in_avi_two_pictures_may_share_a_packet(tmp_path: Path) -> None:
    """As some encoders pack B-frames: with the picture that they refer to, and an empty packet in their place."""
    source = clip(tmp_path / "source.avi", 75, codec="mpeg4", options={"bf": "1", "g": "75", "b_strategy": "0"})
    with av.open(str(source)) as original, av.open(str(tmp_path / "packed.avi"), "w") as output:
        stream = output.add_stream_from_template(original.streams.video[0])
        packets = [bytes(packet) for packet in original.demux(video=0) if packet.size]
        marked = packets[0].replace(b"\x00\x00\x01\xb6", b"\x00\x00\x01\xb2DivX503b1393p\x00\x00\x01\xb6", 1)
        packed = [marked]
        for reference, between in zip(packets[1::2], packets[2::2], strict=False):
            packed += [reference + between, b"\x00\x00\x01\xb6\x10"]
        for index, content in enumerate(packed):
            packet = cast("MediaPacket[VideoStream]", MediaPacket(content))
            packet.pts = packet.dts = index
            packet.time_base, packet.is_keyframe, packet.stream = Fraction(1, RATE), index == 0, stream
            output.mux(packet)
    numbers = seen(tmp_path / "packed.avi").numbers
    assert numbers[:73] == list(range(73))


def test_where_few_pictures_have_a_time_the_others_follow_evenly(tmp_path: Path) -> None:
    path = clip(tmp_path / "video.ts", 100)
    path.write_bytes(without_times(path.read_bytes(), keep_every=25))
    check_in_order(path, 100)


def without_times(stream: bytes, keep_every: int) -> bytes:
    """A transport stream with a time on every `keep_every`th picture only."""
    data = bytearray(stream)
    pictures = -1
    for start in range(0, len(data), 188):
        if not data[start + 1] & 0x40:
            continue
        payload = start + 4 + (1 + data[start + 4] if data[start + 3] & 0x20 else 0)
        if data[payload : payload + 3] != b"\x00\x00\x01" or data[payload + 3] & 0xF0 != 0xE0:
            continue
        pictures += 1
        if pictures % keep_every:
            data[payload + 7] &= 0x3F  # no times; what was there is stuffing
            length = data[payload + 8]
            data[payload + 9 : payload + 9 + length] = b"\xff" * length
    return bytes(data)


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_times_made_up_in_decoding_order_are_not_used(tmp_path: Path, container: str) -> None:
    source = clip(tmp_path / "source.mp4", 75)

    def change(index: int, packet: "MediaPacket[VideoStream]") -> None:
        packet.pts = packet.dts = round(Fraction(index, RATE) / cast(Fraction, packet.time_base))

    found = seen(rewritten(source, tmp_path / f"video.{container}", change))
    assert found.numbers == sorted(found.numbers)
    assert len(set(found.numbers)) >= 73


# ---- parts of videos that are not what they seem


def numbers_from(path: Path, first_chunk: int, **how: Any) -> list[int]:
    """Of a chunk of a second."""
    out = np.empty((RATE, WIDTH, WIDTH, 3), np.uint8)
    size = {"frames_per_chunk": RATE, "chunk_duration": Fraction(1), "image_size": WIDTH}
    with Sampler(str(path), **size, limits=LIMITS, first_chunk=first_chunk, **how) as sampler:
        chunk = sampler.next_chunk(out)
    assert chunk is not None
    return [number(out[index]) for index in chunk.frame_indices]


@pytest.mark.parametrize(("container", "codec"), [("mkv", "libx264"), ("ts", "libx265")])
def test_the_timeline_starts_at_the_first_picture_that_can_be_decoded_wherever_it_is_begun(
    tmp_path: Path, container: str, codec: str
) -> None:
    options = {"libx264": {"g": "25", "sc_threshold": "0"}, "libx265": {"x265-params": "keyint=25:log-level=none"}}
    source = clip(tmp_path / "source.mkv", 75, codec=codec, options=options[codec])
    with av.open(str(source)) as original, av.open(str(tmp_path / f"video.{container}"), "w") as output:
        stream = output.add_stream_from_template(original.streams.video[0])
        for packet in [packet for packet in original.demux(video=0) if packet.size][7:]:
            packet.stream = stream
            output.mux(packet)
    path = tmp_path / f"video.{container}"
    whole = seen(path).numbers
    assert whole[:5] == list(range(25, 30))
    assert numbers_from(path, 1) == whole[25:50]
    assert numbers_from(path, 0, start=Fraction(1)) == whole[25:50]
    out = np.empty((RATE, WIDTH, WIDTH, 3), np.uint8)
    size = {"frames_per_chunk": RATE, "chunk_duration": Fraction(1), "image_size": WIDTH}
    with Sampler(str(path), **size, limits=LIMITS, tolerance=Fraction(1)) as sampler:
        while sampler.next_chunk(out) is not None:
            pass
        assert sampler.duration == Fraction(50, RATE)


def test_a_range_of_joined_movies_is_that_of_the_whole(tmp_path: Path) -> None:
    parts = [clip(tmp_path / f"{i}.mp4", 60, first=60 * i, **CONTAINERS["mp4"]) for i in range(3)]
    path = joined(tmp_path / "joined.mp4", parts)
    for second in (1, 2, 5):
        assert numbers_from(path, 0, start=Fraction(second)) == list(range(25 * second, 25 * second + 25))


# ---- streams with little around them, and formats of their own


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("video.h264", {}),
        ("video.hevc", {"codec": "libx265", "options": {"x265-params": "bframes=3:log-level=none"}}),
        ("video.m2v", {"codec": "mpeg2video", "container_format": "mpeg2video"}),
        ("video.obu", {"codec": "libsvtav1", "options": {"preset": "12", "svtav1-params": "lp=1"}}),
        (
            "video.ivf",
            {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "lag-in-frames": "16", "auto-alt-ref": "1"}},
        ),
        ("video.mxf", {"codec": "mpeg2video"}),
    ],
)
def test_streams_without_a_container_of_their_own_are_shown_in_order(
    tmp_path: Path, name: str, how: dict[str, Any]
) -> None:
    check_in_order(clip(tmp_path / name, 40, **how), 40)


def test_an_encrypted_video_is_refused_as_such(tmp_path: Path) -> None:
    encryption = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0f" * 16, "encryption_kid": "1e" * 16}
    path = clip(tmp_path / "video.mp4", 40, container_options=encryption)
    with pytest.raises(InvalidInput, match="encrypted") as caught:
        seen(path)
    assert caught.value.reason == ErrorReason.NOT_A_VIDEO


# ---- edit lists


@pytest.mark.parametrize("b_frames", ["0", "2"])
@pytest.mark.parametrize(
    "edits",  # the first picture of each, and how many
    [[(75, 10), (50, 10), (25, 10), (0, 10)], [(25, 20)] * 3, [(7, 30)]],
    ids=["backwards", "three times", "a part"],
)
def test_edits_are_shown_one_after_another(tmp_path: Path, edits: list[tuple[int, int]], b_frames: str) -> None:
    path = clip(tmp_path / "video.mp4", 100, options={"bf": b_frames, "g": "25", "sc_threshold": "0"})
    movie = iso.Movie.parse(path.read_bytes())
    edit_list = movie.first(b"elst")
    # A duration in milliseconds, a time in 1/12800 s from that of the first picture, a rate of 1.
    (start,) = struct.unpack_from(">i", edit_list.payload, 12)
    entries = [struct.pack(">IiHH", count * 40, start + first * 512, 1, 0) for first, count in edits]
    edit_list.payload = struct.pack(">II", 0, len(entries)) + b"".join(entries)
    path.write_bytes(movie.to_bytes())
    assert seen(path).numbers == [first + i for first, count in edits for i in range(count)]


# ---- what containers claim


@pytest.mark.parametrize("hours", [5, 8, 24 * 365 * 56])
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("video.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("video.webm", {"codec": "libvpx", "options": {"cpu-used": "8", "deadline": "realtime"}}),
    ],
)
def test_a_clock_may_start_at_any_time(tmp_path: Path, name: str, how: dict[str, Any], hours: int) -> None:
    path = clip(tmp_path / name, 75, start=Fraction(3600 * hours), time_base=Fraction(1, 1000), **how)
    found = check_in_order(path, 75)
    assert found.claimed is None or found.claimed == pytest.approx(3, abs=0.2)


def test_the_claimed_duration_is_that_of_the_pictures_alone(tmp_path: Path) -> None:
    source, other = clip(tmp_path / "source.mkv", 75), clip(tmp_path / "other.mkv", 1, codec="mpeg4")
    path = tmp_path / "video.mkv"
    with av.open(str(source)) as original, av.open(str(other)) as late, av.open(str(path), "w") as output:
        streams = [output.add_stream_from_template(part.streams.video[0]) for part in (original, late)]
        for part, stream in zip((original, late), streams, strict=True):
            for packet in [packet for packet in part.demux(video=0) if packet.size]:
                if part is late:
                    packet.pts = packet.dts = 7_200_000
                packet.stream = stream
                output.mux(packet)
    found = check_in_order(path, 75)
    assert found.claimed == pytest.approx(3, abs=0.1)


def test_a_false_claim_of_a_long_video_limits_nothing(tmp_path: Path) -> None:
    path = clip(tmp_path / "video.flv", 75, codec="flv")
    content = path.read_bytes()
    place = content.index(b"\x00\x08duration\x00") + 11
    path.write_bytes(content[:place] + struct.pack(">d", 1e6) + content[place + 8 :])
    assert check_in_order(path, 75).claimed is None


def test_a_true_claim_of_a_long_video_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    path = clip(tmp_path / "video.mp4", 75)
    with pytest.raises(InvalidInput) as caught:
        Sampler(
            str(path),
            frames_per_chunk=4,
            chunk_duration=Fraction(1),
            image_size=32,
            limits=replace(LIMITS, max_duration_seconds=2),
        )
    assert caught.value.reason == ErrorReason.VIDEO_OVER_LIMIT


# ---- damage


def test_a_damaged_picture_is_the_same_in_every_run(tmp_path: Path) -> None:
    options = {"x265-params": "keyint=20:bframes=3:log-level=none"}
    source = render(tmp_path / "source.mkv", steady(RATE, 4), codec="libx265", width=320, height=240, options=options)
    content = bytearray(source.read_bytes())
    rng = np.random.default_rng(7)
    for place in rng.integers(len(content) // 4, len(content), 12):
        content[place] ^= 0x55
    path = tmp_path / "damaged.mkv"
    path.write_bytes(content)
    first = seen(path, numbered=False)
    again = seen(path, numbered=False)
    assert np.array_equal(first.pixels, again.pixels)


@pytest.mark.parametrize("size", [10**8, 2**30, 2**31 - 20])
def test_before_a_size_that_cannot_be_every_picture_is_shown(tmp_path: Path, size: int) -> None:
    path = clip(tmp_path / "video.mp4", 75, options={"bf": "0"})
    content = bytearray(path.read_bytes())
    sizes = content.index(b"stsz") + 16
    content[sizes + 4 * 60 : sizes + 4 * 61] = struct.pack(">I", size)
    path.write_bytes(content)
    assert seen(path).numbers[:60] == list(range(60))


# ---- files from elsewhere


def odd(name: str) -> Path:
    if not (ODD_VIDEOS / name).exists():
        pytest.skip(f"{ODD_VIDEOS / name} is not there")
    return ODD_VIDEOS / name


@pytest.mark.parametrize("name", ["b_h264_b.avi", "b_nopts25.ts", "q_flvdur.flv", "s_5h.mp4", "s_8h.webm"])
def test_of_300_pictures_each_is_shown_at_its_time(name: str) -> None:
    found = seen(odd(name))
    assert found.numbers == list(range(300))
    assert found.duration == 12
    assert found.frames_dropped == 0


@pytest.mark.parametrize("name", ["ts_forward_10min.ts", "ts_forward_8h.ts"])
def test_of_two_parts_of_two_seconds_every_picture_is_shown_once(name: str) -> None:
    found = seen(odd(name), numbered=False)
    assert found.duration == 4
    assert found.frames_decoded == 100
    assert len(found.pixels) == 100


def test_damaged_pictures_are_the_same_in_every_run() -> None:
    first, again = (seen(odd("fz_1_127_hevc_open.mkv"), numbered=False) for _ in range(2))
    assert np.array_equal(first.pixels, again.pixels)
    assert first.decode_failures == again.decode_failures > 0


def test_of_a_sample_of_two_gigabytes_the_pictures_before_it_remain() -> None:
    found = seen(odd("fz_1_937_intra_refresh.mp4"), numbered=False)
    assert found.decode_failures == 1
    assert Fraction(59, RATE) <= found.duration <= Fraction(62, RATE)
