"""Writes an analysis to files: an HTML page for people, scene lists (CSV, EDL, OTIO) for other programs."""

from videoanalysis.report.exports import write_report, write_scenes
from videoanalysis.report.scene_list import FRAME_RATES, SCENE_LIST_FORMATS, Footage, FrameRate

__all__ = ["FRAME_RATES", "SCENE_LIST_FORMATS", "Footage", "FrameRate", "write_report", "write_scenes"]
