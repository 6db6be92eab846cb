"""Pages of an Ogg file, taken apart and put together again with their checksums."""

from collections.abc import Iterator


def pages(content: bytes) -> Iterator[bytes]:
    for page in content.split(b"OggS")[1:]:
        yield b"OggS" + page


def signed(page: bytes) -> bytes:
    """`page` with the right checksum, without which it is passed over."""
    page = page[:22] + bytes(4) + page[26:]
    return page[:22] + crc32(page, 0).to_bytes(4, "little") + page[26:]


def crc32(content: bytes, remainder: int) -> int:
    """Of polynomial 04C11DB7, most significant bit first, as in Ogg and MPEG-TS but not in zlib."""
    for byte in content:
        remainder ^= byte << 24
        for _ in range(8):
            remainder = (remainder << 1 ^ (0x04C11DB7 if remainder & 0x80000000 else 0)) & 0xFFFFFFFF
    return remainder
