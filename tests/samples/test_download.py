"""Sample videos from a stand-in of the Pexels API on loopback into an S3 server."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import pytest
from aiohttp import web

from tests.rendering import render, steady
from videoanalysis.errors import Unavailable
from videoanalysis.samples.catalogue import QUERIES, nearest_file
from videoanalysis.samples.download import download_samples
from videoanalysis.samples.normalise import normalise
from videoanalysis.storage import S3Uri, Storage

KEY = "a key"


class Catalogue:
    """Answers each query with its own video and one that all have; refuses other keys."""

    def __init__(self, clip: Path) -> None:
        self.clip = clip
        self.searches: list[str] = []
        self.keys_seen_by_files: list[str] = []
        self.running = self.most_at_once = 0
        self.url = ""

    async def search(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != KEY:
            return web.Response(status=401)
        query = request.query["query"]
        self.searches.append(query)
        if query == "park outdoor":
            return web.Response(status=500)
        number = QUERIES.index(query) + 1
        return web.json_response({"videos": [self._video(0), self._video(number)]})

    def _video(self, number: int) -> dict:
        files = [
            {"link": f"{self.url}/files/{number}/{height}", "width": 16 * height // 9, "height": height}
            for height in (240, 360, 720, 1080)
        ]
        return {"id": 100 + number, "duration": 2, "user": {"name": "Zoë"}, "video_files": files}

    async def file(self, request: web.Request) -> web.StreamResponse:
        self.keys_seen_by_files.append(request.headers.get("Authorization", ""))
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            assert request.match_info["height"] == "720"
            if request.match_info["number"] == "3":
                return web.Response(status=404)
            if request.match_info["number"] == "4":
                return web.Response(body=b"not a video")
            return web.FileResponse(self.clip)
        finally:
            self.running -= 1


@pytest.fixture
async def catalogue(tmp_path: Path) -> AsyncIterator[Catalogue]:
    clip = render(tmp_path / "clip.mp4", steady(25, 1), width=320, height=180)
    catalogue = Catalogue(clip)
    app = web.Application()
    app.router.add_get("/videos/search", catalogue.search)
    app.router.add_get("/files/{number}/{height}", catalogue.file)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    catalogue.url = f"http://{host}:{port}"
    yield catalogue
    await runner.cleanup()


async def test_videos_are_normalised_and_uploaded_with_a_manifest_and_failures_are_listed(
    catalogue: Catalogue, storage: Storage, bucket: str
) -> None:
    seen = []
    samples = await download_samples(
        storage,
        S3Uri(bucket, "stock-videos/"),
        KEY,
        total=6,
        base_url=f"{catalogue.url}/videos",
        on_progress=lambda done, total, text: seen.append((done, total)),
    )
    assert sorted(catalogue.searches) == sorted(QUERIES)
    assert seen == [(done, 6) for done in range(1, 7)]
    assert len(samples.failures) == 3  # one search, one missing file, one that is no video
    stored = {str(item.uri) for item in await storage.list(S3Uri(bucket, "stock-videos/"))}
    videos = samples.manifest["videos"]
    assert len(videos) == samples.manifest["total_videos"] == 4
    assert stored == {video["s3_uri"] for video in videos} | {f"s3://{bucket}/stock-videos/manifest.json"}
    manifest = json.loads(await storage.read(S3Uri(bucket, "stock-videos/manifest.json"), 1 << 20))
    assert manifest == samples.manifest
    assert len({video["pexels_id"] for video in videos}) == 4
    assert 1 <= catalogue.most_at_once <= 5
    assert set(catalogue.keys_seen_by_files) == {""}


async def test_a_manifest_is_reused_by_default(catalogue: Catalogue, storage: Storage, bucket: str) -> None:
    where, base_url = S3Uri(bucket, ""), f"{catalogue.url}/videos"
    first = await download_samples(storage, where, KEY, total=1, base_url=base_url)
    searches = len(catalogue.searches)
    again = await download_samples(storage, where, KEY, total=1, base_url=base_url)
    assert (again.manifest, again.is_reused, len(catalogue.searches)) == (first.manifest, True, searches)
    anew = await download_samples(storage, where, KEY, total=1, base_url=base_url, overwrite=True)
    assert not anew.is_reused
    assert len(catalogue.searches) == 2 * searches


async def test_a_wrong_key_writes_nothing(catalogue: Catalogue, storage: Storage, bucket: str) -> None:
    with pytest.raises(Unavailable, match="401"):
        await download_samples(storage, S3Uri(bucket, ""), "wrong", base_url=f"{catalogue.url}/videos")
    assert await storage.list(S3Uri(bucket, "")) == []


def test_a_normalised_video_is_letterboxed_at_30_frames_with_a_key_frame_every_second(tmp_path: Path) -> None:
    source = render(
        tmp_path / "wide.mp4",
        steady(25, 3),
        width=320,
        height=180,
        draw=lambda index, scene, width, height: np.full((height, width, 3), 200, np.uint8),
    )
    normalise(source, tmp_path / "normal.mp4")
    with av.open(str(tmp_path / "normal.mp4")) as video:
        frames = list(video.decode(video=0))
    assert [frame.key_frame for frame in frames] == [index % 30 == 0 for index in range(len(frames))]
    assert abs(len(frames) - 90) <= 1
    assert np.allclose([frame.time for frame in frames], np.arange(len(frames)) / 30)
    picture = frames[10].to_ndarray(format="gray")
    assert picture.shape == (384, 384)
    assert picture[:80].max() < 30
    assert picture[-80:].max() < 30
    assert picture[90:-90].min() > 150


def test_the_nearest_file_is_large_enough_if_any_is() -> None:
    files = [{"width": height, "height": height} for height in (1080, 360, 480)]
    assert nearest_file(files, 384)["height"] == 480
    assert nearest_file(files[1:2], 384)["height"] == 360


def test_the_command_needs_a_key() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PEXELS_API_KEY"}
    command = [
        sys.executable,
        "-c",
        "from videoanalysis.cli import main; main()",
        "download-samples",
        "s3://bucket/samples/",
    ]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "PEXELS_API_KEY" in ended.stderr
