import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.analyses import analysis
from tests.rendering import render, steady
from tests.report.pages import Element, read
from videoanalysis.report.exports import MAX_THUMBNAILS, write_report, write_scenes
from videoanalysis.report.scene_list import FRAME_RATES, SCENE_LIST_FORMATS, Footage


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("clip") / "clip.mp4", steady(10, 12))


async def written(directory: Path, file: Path | None, **arguments: object) -> Element:
    path = directory / "report.html"
    await write_report(path, analysis(**arguments), "clip.mp4", file, 0.15)
    return read(path.read_text())


async def test_every_sampled_frame_of_a_file_is_pictured(clip, tmp_path):
    root = await written(tmp_path, clip, seconds=12, frames=8)
    assert len(root.all("image")) == len(root.one(class_="store").all("image")) == 16
    assert not root.section("Timeline").all(class_="note")


async def test_of_many_frames_some_are_pictured_with_a_note(clip, tmp_path):
    root = await written(tmp_path, clip, seconds=12, frames=300)
    assert len(root.all("image")) == MAX_THUMBNAILS
    labels = [figure.one("svg").attributes["aria-label"] for figure in root.all("figure") if figure.all("svg")]
    assert (labels[0], labels[-1]) == ("frame at 0:00.0", "frame at 0:12.0")
    note = root.section("Timeline").one(class_="note").text
    assert note == "400 of 600 sampled frames have thumbnails, evenly spread over the video."


async def test_a_video_on_another_machine_is_reported_without_thumbnails(tmp_path):
    root = await written(tmp_path, None)
    assert not root.all("image")
    assert "not a file on the machine" in root.section("Timeline").one(class_="note").text


async def test_a_file_that_cannot_be_decoded_is_reported_without_thumbnails(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    root = await written(tmp_path, tmp_path / "clip.mp4")
    assert not root.all("image")
    assert "could not be decoded" in root.section("Timeline").one(class_="note").text


def test_without_pyav_the_report_is_made_without_thumbnails(clip, tmp_path):
    program = f"""
import asyncio, sys
sys.modules["av"] = None
from pathlib import Path
from tests.analyses import analysis
from videoanalysis.report.exports import write_report
asyncio.run(write_report(Path({str(tmp_path / "report.html")!r}), analysis(), "clip", Path({str(clip)!r}), 0.15))
"""
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], timeout=60, check=True)
    root = read((tmp_path / "report.html").read_text())
    assert not root.all("image")
    assert "PyAV is not installed" in root.section("Timeline").one(class_="note").text


async def test_making_thumbnails_can_be_cancelled(clip, tmp_path):
    writing = asyncio.create_task(write_report(tmp_path / "report.html", analysis(), "clip.mp4", clip, 0.15))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait([writing])
    assert writing.cancelled()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".csv", ".edl", ".otio", ".CSV"])
def test_the_suffix_names_the_format_of_a_scene_list(suffix, tmp_path):
    path, footage = tmp_path / f"scenes{suffix}", Footage("clip.mp4", "s3://bucket/clip.mp4", FRAME_RATES["25"])
    write_scenes(path, analysis(), footage)
    assert path.read_bytes().decode() == SCENE_LIST_FORMATS[suffix.lower()](analysis(), footage)
