"""Formats the scenes of a video for spreadsheets (CSV) and video editors (CMX3600 EDL, OpenTimelineIO)."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from videoanalysis.video_analysis import Scene, VideoAnalysis

FrameRate = Literal["23.976", "24", "25", "29.97", "30", "50", "59.94", "60"]
# Exact frames per second.
FRAME_RATES: dict[FrameRate, Fraction] = {
    "23.976": Fraction(24000, 1001),
    "24": Fraction(24),
    "25": Fraction(25),
    "29.97": Fraction(30000, 1001),
    "30": Fraction(30),
    "50": Fraction(50),
    "59.94": Fraction(60000, 1001),
    "60": Fraction(60),
}
# A spreadsheet evaluates a cell that starts with one of these as a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Footage:
    """The clip that the scenes belong to; `uri` is where editors find it, `frame_rate` in frames per second."""

    name: str
    uri: str
    frame_rate: Fraction


def csv_of(analysis: VideoAnalysis, footage: Footage) -> str:
    """One line per scene. A text that a spreadsheet would evaluate as a formula is prefixed with '."""
    output = io.StringIO()
    rows = csv.writer(output)
    rows.writerow(["scene", "start", "end", "start_seconds", "end_seconds", "tags", "caption"])
    for number, scene in enumerate(analysis.scenes, 1):
        times = [scene.start_seconds, scene.end_seconds]
        texts = [_tags(scene), scene.caption.text if scene.caption else ""]
        rows.writerow([number, *map(_clock, times), *(f"{time:.3f}" for time in times), *map(_cell, texts)])
    return output.getvalue()


def edl_of(analysis: VideoAnalysis, footage: Footage) -> str:
    """CMX3600, non-drop-frame: one event per scene, with equal source and record times.

    The format has no field for the frame rate: a comment in the first event states it.
    """
    rate = f"{float(footage.frame_rate):.3f}".rstrip("0").rstrip(".")
    lines = [f"TITLE: {_line(footage.name)}", "FCM: NON-DROP FRAME", ""]
    for number, (start, end, scene) in enumerate(_cuts(analysis, footage.frame_rate), 1):
        times = " ".join(_timecode(frame, footage.frame_rate) for frame in (start, end, start, end))
        lines += [f"{number:03}  AX       V     C        {times}", f"* FROM CLIP NAME: {_line(footage.name)}"]
        comments = [
            f"{rate} frames per second" if number == 1 else "",
            _tags(scene),
            scene.caption.text if scene.caption else "",
        ]
        lines += [*(f"* COMMENT: {_line(text)}" for text in comments if text), ""]
    return "\n".join(lines)


def otio_of(analysis: VideoAnalysis, footage: Footage) -> str:
    """An OpenTimelineIO timeline with one track and a clip per scene, all of the same media."""
    rate = float(footage.frame_rate)

    def time_range(start: int, end: int) -> dict[str, object]:
        return {
            "OTIO_SCHEMA": "TimeRange.1",
            "start_time": {"OTIO_SCHEMA": "RationalTime.1", "rate": rate, "value": float(start)},
            "duration": {"OTIO_SCHEMA": "RationalTime.1", "rate": rate, "value": float(end - start)},
        }

    media = {
        "OTIO_SCHEMA": "ExternalReference.1",
        "name": footage.name,
        "target_url": footage.uri,
        "available_range": time_range(0, round(analysis.video_duration_seconds * footage.frame_rate)),
    }
    clips = [
        {
            "OTIO_SCHEMA": "Clip.2",
            "name": f"scene {number}",
            "source_range": time_range(start, end),
            "media_references": {"DEFAULT_MEDIA": media},
            "active_media_reference_key": "DEFAULT_MEDIA",
            "metadata": {"videoanalysis": _metadata(scene)},
        }
        for number, (start, end, scene) in enumerate(_cuts(analysis, footage.frame_rate), 1)
    ]
    track = {"OTIO_SCHEMA": "Track.1", "name": "scenes", "kind": "Video", "children": clips}
    timeline = {
        "OTIO_SCHEMA": "Timeline.1",
        "name": footage.name,
        "tracks": {"OTIO_SCHEMA": "Stack.1", "name": "tracks", "children": [track]},
    }
    return json.dumps(timeline, indent=2)


SCENE_LIST_FORMATS: dict[str, Callable[[VideoAnalysis, Footage], str]] = {
    ".csv": csv_of,
    ".edl": edl_of,
    ".otio": otio_of,
}


def _cuts(analysis: VideoAnalysis, frame_rate: Fraction) -> list[tuple[int, int, Scene]]:
    """First frame of each scene and of its successor; scenes shorter than a frame are left out."""
    numbered = [
        (round(scene.start_seconds * frame_rate), round(scene.end_seconds * frame_rate), scene)
        for scene in analysis.scenes
    ]
    return [(start, end, scene) for start, end, scene in numbered if start < end]


def _timecode(frame: int, frame_rate: Fraction) -> str:
    """hh:mm:ss:ff, counted as non-drop-frame timecode is: 30 frames to the second at 29.97."""
    seconds, frames = divmod(frame, round(frame_rate))
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}:{frames:02}"


def _clock(seconds: float) -> str:
    """hh:mm:ss.mmm"""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds / 1000:06.3f}"


def _tags(scene: Scene) -> str:
    return "; ".join(tag.text for tag in scene.tags)


def _metadata(scene: Scene) -> dict[str, object]:
    tags = [{"text": tag.text, "probability": tag.probability} for tag in scene.tags]
    return {"tags": tags, "caption": scene.caption.text if scene.caption else ""}


def _line(text: str) -> str:
    return " ".join(_UNPRINTABLE.sub(" ", text).split())


def _cell(text: str) -> str:
    line = _line(text)
    return f"'{line}" if line.startswith(_FORMULA_STARTS) else line
