"""Files that an analysis is written to, for people and for other programs."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from videoanalysis import report
from videoanalysis.atomic_write import write_whole
from videoanalysis.report import scene_list
from videoanalysis.report.scene_list import Footage
from videoanalysis.video_analysis import VideoAnalysis
from videoanalysis.wording import clock

if TYPE_CHECKING:
    from videoanalysis.report.thumbnails import Thumbnail

# Of some 8 kB each: a report stays under 5 MB, however long the video is.
MAX_THUMBNAILS = 400
_THUMBNAILS_BUDGET_SECONDS = 60.0


def write_scenes(path: Path, analysis: VideoAnalysis, footage: Footage) -> None:
    """Write the scenes in the format that the suffix of `path` names, one of scene_list.WRITERS."""
    write_whole(path, scene_list.WRITERS[path.suffix.lower()](analysis, footage).encode())


async def write_report(
    path: Path, analysis: VideoAnalysis, video: str, file: Path | None, scene_threshold: float
) -> None:
    """Write the report on `video`, with pictures if its `file` is on this machine and PyAV is installed."""
    thumbnails, note = await _thumbnails(analysis, file)
    page = report.render(
        analysis,
        video=video,
        scene_threshold=scene_threshold,
        made_at=datetime.now(UTC),
        thumbnails=thumbnails,
        note=note,
    )
    write_whole(path, page.encode())


async def _thumbnails(analysis: VideoAnalysis, file: Path | None) -> tuple[dict[float, "Thumbnail"], str]:
    """Those of the sampled frames, and what is to be said about them."""
    if file is None:
        return {}, "There are no pictures: the video is not a file of the machine on which this report was made."
    try:
        from videoanalysis.report import thumbnails
    except ModuleNotFoundError:
        return {}, "There are no pictures: PyAV was not installed where this report was made (pip install av)."
    times = sorted({time for chunk in analysis.chunks for time in chunk.frame_times_seconds})
    wanted = _evenly_spread(times, MAX_THUMBNAILS)
    taken: dict[float, Thumbnail] = {}
    for time, thumbnail in thumbnails.take(file, wanted, budget_seconds=_THUMBNAILS_BUDGET_SECONDS):
        taken[time] = thumbnail
        # Whoever does not want to wait can leave here.
        await asyncio.sleep(0)
    if not taken:
        return {}, "There are no pictures: the file could not be decoded where this report was made."
    if len(taken) < len(wanted):
        return taken, f"Pictures end at {clock(max(taken))}: the rest could not be decoded, or not in a minute."
    if len(wanted) < len(times):
        return taken, f"Of {len(times):,} sampled frames {len(wanted):,} are pictured, evenly spread over the video."
    return taken, ""


def _evenly_spread(times: Sequence[float], limit: int) -> Sequence[float]:
    """At most `limit` of `times`, among them the first and the last."""
    if len(times) <= limit:
        return times
    return [times[round(i * (len(times) - 1) / (limit - 1))] for i in range(limit)]
