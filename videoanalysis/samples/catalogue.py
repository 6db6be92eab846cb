"""Searches the video catalogue of Pexels and picks the file of a video that suits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

BASE_URL = "https://api.pexels.com/videos"
QUERIES = (
    *("kitchen cooking", "office meeting", "street city traffic", "living room home", "restaurant cafe"),
    *("parking lot cars", "classroom students", "warehouse industrial", "grocery store shopping"),
    *("gym exercise workout", "person speaking", "crowd people walking", "laptop computer work", "outdoor nature"),
    *("presentation business", "conversation talking", "running jogging", "dining food", "shopping mall"),
    "park outdoor",
)
# More than wanted: the same video may answer several queries.
_SPARE_RESULTS = 2
_SEARCH_SECONDS = 30


@dataclass(frozen=True, slots=True)
class CatalogueVideo:
    id: int
    query: str
    duration: float  # seconds
    photographer: str
    url: str  # of the file that was picked
    width: int
    height: int


async def search(
    session: aiohttp.ClientSession, base_url: str, query: str, count: int, size: int
) -> list[CatalogueVideo]:
    """Of each video the file nearest to `size` pixels. Raises aiohttp.ClientError, TimeoutError or ValueError."""
    parameters = {"query": query, "per_page": str(count + _SPARE_RESULTS), "orientation": "landscape", "size": "medium"}
    timeout = aiohttp.ClientTimeout(total=_SEARCH_SECONDS)
    async with session.get(f"{base_url.rstrip('/')}/search", params=parameters, timeout=timeout) as response:
        response.raise_for_status()
        answer = await response.json()
    try:
        videos = [_video(item, query, size) for item in answer["videos"] if item["video_files"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"an answer of another form: {error!r}") from error
    return videos


def _video(item: dict[str, Any], query: str, size: int) -> CatalogueVideo:
    file = nearest_file(item["video_files"], size)
    return CatalogueVideo(
        id=int(item["id"]),
        query=query,
        duration=float(item["duration"]),
        photographer=str(item.get("user", {}).get("name", "")),
        url=str(file["link"]),
        width=int(file["width"] or 0),
        height=int(file["height"] or 0),
    )


def nearest_file(files: Sequence[dict[str, Any]], size: int) -> dict[str, Any]:
    """The one whose shorter side is nearest to `size`; any that is large enough goes before those that are not."""

    def distance(file: dict[str, Any]) -> tuple[bool, int]:
        shorter = min(file.get("width") or 0, file.get("height") or 0)
        return shorter < size, abs(shorter - size)

    return min(files, key=distance)
