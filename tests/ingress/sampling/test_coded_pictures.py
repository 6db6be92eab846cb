"""What packets say about their pictures, compared with what the decoder makes of them."""

from pathlib import Path
from typing import Any

import av
import pytest

from services.ingress.sampling.coded_pictures import has_idr_slice, is_reference
from services.ingress.sampling.video_file import VideoFile
from tests.rendering import render, steady

PYRAMID = {"g": "20", "bf": "3", "sc_threshold": "0"}
STREAMS: dict[str, dict[str, Any]] = {
    "h264.mp4": {"options": PYRAMID},
    "h264.ts": {"options": PYRAMID},
    "h264_no_b_frames.mkv": {"options": {**PYRAMID, "bf": "0"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "keyint=20:bframes=3:log-level=none"}},
    "hevc.ts": {"codec": "libx265", "options": {"x265-params": "keyint=20:bframes=3:log-level=none"}},
    "mpeg1.mkv": {"codec": "mpeg1video", "options": {"bf": "2", "g": "12"}},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}},
}


def kept(path: Path) -> set[int | None]:
    """The pts of the frames that the decoder brings out when it leaves out those to which no other refers."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.skip_frame = "NONREF"
        return {frame.pts for frame in container.decode(stream)}


@pytest.mark.parametrize("name", STREAMS)
def test_references_are_the_pictures_that_a_decoder_keeps(tmp_path: Path, name: str) -> None:
    path = render(tmp_path / name, steady(25, 2), **STREAMS[name])
    with VideoFile(str(path), max_pixels=1 << 20, max_packets=1000) as video:
        packets = list(video.packets())
        references = {packet.pts for packet in packets if video.is_reference(packet)}
    assert references == kept(path)
    assert (len(references) < len(packets)) == (name not in {"h264_no_b_frames.mkv", "vp9.webm"})


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp9"])
@pytest.mark.parametrize("packet", [b"", b"\0", b"\0\0\1", bytes(40), b"\0\0\1\x67\0\0\1", b"\xff" * 40])
@pytest.mark.parametrize("extradata", [b"", b"\1", b"\1" + bytes(40)])
def test_of_bytes_that_are_no_picture_nothing_is_left_out(codec: str, packet: bytes, extradata: bytes) -> None:
    assert is_reference(codec, packet, extradata) or packet == bytes(40)
    assert not has_idr_slice(packet, extradata)
