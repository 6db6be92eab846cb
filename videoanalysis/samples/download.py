"""Downloads, normalises and uploads sample videos, a few at a time, and keeps a manifest of them."""

import asyncio
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import aiohttp
import av

from videoanalysis.errors import NotFound, ServiceError, Unavailable
from videoanalysis.samples.catalogue import BASE_URL, QUERIES, CatalogueVideo, search
from videoanalysis.samples.normalise import RATE, SIZE, normalise
from videoanalysis.storage import S3Uri, Storage

MANIFEST = "manifest.json"
AT_ONCE = 5
_DOWNLOAD_SECONDS = 120
_MAX_BYTES = 500 << 20
_MAX_MANIFEST_BYTES = 4 << 20
_BLOCK_BYTES = 1 << 20
_MAX_NAME_CHARACTERS = 30
_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, ValueError, av.FFmpegError, ServiceError)


@dataclass
class Samples:
    """The manifest, whether it was there before, and what was skipped and why."""

    manifest: dict[str, Any]
    is_reused: bool = False
    failures: list[str] = field(default_factory=list)


# Called with the videos that are done, skipped ones included, their total, and what was done.
OnProgress = Callable[[int, int, str], None]


async def download_samples(
    storage: Storage,
    prefix: S3Uri,
    api_key: str,
    *,
    total: int = 20,
    per_query: int = 1,
    overwrite: bool = False,
    base_url: str = BASE_URL,
    queries: Sequence[str] = QUERIES,
    on_progress: OnProgress = lambda *_: None,
) -> Samples:
    """Uploads `total` videos under `prefix`, a key that ends in a slash or is empty; the manifest last.

    A manifest that is there is returned as it is, unless `overwrite`. Raises Unavailable if no query is answered, and
    the errors of the storage.
    """
    manifest_uri = S3Uri(prefix.bucket, prefix.key + MANIFEST)
    if not overwrite:
        try:
            return Samples(json.loads(await storage.read(manifest_uri, _MAX_MANIFEST_BYTES)), is_reused=True)
        except NotFound:
            pass
    failures: list[str] = []
    slots = asyncio.Semaphore(AT_ONCE)
    done = 0
    async with aiohttp.ClientSession(headers={"Authorization": api_key}) as session:

        async def found_by(query: str) -> list[CatalogueVideo]:
            async with slots:
                try:
                    return await search(session, base_url, query, per_query, SIZE)
                except _FAILURES as error:
                    failures.append(f"{query}: {_reason(error)}")
                    return []

        found = await asyncio.gather(*map(found_by, queries))
        if queries and len(failures) == len(queries):
            raise Unavailable(f"no search was answered: {failures[0]}")
        chosen = _choose(found, total, per_query)

        async def stored(number: int, video: CatalogueVideo) -> dict[str, Any] | None:
            nonlocal done
            name = f"{video.query.replace(' ', '_')[:_MAX_NAME_CHARACTERS]}_{video.id}_{number:02}.mp4"
            uri = S3Uri(prefix.bucket, prefix.key + name)
            result = None
            async with slots:
                try:
                    await _store(storage, session, video, uri)
                    result = _entry(video, name, uri)
                except _FAILURES as error:
                    failures.append(f"{name}: {_reason(error)}")
            done += 1
            on_progress(done, len(chosen), name if result else failures[-1])
            return result

        async with asyncio.TaskGroup() as tasks:
            results = [tasks.create_task(stored(number, video)) for number, video in enumerate(chosen)]
    videos = [entry for task in results if (entry := task.result()) is not None]
    manifest = {
        "total_videos": len(videos),
        "s3_bucket": prefix.bucket,
        "s3_prefix": prefix.key,
        "normalized": True,
        "normalize_settings": {"width": SIZE, "height": SIZE, "fps": RATE},
        "videos": videos,
    }
    await storage.write(manifest_uri, json.dumps(manifest, indent=2).encode(), "application/json")
    return Samples(manifest, failures=failures)


def _choose(found: Sequence[Sequence[CatalogueVideo]], total: int, per_query: int) -> list[CatalogueVideo]:
    """Each video once: `per_query` of each query, and the spare ones where those do not suffice."""
    first = chain.from_iterable(videos[:per_query] for videos in found)
    spare = chain.from_iterable(videos[per_query:] for videos in found)
    by_id: dict[int, CatalogueVideo] = {}
    for video in chain(first, spare):
        by_id.setdefault(video.id, video)
    return list(by_id.values())[:total]


async def _store(storage: Storage, session: aiohttp.ClientSession, video: CatalogueVideo, uri: S3Uri) -> None:
    with tempfile.TemporaryDirectory() as folder:
        original, normalised = Path(folder) / "original", Path(folder) / "normalised.mp4"
        timeout = aiohttp.ClientTimeout(total=_DOWNLOAD_SECONDS)
        # The files are on another host, which must not see the key.
        async with session.get(video.url, timeout=timeout, headers={"Authorization": ""}) as got:
            got.raise_for_status()
            with original.open("wb") as file:
                async for block in got.content.iter_chunked(_BLOCK_BYTES):
                    if file.tell() + len(block) > _MAX_BYTES:
                        raise ValueError(f"over {_MAX_BYTES} bytes")
                    await asyncio.to_thread(file.write, block)
        await asyncio.to_thread(normalise, original, normalised)
        with normalised.open("rb") as file:
            await storage.write(uri, file, "video/mp4")


def _entry(video: CatalogueVideo, name: str, uri: S3Uri) -> dict[str, Any]:
    return {
        "filename": name,
        "s3_uri": str(uri),
        "s3_key": uri.key,
        "pexels_id": video.id,
        "query": video.query,
        "photographer": video.photographer,
        "duration": video.duration,
        "width": SIZE,
        "height": SIZE,
    }


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientResponseError):
        return f"HTTP {error.status} {error.message}"
    return str(error) or type(error).__name__
