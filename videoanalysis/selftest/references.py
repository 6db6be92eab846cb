"""Files that name other files or addresses: playlists, scripts, and movies whose pictures are in other files."""

import struct
from collections.abc import Iterator

from videoanalysis.selftest import iso
from videoanalysis.selftest.attack import Attack
from videoanalysis.selftest.clips import CONTAINERS, clip


def attacks(file: str, address: str) -> Iterator[Attack]:
    """`file` is an absolute path on the disk of the service, `address` host:port; neither may be used."""
    for name, text in _scripts(file, address).items():
        # The name of an object decides nothing, so each script comes under every accepted suffix.
        for suffix in (*CONTAINERS, "mj2", "mp3", name.split()[0]):
            yield Attack(f"{name} script", f"script.{suffix}", text.encode(), must_be_refused=True)
    for name, prefix in {
        "ID3": b"ID3\x04\x00\x00\x00\x00\x00\x00",
        "ftyp": iso.box(b"ftyp", b"isom" + bytes(4)),
    }.items():
        text = _scripts(file, address)["ffconcat"]
        yield Attack("script after a header", f"{name}.mp4", prefix + text.encode(), must_be_refused=True)
    for name, entry in _data_references(file, address).items():
        movie = iso.Movie.parse(clip("mov"))
        movie.first(b"dref").payload = struct.pack(">II", 0, 1) + entry
        movie.boxes = [box for box in movie.boxes if box.kind != b"mdat"]
        yield Attack("data reference of a movie", name, movie.to_bytes(), must_be_refused=True)
    alias = iso.Movie([iso.Box(b"moov", iso.box(b"rmra", iso.box(b"rmda", _reference_movie(file, address))))])
    yield Attack("reference movie", "rmra.mov", alias.to_bytes(), must_be_refused=True)


def _scripts(file: str, address: str) -> dict[str, str]:
    http, relative = f"http://{address}/video.mp4", file.lstrip("/")
    playlist = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:10\n"
    return {
        "m3u8 of a file": f"{playlist}#EXTINF:1,\n{file}\n#EXTINF:1,\nfile://{file}\n#EXT-X-ENDLIST\n",
        "m3u8 of an address": f"{playlist}#EXTINF:1,\n{http}\n#EXT-X-ENDLIST\n",
        "m3u8 with a key": f'{playlist}#EXT-X-KEY:METHOD=AES-128,URI="{http}"\n#EXT-X-MAP:URI="{file}"\n'
        f"#EXTINF:1,\ncrypto:{file}\n#EXT-X-ENDLIST\n",
        "m3u8 of playlists": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{http}\n",
        "mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT10S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="v" '
        f'bandwidth="1000"><BaseURL>{http}</BaseURL><SegmentList><Initialization sourceURL="{file}"/>'
        f'<SegmentURL media="{file}"/></SegmentList></Representation></AdaptationSet></Period></MPD>',
        "ffconcat": f"ffconcat version 1.0\nfile '{relative}'\nfile '{file}'\nfile '{http}'\n",
        "sdp": f"v=0\no=- 0 0 IN IP4 {address.rpartition(':')[0]}\ns=x\nc=IN IP4 {address.rpartition(':')[0]}\nt=0 0\n"
        f"m=video {address.rpartition(':')[2]} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "asx": f'<asx version="3.0"><entry><ref href="{http}"/></entry><entry><ref href="{file}"/></entry></asx>',
        "ref": f"[Reference]\r\nRef1={http}?MSWMExt=.asf\r\nRef2={file}\r\n",
        "smil": f'<smil><body><video src="{http}"/><video src="{file}"/></body></smil>',
        "pls": f"[playlist]\nNumberOfEntries=2\nFile1={http}\nFile2={file}\n",
        "ram": f"rtsp://{address}/video\nrtmp://{address}/video\n{http}\n",
        "idx": f"# VobSub index file, v7\nsize: 48x32\nid: en, index: 0\ntimestamp: 00:00:00:000, filepos: 0\n{file}\n",
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{http}"/><image href="file://{file}"/></svg>',
    }


def _data_references(file: str, address: str) -> dict[str, bytes]:
    """Entries of a dref box that all refer to other files than the movie itself."""
    path = file.encode()
    alias = bytearray(150)
    alias[10 + 40 : 10 + 41] = b"\x00"
    fields = b"".join(
        struct.pack(">HH", kind, len(value)) + value + bytes(len(value) & 1)
        for kind, value in [(2, path), (18, path), (19, b"/"), (0xFFFF, b"")]
    )
    return {
        "url-of-a-file.mov": iso.box(b"url ", bytes(4) + b"file://" + path + b"\0"),
        "url-of-an-address.mov": iso.box(b"url ", bytes(4) + f"http://{address}/video.mov".encode() + b"\0"),
        "alias-of-a-file.mov": iso.box(b"alis", bytes(4) + bytes(alias) + fields),
        "resource.mov": iso.box(b"rsrc", bytes(4) + bytes(alias) + fields),
        "url-in-an-alias.mov": iso.box(b"alis", bytes(4) + b"file://" + path + b"\0"),
    }


def _reference_movie(file: str, address: str) -> bytes:
    urls = [f"http://{address}/video.mov", f"file://{file}"]
    return b"".join(
        iso.box(b"rdrf", bytes(4) + b"url " + struct.pack(">I", len(url) + 1) + url.encode() + b"\0") for url in urls
    )
