"""False headers: sizes, durations, counts, dimensions and time bases that the file does not have."""

import struct
import zlib
from collections.abc import Iterator

from videoanalysis.selftest import iso, matroska, ogg
from videoanalysis.selftest.attack import Attack
from videoanalysis.selftest.clips import HEIGHT, WIDTH, clip, picture

_MOST = b"\xff\xff\xff\xff"
_MANY = 50_000_000
_MATROSKA_SIZES = {"void": matroska.VOID, "cluster": matroska.CLUSTER, "attachments": matroska.ATTACHMENTS}


def attacks() -> Iterator[Attack]:
    yield from _movies()
    yield from _matroska()
    yield from _others()
    yield from _no_videos()


def _movies() -> Iterator[Attack]:
    # Box, bytes from the start of its payload, value in place of what is there.
    fields: dict[str, list[tuple[bytes, int, bytes]]] = {
        "duration": [(kind, at, b"\x7f\xff\xff\xff") for kind, at in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20))],
        "time-base-0": [(b"mvhd", 12, bytes(4)), (b"mdhd", 12, bytes(4))],
        "time-base-max": [(b"mvhd", 12, _MOST), (b"mdhd", 12, _MOST)],
        "times-without-end": [(b"stts", 8, _MOST + _MOST)],
        "times-0": [(b"stts", 8, _MOST + bytes(4))],
        "times-negative": [(b"stts", 12, b"\x80\x00\x00\x01")],
        "count-of-times": [(b"stts", 4, _MOST)],
        "count-of-sizes": [(b"stsz", 8, _MOST)],
        "count-of-offsets": [(b"stco", 4, _MOST)],
        "count-of-chunks": [(b"stsc", 4, _MOST)],
        "count-of-key-frames": [(b"stss", 4, _MOST)],
        "size-of-a-picture": [(b"stsz", 12, b"\x7f\xff\xff\xff")],
        "pictures-of-one-byte": [
            (b"stsz", 4, struct.pack(">II", 1, 50_000_000)),
            (b"stsc", 12, struct.pack(">I", 50_000_000)),
        ],
        "pictures-of-no-byte": [
            (b"stsz", 4, struct.pack(">II", 0, 50_000_000)),
            (b"stsc", 12, struct.pack(">I", 50_000_000)),
        ],
        "offset-beyond-the-end": [(b"stco", 8, b"\xff\xff\xff\x00")],
        "dimensions": [(b"tkhd", 76, b"\xff\xff\x00\x00\xff\xff\x00\x00"), (b"stsd", 40, b"\xff\xff\xff\xff")],
        "dimensions-0": [(b"tkhd", 76, bytes(8)), (b"stsd", 40, bytes(4))],
        "description-size": [(b"stsd", 8, b"\x7f\xff\xff\xff")],
        "count-of-descriptions": [(b"stsd", 4, _MOST)],
    }
    for name, patches in fields.items():
        movie = iso.Movie.parse(clip("mp4"))
        for kind, offset, value in patches:
            movie.first(kind).patch(offset, value)
        yield Attack("declared in a movie", f"{name}.mp4", movie.to_bytes())
    content = clip("mp4")
    for name, size in {"0": 0, "1": 1, "7": 7, "max": 2**32 - 1}.items():
        for kind in (b"ftyp", b"moov", b"trak", b"mdat"):
            at = content.index(kind) - 4
            changed = content[:at] + struct.pack(">I", size) + content[at + 4 :]
            yield Attack("box size", f"{kind.decode()}-{name}.mp4", changed)
    large = struct.pack(">I4sQ", 1, b"free", 2**63 - 1)
    yield Attack("box size", "64-bit.mp4", content + large)
    yield Attack("box size", "64-bit-first.mp4", large + content, must_be_refused=True)
    nested = b""
    for _ in range(3000):
        nested = iso.box(b"moov", nested)
    yield Attack("nesting", "boxes-in-boxes.mp4", content[: content.index(b"moov") - 4] + nested, must_be_refused=True)
    yield Attack("edit list", "repeats.mp4", edited([(1000, 0)] * 2000))
    yield Attack("edit list", "repeats-the-last-picture.mp4", edited([(2**31 - 1, 11 * 1024)] * 500))
    yield Attack("edit list", "empty-edits.mp4", edited([(2**31 - 1, -1)] * 500 + [(1000, 0)]))
    yield Attack("edit list", "beyond-the-end.mp4", edited([(1000, 2**31 - 1)]))
    yield Attack("edit list", "without-end.mp4", edited([(2**31 - 1, 0)] * 2))


def edited(edits: list[tuple[int, int]]) -> bytes:
    """A movie with these edits: duration in milliseconds, start in ticks of the media."""
    movie = iso.Movie.parse(clip("mp4"))
    entries = b"".join(struct.pack(">IiHH", duration, start, 1, 0) for duration, start in edits)
    movie.first(b"elst").payload = struct.pack(">II", 0, len(edits)) + entries
    return movie.to_bytes()


