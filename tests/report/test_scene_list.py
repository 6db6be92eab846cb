"""Scene lists, read back by the programs that they are for."""

import csv
import io
from typing import get_args

import opentimelineio as otio
import pytest

from tests.analyses import analysis
from videoanalysis.report.scene_list import FRAME_RATES, Footage, FrameRate, csv_of, edl_of, otio_of


def footage(rate: str = "25", name: str = "holiday.mp4") -> Footage:
    return Footage(name, f"s3://bucket/{name}", FRAME_RATES[rate])


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def clips(text: str, adapter: str, **options: object) -> list[otio.schema.Clip]:
    return list(otio.adapters.read_from_string(text, adapter, **options).find_clips())


def seconds(times: otio.opentime.TimeRange) -> tuple[float, float]:
    return times.start_time.to_seconds(), times.end_time_exclusive().to_seconds()


def test_csv_has_a_line_for_each_scene():
    first, second, third = rows(csv_of(analysis(seconds=3725.5, cuts=(3.4, 12.04)), footage()))
    assert first == {
        "scene": "1",
        "start": "00:00:00.000",
        "end": "00:00:03.400",
        "start_seconds": "0.000",
        "end_seconds": "3.400",
        "tags": "beach; forest",
        "caption": "Waves on the sand",
    }
    assert (second["start"], second["end"]) == ("00:00:03.400", "00:00:12.040")
    assert third["end"] == "01:02:05.500"


@pytest.mark.parametrize("text", ["=1+2", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1"])
def test_a_spreadsheet_finds_no_formula(text):
    for row in rows(csv_of(analysis(tags=(text, "beach"), caption=text), footage())):
        assert row["tags"].startswith("'")
        assert row["caption"].startswith("'")
    for line in csv_of(analysis(tags=(text,), caption=text), footage()).splitlines():
        assert not line.startswith(("=", "+", "-", "@"))


def test_quotes_commas_and_new_lines_stay_within_their_cell():
    (row,) = rows(csv_of(analysis(cuts=(), tags=('a "b", c',), caption="one\ntwo\u2028three"), footage()))
    assert (row["tags"], row["caption"]) == ('a "b", c', "one two three")


def test_otio_has_a_clip_for_each_scene_of_one_medium():
    timeline = otio.adapters.read_from_string(otio_of(analysis(), footage()), "otio_json")
    (track,) = timeline.tracks
    assert (timeline.name, track.kind) == ("holiday.mp4", otio.schema.TrackKind.Video)
    found = list(timeline.find_clips())
    assert [seconds(clip.source_range) for clip in found] == [(0, 3.4), (3.4, 12.04), (12.04, 20)]
    for clip in found:
        assert clip.media_reference.target_url == "s3://bucket/holiday.mp4"
        assert seconds(clip.available_range()) == (0, 20)
        assert clip.metadata["videoanalysis"]["tags"][0] == {"text": "beach", "probability": 0.75}
        assert clip.metadata["videoanalysis"]["caption"] == "Waves on the sand"
    assert timeline.duration().to_seconds() == 20


def test_edl_has_an_event_for_each_scene():
    found = clips(edl_of(analysis(), footage()), "cmx_3600", rate=25)
    assert [seconds(clip.source_range) for clip in found] == [(0, 3.4), (3.4, 12.04), (12.04, 20)]
    assert {clip.name for clip in found} == {"holiday.mp4"}
    assert list(found[1].metadata["cmx_3600"]["comments"]) == ["COMMENT: beach; forest", "COMMENT: Waves on the sand"]


@pytest.mark.parametrize("rate", [*FRAME_RATES])
def test_both_lists_have_the_same_frames_at_every_rate(rate):
    found = analysis(seconds=3600, cuts=(3.4, 1000.123, 3000.2), chunk_seconds=600)
    wanted = [round(time * FRAME_RATES[rate]) for time in (0, 3.4, 1000.123, 3000.2)]
    from_otio = clips(otio_of(found, footage(rate)), "otio_json")
    assert [clip.source_range.start_time.value for clip in from_otio] == wanted
    # Non-drop-frame timecode counts 30 frames to the second also at 29.97.
    from_edl = clips(edl_of(found, footage(rate)), "cmx_3600", rate=round(FRAME_RATES[rate]))
    assert [clip.source_range.start_time.value for clip in from_edl] == wanted
    assert f"COMMENT: {rate} frames per second" in from_edl[0].metadata["cmx_3600"]["comments"]


def test_every_rate_is_known_by_its_name():
    assert set(FRAME_RATES) == set(get_args(FrameRate))
    for name, rate in FRAME_RATES.items():
        assert float(name) == pytest.approx(float(rate), rel=1e-4)


def test_timecode_is_counted_without_dropping_frames():
    edl = edl_of(analysis(seconds=3603.6, cuts=(), chunk_seconds=600), footage("29.97"))
    assert "FCM: NON-DROP FRAME" in edl.splitlines()
    assert "00:00:00:00 01:00:00:00 00:00:00:00 01:00:00:00" in edl


def test_a_scene_shorter_than_a_frame_is_no_event():
    found = analysis(cuts=(3.0, 3.001), chunk_seconds=1, frames=2000, seconds=4)
    assert len(found.scenes) == 3
    for text, adapter in [(otio_of(found, footage()), "otio_json"), (edl_of(found, footage()), "cmx_3600")]:
        assert [seconds(clip.source_range) for clip in clips(text, adapter)] == [(0, 3), (3, 4)]


def test_texts_cannot_add_lines_to_an_edl():
    hostile = "x\n002  AX       V     C        00:00:00:00 00:00:01:00 00:00:00:00 00:00:01:00"
    edl = edl_of(analysis(cuts=(), tags=(hostile,), caption=hostile), footage(name=hostile))
    assert len(clips(edl, "cmx_3600", rate=25)) == 1


def test_more_scenes_than_three_digits_count():
    found = analysis(seconds=4000, cuts=tuple(range(3, 3603, 3)), chunk_seconds=600, frames=600)
    assert len(clips(edl_of(found, footage()), "cmx_3600", rate=25)) == len(found.scenes) == 1201
