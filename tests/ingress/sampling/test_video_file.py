"""What test_sampler.py does not reach."""

from pathlib import Path

import pytest

from services.ingress.sampling.video_file import VideoFile
from tests.rendering import render, steady
from videoanalysis.errors import InvalidInput
from videoanalysis.v1.error_reason_pb2 import ErrorReason

LIMITS = {"max_pixels": 64 * 48, "max_packets": 1000}


@pytest.fixture(scope="module")
def h264(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(
        tmp_path_factory.mktemp("video") / "video.mp4",
        steady(25, 1),
        options={"g": "5", "bf": "0", "sc_threshold": "0"},
    )


def decode_everything(path: Path) -> None:
    with VideoFile(str(path), **LIMITS) as video:
        for packet in video.packets():
            video.decode(packet)


def test_tells_where_decoding_can_start(h264: Path) -> None:
    with VideoFile(str(h264), **LIMITS) as video:
        assert [packet.entry_point for packet in video.packets()] == [True, False, False, False, False] * 5


def test_frames_come_out_in_the_order_in_which_they_are_shown(tmp_path: Path) -> None:
    path = render(tmp_path / "video.mp4", steady(25, 1), options={"bf": "3"})
    with VideoFile(str(path), **LIMITS) as video:
        packets = list(video.packets())
        assert [packet.pts for packet in packets] != sorted(packet.pts or 0 for packet in packets)
        frames = [frame for packet in packets for frame in video.decode(packet)] + video.drain()
        assert [frame.pts for frame in frames] == sorted(packet.pts or 0 for packet in packets)
        assert video.frames_decoded == 25


def test_a_picture_that_is_neither_wanted_nor_referred_to_is_left_out(tmp_path: Path) -> None:
    options = {"bf": "3", "x264-params": "b-pyramid=none:b-adapt=0"}
    path = render(tmp_path / "video.mp4", steady(25, 1), options=options)
    with VideoFile(str(path), **LIMITS) as video:
        frames = [frame for packet in video.packets() for frame in video.decode(packet, wanted=False)] + video.drain()
        assert 5 <= len(frames) <= 10


@pytest.mark.parametrize("left", [1, 4])
def test_a_description_of_the_stream_that_is_cut_off_is_no_more_than_damage(
    tmp_path: Path, h264: Path, left: int
) -> None:
    content = bytearray(h264.read_bytes())
    box = content.index(b"avcC") - 4
    content[box : box + 4] = (8 + left).to_bytes(4, "big")
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        decode_everything(path)
    assert caught.value.reason == ErrorReason.TOO_MANY_DECODE_FAILURES


def test_a_missing_file_is_not_an_error_of_the_video(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        VideoFile(str(tmp_path / "video.mp4"), **LIMITS)