def _matroska() -> Iterator[Attack]:
    jpeg = picture("mjpeg")
    blocks = [matroska.Block(jpeg, cluster_time=83 * i) for i in range(6)]
    for scale in (0, 1, 2**32, 2**63, 2**64 - 1):
        yield Attack("declared in Matroska", f"time-base-{scale}.mkv", matroska.file(blocks, scale=scale))
    for duration in (0.0, -1.0, 1e300, float("inf"), float("nan")):
        yield Attack("declared in Matroska", f"duration-{duration}.mkv", matroska.file(blocks, duration=duration))
    for size in ((0, 0), (2**31 - 1, 2**31 - 1), (2**63 - 1, 1), (65535, 65535), (1, 2**20)):
        tracks = matroska.track(size=size)
        yield Attack("declared in Matroska", f"{size[0]}x{size[1]}.mkv", matroska.file(blocks, tracks=tracks))
    for codec in ("V_UNCOMPRESSED", "V_MS/VFW/FOURCC", "V_QUICKTIME", "V_MPEG4/ISO/AVC", "V_AV1", "A_PCM", ""):
        tracks = matroska.track(codec=codec)
        yield Attack("false codec", f"{codec.replace('/', '-')}.mkv", matroska.file(blocks, tracks=tracks))
    for algorithm, name in ((0, "zlib"), (1, "bzlib"), (2, "lzo")):
        bomb = zlib.compress(bytes(20_000_000), 9) if algorithm == 0 else bytes(range(256)) * 40
        tracks = matroska.track(more=_compressed(algorithm))
        content = matroska.file([matroska.Block(bomb), *blocks], tracks=tracks)
        yield Attack("compressed pictures", f"{name}.mkv", content)
    private = matroska.element(0x63A2, zlib.compress(bytes(20_000_000), 9))
    yield Attack(
        "compressed pictures",
        "private.mkv",
        matroska.file(blocks, tracks=matroska.track(more=_compressed(0, 2) + private)),
    )
    for lacing in (0x02, 0x04, 0x06):
        laced = [matroska.Block(b"\xff" + b"\xff" * 400 + jpeg, flags=0x80 | lacing)]
        yield Attack("lacing", f"{lacing}.mkv", matroska.file(laced + blocks))
    for name, identifier in {
        "void": matroska.VOID,
        "cluster": matroska.CLUSTER,
        "attachments": matroska.ATTACHMENTS,
    }.items():
        before = matroska.element(identifier, b"", size=b"\x01\xff\xff\xff\xff\xff\xff\xfe")
        yield Attack("element size", f"{name}.mkv", matroska.file(blocks, before=before))
    nested = b""
    for _ in range(2000):
        nested = matroska.element(0xB6, nested)  # chapters in chapters
    chapters = matroska.element(matroska.CHAPTERS, matroska.element(0x45B9, nested))
    yield Attack("nesting", "chapters-in-chapters.mkv", matroska.file(blocks, before=chapters))
    tags = b""
    for _ in range(2000):
        tags = matroska.element(0x67C8, matroska.element(0x45A3, b"NAME") + tags)
    tags = matroska.element(matroska.TAGS, matroska.element(0x7373, tags))
    yield Attack("nesting", "tags-in-tags.mkv", matroska.file(blocks, before=tags))


def _compressed(algorithm: int, scope: int = 1) -> bytes:
    compression = matroska.element(0x5034, matroska.element(0x4254, algorithm))
    encoding = matroska.element(0x6240, matroska.element(0x5032, scope) + compression)
    return matroska.element(0x6D80, encoding)


