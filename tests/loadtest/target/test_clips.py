import av
import pytest

from loadtest.target.clips import render


@pytest.mark.parametrize(("chunks", "frames"), [(1, 248), (3, 900)])
def test_a_clip_has_the_frames_of_its_chunks_evenly_and_all_can_be_decoded(chunks, frames, tmp_path):
    with av.open(str(render(tmp_path / "clip.mp4", chunks))) as container:
        stream = container.streams.video[0]
        times = [frame.time for frame in container.decode(stream)]
        assert (stream.width, stream.height, stream.codec_context.name) == (384, 384, "h264")
    assert times == pytest.approx([number / 30 for number in range(frames)])


def test_a_keyframe_comes_every_second(tmp_path):
    with av.open(str(render(tmp_path / "clip.mp4", 1))) as container:
        keyframes = [packet.pts * packet.time_base for packet in container.demux(video=0) if packet.is_keyframe]
    assert keyframes == list(range(9))
