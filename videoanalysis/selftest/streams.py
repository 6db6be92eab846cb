"""Streams that change on the way, and files with more streams, subtitles and attachments than pictures."""

import struct
from collections.abc import Iterator

from videoanalysis.selftest import matroska
from videoanalysis.selftest.attack import Attack
from videoanalysis.selftest.clips import clip, picture


def attacks() -> Iterator[Attack]:
    small, wide, tall = (clip("ts", width=w, height=h) for w, h in ((48, 32), (320, 16), (16, 320)))
    yield Attack("resolution changes", "h264.ts", small + wide + tall + small)
    sizes = [(48, 32), (640, 16), (16, 640), (2, 2), (320, 240)]
    for codec in ("mjpeg", "png"):
        pictures = [picture(codec, *size) for size in sizes]
        tracks = (
            matroska.track(codec="V_MJPEG")
            if codec == "mjpeg"
            else matroska.track(codec="V_MS/VFW/FOURCC", more=_png())
        )
        yield Attack("resolution changes", f"{codec}.mkv", _film(pictures * 2, tracks))
        giants = [
            pictures[0],
            *(_resized(codec, pictures[0], size) for size in ((65500, 65500), (65500, 1), (8000, 4000))),
        ]
        yield Attack("resolution changes to a giant", f"{codec}.mkv", _film(giants * 3, tracks))
        yield Attack("resolution changes to a giant", f"{codec}-first.mkv", _film(giants[1:] * 3, tracks))
    yield Attack("codec changes", "h264-mpeg2.ts", small + _as_ts(clip("mpg")) + small)
    yield Attack("containers joined", "mp4-mkv.mp4", clip("mp4") + clip("mkv"))
    yield Attack("containers joined", "mkv-mp4.mkv", clip("mkv") + clip("mp4"))
    yield Attack("containers joined", "avi-ts.avi", clip("avi") + clip("ts"))
    jpeg = picture("mjpeg")
    for kind, codec in ((1, "V_MJPEG"), (2, "A_OPUS"), (17, "S_TEXT/ASS"), (17, "S_HDMV/PGS")):
        tracks = b"".join(matroska.track(number, 1 if number == 1 else kind, codec) for number in range(1, 120))
        yield Attack("many streams", f"{codec.replace('/', '-')}.mkv", _film([jpeg] * 3, tracks))
    subtitles = matroska.track() + b"".join(matroska.track(number, 17, "S_TEXT/UTF8") for number in range(2, 60))
    nested = b"".join(_attached(f"{number}.mkv", _film([jpeg], subtitles)) for number in range(3))
    attachments = matroska.element(matroska.ATTACHMENTS, nested)
    yield Attack("subtitles and attachments", "nested.mkv", _film([jpeg] * 3, subtitles, attachments))
    fonts = b"".join(_attached("../../../etc/passwd", b"font" * 50) for _ in range(300))
    attachments = matroska.element(matroska.ATTACHMENTS, fonts)
    yield Attack("subtitles and attachments", "many.mkv", _film([jpeg] * 3, subtitles, attachments))
    cover = matroska.element(matroska.ATTACHMENTS, _attached("cover.jpg", jpeg, "image/jpeg"))
    sound = matroska.track(1, 2, "A_PCM/INT/LIT")
    only_cover = matroska.file([], tracks=sound, before=cover)
    yield Attack("subtitles and attachments", "only-a-cover.mkv", only_cover, must_be_refused=True)


def _film(pictures: list[bytes], tracks: bytes, before: bytes = b"") -> bytes:
    blocks = [matroska.Block(one, cluster_time=83 * i) for i, one in enumerate(pictures)]
    return matroska.file(blocks, tracks=tracks, before=before)


def _attached(name: str, content: bytes, kind: str = "application/octet-stream") -> bytes:
    parts: list[tuple[int, bytes | int]] = [
        (0x466E, name.encode()),
        (0x4660, kind.encode()),
        (0x465C, content),
        (0x46AE, 1),
    ]
    return matroska.element(0x61A7, b"".join(matroska.element(identifier, payload) for identifier, payload in parts))


def _png() -> bytes:
    """Codec data of a PNG stream: a BITMAPINFOHEADER."""
    return matroska.element(0x63A2, struct.pack("<IiiHH4sIiiII", 40, 48, 32, 1, 24, b"MPNG", 0, 0, 0, 0, 0))


def _resized(codec: str, encoded: bytes, size: tuple[int, int]) -> bytes:
    """The picture with other dimensions in its header."""
    if codec == "png":
        at = encoded.index(b"IHDR") + 4
        return encoded[:at] + struct.pack(">II", *size) + encoded[at + 8 :]
    at = encoded.index(b"\xff\xc0") + 5
    return encoded[:at] + struct.pack(">HH", size[1], size[0]) + encoded[at + 4 :]


def _as_ts(stream: bytes) -> bytes:
    """Cut into packets of the video's identifier, whatever the stream is."""
    parts = [stream[i : i + 184] for i in range(0, len(stream) - 183, 184)]
    return b"".join(b"\x47\x41\x00" + bytes([0x10 | i & 0xF]) + part for i, part in enumerate(parts))
