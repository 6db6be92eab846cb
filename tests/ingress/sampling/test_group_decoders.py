from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame

from services.ingress.sampling.group_decoders import DecodedPicture, GroupDecoders
from services.ingress.sampling.limits import SamplingLimits
from services.ingress.sampling.pixels import UprightResizer
from services.ingress.sampling.plan import PlanInvalid
from services.ingress.sampling.sampler import Sampler
from services.ingress.sampling.timeline import Packet
from services.ingress.sampling.video_file import VideoFile
from tests.rendering import remux, render, steady

SIZE = 32


@pytest.fixture(scope="module")
def groups_of_25(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {"g": "25", "sc_threshold": "0"}
    return render(tmp_path_factory.mktemp("groups") / "video.mkv", steady(25, 8), options=options)


def opened(path: Path) -> VideoFile:
    return VideoFile(str(path), max_pixels=1 << 20, max_packets=1000)


@contextmanager
def decoders_of(path: Path, count: int = 2, on_result: Callable[[], None] = lambda: None) -> Iterator[GroupDecoders]:
    decoders = GroupDecoders([opened(path) for _ in range(count)], image_size=SIZE, on_result=on_result)
    try:
        yield decoders
    finally:
        decoders.close()


def packets_of(path: Path) -> list[Packet]:
    with opened(path) as video:
        return list(video.packets())


def feed(decoders: GroupDecoders, packets: list[Packet], *, groups_start_at: set[int]) -> list[DecodedPicture]:
    pictures: list[DecodedPicture] = []
    for number, packet in enumerate(packets):
        if number in groups_start_at:
            decoders.end_group()
        while not decoders.has_room:
            pictures += decoders.next_pictures()
        decoders.decode(packet, wanted=True, sampled=number % 3 == 0)
    decoders.end_group()
    while not decoders.is_empty:
        pictures += decoders.next_pictures()
    return pictures


def key_packets(packets: list[Packet]) -> set[int]:
    return {number for number, packet in enumerate(packets) if packet.entry_point}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_pictures_come_out_in_order_and_are_those_of_one_decoder(groups_of_25: Path, count: int) -> None:
    packets, results = packets_of(groups_of_25), 0

    def on_result() -> None:
        nonlocal results
        results += 1

    with decoders_of(groups_of_25, count, on_result) as decoders:
        pictures = feed(decoders, packets, groups_start_at=key_packets(packets))
        assert (decoders.frames_decoded, decoders.decode_failures) == (200, 0)
    assert results == 200 + 8  # and the ends of groups
    sampled = {packet.pts for packet in packets[::3]}
    resize = UprightResizer(SIZE)
    with opened(groups_of_25) as video:
        frames = [frame for packet in video.packets() for frame in video.decode(packet)] + video.drain()
        assert [picture.pts for picture in pictures] == [frame.pts for frame in frames]
        for picture, frame in zip(pictures, frames, strict=True):
            assert (picture.pixels is not None) == (frame.pts in sampled)
            assert picture.pixels is None or np.array_equal(picture.pixels, resize(frame))


def test_a_group_that_starts_in_the_middle_of_another_is_noticed(groups_of_25: Path) -> None:
    packets = packets_of(groups_of_25)
    with decoders_of(groups_of_25) as decoders, pytest.raises(PlanInvalid, match="cannot start"):
        feed(decoders, packets, groups_start_at={35})


def test_what_waits_is_bounded_and_can_be_left(groups_of_25: Path) -> None:
    packets = packets_of(groups_of_25)
    with decoders_of(groups_of_25) as decoders:
        for _ in range(3):
            for packet in packets[:25]:
                assert decoders.has_room
                decoders.decode(packet, wanted=True, sampled=False)
            decoders.end_group()
        assert not decoders.has_room  # one group more than there are decoders
        while decoders.frames_decoded < 25:
            decoders.next_pictures()
        decoders.next_pictures()
        assert decoders.has_room


def test_an_error_of_a_decoder_comes_where_its_pictures_would(
    groups_of_25: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packets, decode = packets_of(groups_of_25)[:75], VideoFile.decode

    def fails(video: VideoFile, packet: Packet, *, wanted: bool = True) -> list[VideoFrame]:
        if packet is packets[25]:
            raise MemoryError
        return decode(video, packet, wanted=wanted)

    monkeypatch.setattr(VideoFile, "decode", fails)
    with decoders_of(groups_of_25) as decoders:
        with pytest.raises(MemoryError):
            feed(decoders, packets, groups_start_at=key_packets(packets))
        assert decoders.frames_decoded == 25


def sampler_of(path: Path, threads: int) -> Sampler:
    return Sampler(
        str(path),
        frames_per_chunk=8,
        chunk_duration=Fraction(2),
        image_size=SIZE,
        limits=SamplingLimits(),
        threads=threads,
        detect_cuts=True,
    )


def sampled(path: Path, threads: int) -> tuple[list[object], Sampler]:
    out = np.zeros((8, SIZE, SIZE, 3), np.uint8)
    chunks: list[object] = []
    with sampler_of(path, threads) as sampler:
        while (chunk := sampler.next_chunk(out)) is not None:
            chunks.append((chunk, out[: chunk.frame_count].tobytes()))
    return chunks, sampler


@pytest.mark.parametrize("damaged", [set(), {0}, {60}, {199}, {30, 120}])
def test_a_video_is_sampled_the_same_with_any_number_of_decoders(
    groups_of_25: Path, tmp_path: Path, damaged: set[int]
) -> None:
    video = remux(tmp_path / "video.mkv", groups_of_25, damaged=damaged)
    (one, first), (several, second) = sampled(video, 1), sampled(video, 3)
    assert one == several
    assert first.decode_failures == second.decode_failures == len(damaged)
    assert damaged or first.frames_decoded == second.frames_decoded


def test_a_video_can_be_left_while_groups_are_being_decoded(groups_of_25: Path) -> None:
    with sampler_of(groups_of_25, threads=2) as sampler:
        assert sampler.next_chunk(np.zeros((8, SIZE, SIZE, 3), np.uint8)) is not None


def test_no_more_is_read_before_the_first_chunk_than_one_decoder_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = render(tmp_path / "video.mkv", steady(25, 8), options={"g": "40", "sc_threshold": "0"})
    packets, read = VideoFile.packets, 0

    def counted(video: VideoFile) -> Iterator[Packet]:
        nonlocal read
        for packet in packets(video):
            read += 1
            yield packet

    monkeypatch.setattr(VideoFile, "packets", counted)
    reads = []
    for threads in (1, 2):
        read = 0
        with sampler_of(video, threads) as sampler:
            sampler.next_chunk(np.zeros((8, SIZE, SIZE, 3), np.uint8))
            reads.append(read)
    assert reads[1] == reads[0] < 120
