"""Formats times, numbers and names for display."""

from pathlib import Path

from videoanalysis.video_analysis import Caption, Model, Tag


def clock(seconds: float) -> str:
    """1:02:03.4"""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest / 10:04.1f}" if hours else f"{minutes}:{rest / 10:04.1f}"


def percent(probability: float) -> str:
    return f"{probability:.1%}" if probability >= 0.001 or probability == 0 else "< 0.1%"


def share_of_video(text: Tag | Caption) -> str:
    return f"{percent(text.probability)} of the video"


def peak(text: Tag | Caption) -> str:
    """The highest probability and its time; empty if unknown."""
    if text.max_probability is None or text.peak_seconds is None:
        return ""
    return f"{percent(text.max_probability)} at {clock(text.peak_seconds)}"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def model_name(model: Model) -> str:
    """The hub id, or the name of the directory."""
    return Path(model.model_id).name if model.model_id.startswith("/") else model.model_id


def short_digest(digest: str) -> str:
    return digest[: len("sha256:") + 12]
