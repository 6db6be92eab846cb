"""A video URI in, an open file with the video's bytes out: objects in S3, https servers, local files, a sample clip."""

from services.ingress.sources.media import Media, Source
from services.ingress.sources.scratch import ScratchSpace
from services.ingress.sources.sources import Allowed, Sources

__all__ = ["Allowed", "Media", "ScratchSpace", "Source", "Sources"]
