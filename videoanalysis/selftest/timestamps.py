"""Timestamps that no camera writes: far apart, negative, wrapped, going back."""

import struct
from collections.abc import Iterator
from fractions import Fraction

from videoanalysis.selftest import iso, matroska, ogg
from videoanalysis.selftest.attack import Attack
from videoanalysis.selftest.clips import RATE, clip, picture


def attacks() -> Iterator[Attack]:
    jpeg = picture("mjpeg")
    hour = 3_600_000
    times: dict[str, list[int]] = {
        "an hour apart": [0, hour],
        "years apart": [0, 2**40],
        "as far apart as possible": [0, 2**63 - 1],
        "negative": [-5000, -4000, -3000],
        "from the most negative": [-(2**63), 0, 1000],
        "wrapped": [2**63 - 100, 2**63 - 1, 2**63, 2**63 + 100],
        "all the same": [0] * 40,
        "going back": list(range(4000, 0, -83)),
        "back and forth": [0, hour] * 20,
        "ever farther": [2**i for i in range(62)],
        "one far ahead": [0, 83, 166, 2**50, 249, 332],
        "thousands in a millisecond": [i // 1000 for i in range(2000)],
    }
    for name, clock in times.items():
        pictures = jpeg if len(clock) < 100 else b"\xff\xd8"
        blocks = [matroska.Block(pictures if i else jpeg, cluster_time=time) for i, time in enumerate(clock)]
        yield Attack(f"times: {name}", "video.mkv", matroska.file(blocks))
    for offset in (-32768, -1, 32767):
        blocks = [matroska.Block(jpeg, cluster_time=time, offset=offset) for time in (0, 83, 166)]
        yield Attack("times: block offsets", f"{offset}.mkv", matroska.file(blocks))
    ahead = {"33 bits run over": Fraction(2**33, 90000) - Fraction(1, 2), "start at a day": Fraction(86400)}
    for name, start in ahead.items():
        yield Attack(f"times: {name}", "video.ts", clip("ts", start=start))
    yield Attack("times: 33 bits run over", "spliced.ts", clip("ts", start=ahead["33 bits run over"]) + clip("ts"))
    yield Attack("times: clock restarts", "video.ts", clip("ts") * 6)
    yield Attack("times: clock restarts", "video.mpg", clip("mpg") * 5)
    yield Attack("times: clock restarts", "video.ogg", clip("ogg") * 5)
    yield Attack("times: clock restarts", "video.flv", clip("flv") * 5)
    head, *rest = ogg.pages(clip("ogg"))
    for name, granule in {"minus one": 2**64 - 1, "most negative": 2**63, "far ahead": 2**62}.items():
        changed = (ogg.signed(page[:6] + struct.pack("<Q", granule) + page[14:]) for page in rest[1:])
        yield Attack("times: granules", f"{name}.ogg", head + rest[0] + b"".join(changed))
    for name, offsets in {"far ahead": 2**31 - 1, "far behind": -(2**31)}.items():
        movie = iso.Movie.parse(clip("mp4"))
        reorder = struct.pack(">III", 1 << 24, 1, RATE) + struct.pack(">i", offsets)
        movie.first(b"ctts").payload = reorder
        yield Attack("times: composition offsets", f"{name}.mp4", movie.to_bytes())
    fragmented = {"movflags": "frag_keyframe+empty_moov"}
    content = clip("mp4", options=fragmented)
    for name, decode_time in {"far ahead": 2**63 - 1, "negative": 2**64 - 1}.items():
        at = content.index(b"tfdt") + 8
        yield Attack(
            "times: fragments", f"{name}.mp4", content[:at] + struct.pack(">Q", decode_time) + content[at + 8 :]
        )
    at = content.index(b"trun") + 8
    yield Attack("times: fragments", "count.mp4", content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :])
    yield Attack("times: fragments", "repeated.mp4", content + content[content.index(b"moof") - 4 :] * 8)
