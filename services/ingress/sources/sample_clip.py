"""sample://clip: a short video inside the service, allowed to every caller."""

import functools
import hashlib
from pathlib import Path

from services.ingress.sources.local_file import LocalFile

SAMPLE_CLIP_URI = "sample://clip"

_PATH = Path(__file__).with_name("sample_clip.mp4")


def sample_clip(max_bytes: int) -> LocalFile:
    return LocalFile(_PATH, max_bytes, _version())


@functools.cache
def _version() -> str:
    # A digest of the bytes: size, time and inode differ from image to image.
    return hashlib.sha256(_PATH.read_bytes()).hexdigest()
