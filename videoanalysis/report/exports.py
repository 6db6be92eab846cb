"""Writes the report and the scene lists, with thumbnails taken from the video file."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from videoanalysis.atomic_write import write_atomically
from videoanalysis.formatting import clock
from videoanalysis.report.page import render
from videoanalysis.report.scene_list import SCENE_LIST_FORMATS, Footage
from videoanalysis.video_analysis import VideoAnalysis

if TYPE_CHECKING:
    from videoanalysis.report.thumbnails import Thumbnail

# About 8 kB each: a report stays under 5 MB for any length of video.
MAX_THUMBNAILS = 400
_THUMBNAILS_BUDGET_SECONDS = 60.0


def write_scenes(path: Path, analysis: VideoAnalysis, footage: Footage) -> None:
    """Write the scenes in the format that the suffix of `path` names, one of SCENE_LIST_FORMATS; without one, CSV."""
    write_atomically(path, SCENE_LIST_FORMATS[path.suffix.lower() or ".csv"](analysis, footage).encode())


async def write_report(
    path: Path, analysis: VideoAnalysis, video: str, file: Path | None, scene_threshold: float, trace_url: str = ""
) -> None:
    """Write the report on `video`, with thumbnails if its `file` is on this machine and PyAV is installed.

    `trace_url` is the address of a trace, with {trace_id} in place of its id.
    """
    thumbnails, note = await _thumbnails(analysis, file)
    page = render(
        analysis,
        video=video,
        scene_threshold=scene_threshold,
        made_at=datetime.now(UTC),
        thumbnails=thumbnails,
        note=note,
        trace_url=trace_url,
    )
    write_atomically(path, page.encode())


async def _thumbnails(analysis: VideoAnalysis, file: Path | None) -> tuple[dict[float, "Thumbnail"], str]:
    """Thumbnails of the sampled frames, and a note on those that are missing."""
    if file is None:
        return {}, "No thumbnails: the video is not a file on the machine that made this report."
    try:
        from videoanalysis.report import thumbnails
    except ModuleNotFoundError:
        return {}, "No thumbnails: PyAV is not installed on the machine that made this report (pip install av)."
    times = sorted({time for chunk in analysis.chunks for time in chunk.frame_times_seconds})
    wanted = _evenly_spread(times, MAX_THUMBNAILS)
    taken: dict[float, Thumbnail] = {}
    for time, thumbnail in thumbnails.take(file, wanted, budget_seconds=_THUMBNAILS_BUDGET_SECONDS):
        taken[time] = thumbnail
        # Lets a signal cancel the work.
        await asyncio.sleep(0)
    if not taken:
        return {}, "No thumbnails: the file could not be decoded on the machine that made this report."
    if len(taken) < len(wanted):
        return taken, f"Thumbnails end at {clock(max(taken))}: the rest could not be decoded, or not within a minute."
    if len(wanted) < len(times):
        return taken, f"{len(wanted):,} of {len(times):,} sampled frames have thumbnails, evenly spread over the video."
    return taken, ""


def _evenly_spread(times: Sequence[float], limit: int) -> Sequence[float]:
    """At most `limit` of `times`, among them the first and the last."""
    if len(times) <= limit:
        return times
    return [times[round(i * (len(times) - 1) / (limit - 1))] for i in range(limit)]
