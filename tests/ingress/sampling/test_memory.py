from services.ingress.sampling.memory import PictureFormat, bytes_needed
from services.ingress.sampling.sampled_video import WORKER_BYTES

MIB = 1 << 20
CHUNK = 16 * 384 * 384 * 3


def needed(codec: str, width: int, height: int, bytes_per_pixel: float, *, threads: int = 1, packets: int = MIB) -> int:
    pictures = PictureFormat(codec, width, height, bytes_per_pixel)
    return bytes_needed(pictures, threads=threads, packet_bytes=packets, chunk_bytes=CHUNK)


def test_1080p_of_every_codec_needs_no_more_than_each_worker_may_always_use():
    for codec in ("h264", "hevc", "vp9", "libdav1d", "mpeg2video", "mpeg4", "gif", "prores", "mjpeg"):
        assert needed(codec, 1920, 1080, 4 if codec == "gif" else 1.5) <= WORKER_BYTES


def test_what_is_needed_grows_with_pictures_packets_and_threads():
    usual = needed("h264", 3840, 2160, 1.5)
    assert needed("h264", 3840, 2160, 3) - usual == 20 * 3840 * 2160 * 1.5
    assert needed("h264", 3840, 2160, 1.5, packets=100 * MIB) - usual == 99 * MIB
    assert needed("h264", 3840, 2160, 1.5, threads=4) - usual > 3 * 3840 * 2160 * 1.5
    assert needed("h264", 8192, 4320, 6) > 4 << 30