def _others() -> Iterator[Attack]:
    avi = clip("avi")
    for name, offset, value in [
        ("rate-0", 24, bytes(4)),
        ("scale-0", 20, bytes(4)),
        ("both-0", 20, bytes(8)),
        ("both-max", 20, _MOST * 2),
        ("length", 32, _MOST),
        ("start", 28, _MOST),
        ("sample-size", 44, _MOST),
        ("sample-size-1", 44, b"\x01\x00\x00\x00"),
    ]:
        yield Attack("declared in AVI", f"{name}.avi", _replaced(avi, b"vids", offset, value))
    yield Attack("declared in AVI", "dimensions.avi", _replaced(avi, b"strf", 12, b"\xff\xff\xff\x7f" * 2))
    yield Attack("declared in AVI", "chunk.avi", _replaced(avi, b"00dc", 4, b"\xff\xff\xff\x7f"))
    yield Attack("declared in AVI", "index.avi", _replaced(avi, b"idx1", 4, b"\xff\xff\xff\x7f"))
    yield Attack("declared in AVI", "list.avi", _replaced(avi, b"hdrl", -4, b"\xff\xff\xff\xff"))
    repeated = avi[avi.index(b"idx1") + 8 :][:16] * 4_000
    yield Attack(
        "declared in AVI",
        "repeats.avi",
        avi[: avi.index(b"idx1")] + b"idx1" + struct.pack("<I", len(repeated)) + repeated,
    )
    flv = clip("flv")
    for name, number in {"nan": float("nan"), "inf": float("inf"), "long": 1e9, "negative": -1e9}.items():
        for field in (b"duration", b"width", b"framerate"):
            value = struct.pack(">d", number)
            yield Attack(
                "declared in FLV", f"{field.decode()}-{name}.flv", _replaced(flv, field, len(field) + 1, value)
            )
    objects = b"\x03" + b"\x00\x01a\x03" * 3000
    script = b"\x02\x00\x0aonMetaData" + objects
    tag = b"\x12" + len(script).to_bytes(3) + bytes(7) + script + struct.pack(">I", len(script) + 11)
    yield Attack("nesting", "objects-in-objects.flv", flv[:13] + tag + flv[13:])
    arrays = b"\x02\x00\x0aonMetaData" + b"\x0a\xff\xff\xff\xff"
    tag = b"\x12" + len(arrays).to_bytes(3) + bytes(7) + arrays + struct.pack(">I", len(arrays) + 11)
    yield Attack("declared in FLV", "array.flv", flv[:13] + tag + flv[13:])
    gif = clip("gif")
    yield Attack("declared in GIF", "dimensions.gif", gif[:6] + _MOST + gif[10:])
    yield Attack("declared in GIF", "dimensions-0.gif", gif[:6] + bytes(4) + gif[10:])
    asf = clip("asf")
    properties = asf.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    for name, offset, value in [("packet-0", 92, bytes(8)), ("packet-max", 92, _MOST * 2), ("duration", 64, _MOST * 2)]:
        at = properties + offset
        yield Attack("declared in ASF", f"{name}.asf", asf[:at] + value + asf[at + len(value) :])
    yield Attack("declared in ASF", "object-size.asf", asf[: properties + 16] + bytes(8) + asf[properties + 24 :])
    ts = clip("ts")
    yield Attack("declared in MPEG-TS", "programs.ts", _programs(300) + ts)
    yield Attack("declared in MPEG-TS", "program-of-itself.ts", _programs(1, pid=0) + ts)
    yield Attack("declared in MPEG-TS", "section-length.ts", _replaced(ts, b"\x00\x00\xb0", 2, b"\xbf\xff"))
    first, *others = ogg.pages(clip("ogg"))
    for name, offset, value in [
        ("segments", -2, b"\xff"),
        ("dimensions", 8, _MOST),
        ("dimensions-0", 8, bytes(4)),
        ("rate-0", 18, bytes(8)),
        ("rate-max", 18, _MOST * 2),
    ]:
        page = ogg.signed(_replaced(first, b"OVP80", offset, value))
        yield Attack("declared in Ogg", f"{name}.ogg", page + b"".join(others))


def _replaced(content: bytes, after: bytes, offset: int, value: bytes) -> bytes:
    """`value` in place of what lies `offset` bytes from the first `after`."""
    at = content.index(after) + offset
    return content[:at] + value + content[at + len(value) :]


def _programs(count: int, pid: int | None = None) -> bytes:
    """Association tables of `count` programs, each of which has a table of its own to come."""
    packets = b""
    for first in range(0, count, 40):
        numbers = range(first + 1, min(first + 40, count) + 1)
        entries = b"".join(
            struct.pack(">HH", number, 0xE000 | (pid if pid is not None else 0x100 + number)) for number in numbers
        )
        section = b"\x00" + struct.pack(">HHBBB", 0xB000 | len(entries) + 9, 1, 0xC1, 0, 0) + entries
        section += ogg.crc32(section, 0xFFFFFFFF).to_bytes(4)
        packets += (b"\x47\x40\x00\x10\x00" + section).ljust(188, b"\xff")
    return packets


def _no_videos() -> Iterator[Attack]:
    files: dict[str, bytes] = {
        "empty.mp4": b"",
        "one-byte.mp4": b"\x00",
        "zeros.mp4": bytes(20_000),
        "zeros.ts": b"\x47" * 20_000,
        "text.mkv": b"Not a video.\n" * 100,
        "page.webm": b"<!doctype html><video src='file:///etc/passwd'>",
        "picture.mp4": picture("png"),
        "elf.avi": b"\x7fELF\x02\x01\x01" + bytes(200),
        "gzip.mp4": b"\x1f\x8b\x08" + bytes(7) + zlib.compress(bytes(100_000))[2:],
        "only-ftyp.mp4": iso.box(b"ftyp", b"isom" + bytes(4)),
        "only-headers.mkv": matroska.file([]),
        "only-headers.gif": clip("gif")[:13],
        "cover.mp3": _cover(),
    }
    for name, content in files.items():
        yield Attack("not a video", name, content, must_be_refused=True)


def _cover() -> bytes:
    """A sound file whose only picture is its cover."""
    jpeg = picture("mjpeg", WIDTH, HEIGHT)
    body = b"\x00image/jpeg\x00\x03\x00" + jpeg
    tag = b"APIC" + struct.pack(">IH", len(body), 0) + body
    size = len(tag)
    synchsafe = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    silence = (b"\xff\xfb\x50\xc0" + bytes(204)) * 40
    return b"ID3\x03\x00\x00" + synchsafe + tag + silence
