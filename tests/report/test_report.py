"""The structure of the page; how it looks is looked at."""

import base64
import re
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from tests.analyses import analysis, answer
from tests.report.pages import Element, read
from videoanalysis.report.page import render
from videoanalysis.report.thumbnails import Thumbnail
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, Transition
from videoanalysis.v1.encoder_pb2 import ModelInfo
from videoanalysis.video_analysis import VideoAnalysis

MADE_AT = datetime(2026, 11, 25, 4, 30, tzinfo=UTC)
HOSTILE = "<script>alert('x')</script> & \"co\" --> ]]> </style></title>"


def html(found: VideoAnalysis | None = None, **arguments: object) -> str:
    defaults = {"video": "holiday.mp4", "scene_threshold": 0.15, "made_at": MADE_AT}
    return render(found or analysis(), **{**defaults, **arguments})


def page(found: VideoAnalysis | None = None, **arguments: object) -> Element:
    return read(html(found, **arguments))


def thumbnails(found: VideoAnalysis) -> dict[float, Thumbnail]:
    times = {time for chunk in found.chunks for time in chunk.frame_times_seconds}
    return {time: Thumbnail(f"jpeg at {time}".encode(), 192, 108) for time in times}


def percent(style: str | None, side: str) -> float:
    return float(re.search(rf"{side}:([\d.]+)%", style)[1])


@pytest.mark.parametrize(
    "found",
    [analysis(), analysis(scores=False), analysis(cuts=()), VideoAnalysis.from_message(AnalyzeVideoResponse())],
    ids=["usual", "no scores", "no cuts", "empty"],
)
def test_the_page_is_well_formed_and_loads_nothing(found):
    text = html(found, thumbnails=thumbnails(found))
    root = read(text)
    assert text.startswith("<!doctype html>")
    assert root.one("head").one("title").text == "holiday.mp4 – video analysis"
    assert "://" not in text.replace("data:image/jpeg;base64,", "")
    assert not {"script", "link", "iframe", "img", "object", "base"} & {element.name for element in root.all()}
    for element in root.all():
        for name in ("href", "src", "xlink:href"):
            assert (element.attributes.get(name) or "#").startswith(("#", "data:image/jpeg;base64,"))
        assert not [name for name in element.attributes if name.startswith("on")]
    assert not re.search(r"@import|url\(", root.one("style").text)
    (policy,) = [meta for meta in root.all("meta") if meta.attributes.get("http-equiv")]
    assert policy.attributes["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_every_reference_within_the_page_has_its_target():
    found = analysis()
    root = page(found, thumbnails=thumbnails(found))
    ids = [element.attributes["id"] for element in root.all() if "id" in element.attributes]
    assert len(set(ids)) == len(ids)
    references = [element.attributes["href"] for element in root.all() if element.name in ("use", "a")]
    assert references
    assert {reference.removeprefix("#") for reference in references} <= set(ids)


def test_no_text_becomes_markup():
    message = answer(tags=(HOSTILE,), caption=HOSTILE)
    for field in (message.model, message.text_bank):
        field.digest = HOSTILE
    message.model.model_id = message.model.revision = message.text_bank.name = message.text_bank.template = HOSTILE
    message.stream_id = HOSTILE
    plain = page()
    root = page(VideoAnalysis.from_message(message), video=HOSTILE, note=HOSTILE)
    assert root.one("h1").text == HOSTILE
    assert root.one("blockquote").text == HOSTILE
    assert [tag.text for tag in root.all(class_="name")] == [HOSTILE]
    assert {element.name for element in root.all()} == {element.name for element in plain.all()}


def test_each_scene_change_has_one_mark_where_the_cut_is():
    found = analysis(seconds=20, cuts=(3.4, 12.04))
    marks = page(found).all(class_="scene-change")
    assert [float(mark.one("line", "change").attributes["x1"]) for mark in marks] == [170, 602]
    assert [mark.one("title").text for mark in marks] == [
        "scene change at 0:03.4, score 0.500",
        "scene change at 0:12.0, score 0.500",
    ]


def with_shots() -> VideoAnalysis:
    message = answer(seconds=20)
    message.cuts.add(time_seconds=3.4, previous_frame_seconds=3.36, strength=0.314)
    message.cuts.add(time_seconds=15, previous_frame_seconds=14.5, strength=0.2, coarse=True)
    message.transitions.add(start_seconds=6, end_seconds=7, kind=Transition.KIND_FADE)
    message.transitions.add(start_seconds=18, end_seconds=20, kind=Transition.KIND_DISSOLVE)
    return VideoAnalysis.from_message(message)


def test_cuts_and_transitions_are_marked_where_they_are_in_order_of_time():
    marks = page(with_shots()).one(class_="shots").all("i")
    assert [mark.classes for mark in marks] == [["of-cut"], ["of-fade"], ["of-cut", "coarse"], ["of-dissolve"]]
    assert [percent(mark.attributes["style"], "left") for mark in marks] == [17, 30, 75, 90]
    assert [percent(mark.attributes["style"], "width") for mark in (marks[1], marks[3])] == [5, 10]


def test_cuts_and_transitions_can_be_read_and_pointed_at():
    root = page(with_shots())
    texts = [
        "cut at 0:03.4, strength 0.31",
        "fade from 0:06.0 to 0:07.0",
        "cut between 0:14.5 and 0:15.0",
        "dissolve from 0:18.0 to 0:20.0",
    ]
    shots = root.one("details", "shot-list")
    assert shots.one("summary").text == "2 cuts, 2 transitions"
    assert [entry.text for entry in shots.all("li")] == texts
    assert [mark.attributes["title"] for mark in root.one(class_="shots").all("i")] == texts


def test_the_legend_names_the_kinds_of_marks_that_are_drawn():
    def legend(found: VideoAnalysis) -> list[str]:
        return [entry.text for entry in page(found).one(class_="legend").all("li")][4:]

    assert legend(with_shots()) == ["cut", "fade", "dissolve"]
    assert legend(analysis()) == []
    assert not page(analysis()).all(class_="shots") + page(analysis()).all(class_="shot-list")


def test_scores_and_threshold_are_drawn_to_one_scale():
    root = page(analysis(seconds=20, cuts=(3.4,)), scene_threshold=0.25)
    points = [
        tuple(map(float, point.split(","))) for point in re.split("[ML]", root.one("path", "curve").attributes["d"])[1:]
    ]
    assert [x for x, _ in points] == [0, 125, 250, 375, 500, 625, 750, 875]
    threshold = float(root.one("line", "threshold").attributes["y1"])
    low, high = points[0][1], points[2][1]
    # 0.05, the threshold of 0.25 and 0.5: as far apart as they are.
    assert (low - threshold) / (threshold - high) == pytest.approx(0.2 / 0.25, rel=1e-2)
    assert 0 < high < threshold < low < 100
    assert "threshold 0.25" in root.one(class_="legend").text


def test_without_scores_there_is_no_curve_but_all_else():
    root = page(analysis(scores=False))
    assert root.one("path", "curve").attributes["d"] == ""
    assert len(root.all(class_="scene-change")) == 2


def test_the_axis_of_time_is_read_off_a_clock():
    labels = page(analysis(seconds=20)).one(class_="axis").all("span")
    assert [label.text for label in labels] == [f"0:{second:02}" for second in range(0, 21, 2)]
    assert [percent(label.attributes["style"], "left") for label in labels] == list(range(0, 101, 10))


@pytest.mark.parametrize("seconds", [0.04, 0.5, 3, 61, 600, 5000, 20_000])
def test_the_axis_is_never_crowded(seconds):
    labels = page(analysis(seconds=seconds, chunk_seconds=600, frames=64)).one(class_="axis").all("span")
    assert 1 <= len(labels) <= 90
    pixels = max(1040, 4 * 64 * -(-seconds // 600))
    lefts = [percent(label.attributes["style"], "left") / 100 * pixels for label in labels]
    assert all(after - before >= 60 for before, after in pairwise(lefts))


def test_scenes_are_bands_that_lead_to_their_cards():
    root = page(analysis(seconds=20, cuts=(3.4, 12.04)))
    bands = root.one(class_="bands").all("a")
    assert [(percent(b.attributes["style"], "left"), percent(b.attributes["style"], "width")) for b in bands] == [
        (0, 17),
        (17, 43.2),
        (60.2, 39.8),
    ]
    assert [band.attributes["href"] for band in bands] == ["#scene-1", "#scene-2", "#scene-3"]
    card = root.one(class_="scenes").all("li")[0]
    assert card.attributes["id"] == "scene-1"
    assert "0:00.0 – 0:03.4" in card.text
    assert "Waves on the sand 50.0%" in card.text
    assert [chip.text for chip in card.all("li")] == ["beach 75.0%", "forest 75.0%"]


def test_each_chunk_has_its_tags_caption_and_pictures():
    found = analysis(seconds=15, cuts=(12.04,))
    first, second = page(found, thumbnails=thumbnails(found)).all("details")
    assert "0:00.0 – 0:10.0" in first.text
    assert "0:10.0 – 0:15.0" in second.text
    for chunk in (first, second):
        assert "Waves on the sand" in chunk.one("summary").text
        assert [chip.text for chip in chunk.one(class_="chips").all("li")] == ["beach 75.0%", "forest 75.0%"]
    assert [caption.text for caption in second.all("figcaption")] == [
        "0:10.00.05",
        "0:11.20.05",
        "0:12.50.50",
        "0:13.80.05",
    ]
    assert [figure.classes for figure in second.all("figure")] == [[], [], ["new-scene"], []]


def test_each_picture_is_in_the_page_once_and_shown_where_its_frame_is():
    found = analysis(seconds=20)
    root = page(found, thumbnails=thumbnails(found))
    stored = {
        image.attributes["id"]: base64.b64decode(image.attributes["href"].partition(",")[2]).decode()
        for image in root.all("image")
    }
    assert sorted(stored.values()) == sorted(f"jpeg at {time}" for time in (0.0, 2.5, 5.0, 7.5, 10.0, 12.5, 15.0, 17.5))
    shown = [
        stored[figure.one("use").attributes["href"].removeprefix("#")]
        for chunk in root.all("details")
        for figure in chunk.all("figure")
    ]
    assert shown == [f"jpeg at {time}" for chunk in found.chunks for time in chunk.frame_times_seconds]
    for card, scene in zip(root.one(class_="scenes").all("li"), found.scenes, strict=False):
        if card.attributes.get("id"):
            time = float(stored[card.one("use").attributes["href"].removeprefix("#")].removeprefix("jpeg at "))
            assert scene.start_seconds <= time < scene.end_seconds


def test_without_pictures_the_page_has_the_reason():
    root = page(note="No thumbnails: a test.")
    assert "No thumbnails: a test." in root.section("Timeline").text
    assert not root.all("use")
    assert not root.all(class_="filmstrip")


def test_tags_and_caption_of_the_video_say_how_sure_and_where():
    overview = page().section("Overview")
    assert overview.one("blockquote").text == "Waves on the sand"
    assert overview.one("figcaption").text == "50.0% of the video · 80.0% at 0:07.7"
    bar = overview.all("li")[0]
    assert bar.one(class_="name").text == "beach"
    assert bar.one(class_="value").text == "75.0%"
    assert percent(bar.one("i").attributes["style"], "width") == 75
    assert bar.one(class_="detail").text == "of the video · 90.0% at 0:07.7 · score 0.100"


def test_missing_caption_and_tags_are_stated():
    found = VideoAnalysis.from_message(AnalyzeVideoResponse())
    overview = page(found).section("Overview").text
    assert "No caption" in overview
    assert "No tag reaches the minimum probability" in overview


def test_the_parts_of_the_time_fill_the_bar():
    section = page().section("Timing")
    widths = [percent(part.attributes["style"], "width") for part in section.one(class_="stack").all("span")]
    assert widths == [12.5, 6.25, 3.12, 25, 18.75, 31.25, 0, 1.56, 1.56]
    assert sum(widths) == pytest.approx(100, abs=0.1)
    rows = [[cell.text for cell in row.children] for row in section.one("tbody").all("tr")]
    assert rows[2] == ["encode", "0.750 s", "1.250 s", "50%"]
    assert rows[-1] == ["total", "", "4.000 s", "100%"]
    assert "Read 1.5 MB of video; 480 decoded frames, 16 of them embedded; 0.250 s of accelerator time." in section.text


def test_model_and_bank_are_named():
    section = page().section("Model and text bank").text
    for fact in (
        "hub/model",
        "sha256:0123456789abcdef",
        "places",
        "sha256:fedcba9876543210",
        "20 tags, 40 descriptions",
    ):
        assert fact in section


def test_the_trace_is_named_and_linked_where_its_address_is_known():
    message = answer()
    message.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    found = VideoAnalysis.from_message(message)
    assert message.trace_id in page(found).section("Model and text bank").text
    assert not page(found).section("Model and text bank").all("a")
    (link,) = page(found, trace_url="https://traces/{trace_id}/all").section("Model and text bank").all("a")
    assert link.attributes["href"] == f"https://traces/{message.trace_id}/all"


def test_results_that_mean_nothing_say_so_on_top():
    message = answer()
    message.model.CopyFrom(ModelInfo(model_id="synthetic", engine="synthetic"))
    message.decode_failures = 3
    header = page(VideoAnalysis.from_message(message)).one("header")
    first, second = header.all(class_="warning")
    assert "mean nothing" in first.text
    assert second.text == "3 packets of the video could not be decoded."
    assert not page().all(class_="warning")


def test_few_chunks_lie_open_and_many_are_folded():
    few, many = page(analysis(seconds=60)), page(analysis(seconds=70))
    assert all("open" in chunk.attributes for chunk in few.all("details"))
    assert not any("open" in chunk.attributes for chunk in many.all("details"))


def test_the_page_has_the_time_of_its_creation_and_the_request():
    assert page().one("footer").text == "videoanalysis, 25 November 2026, 04:30 UTC, stream id 0123abcd"


def test_a_reader_may_have_light_or_dark():
    root = page()
    assert "prefers-color-scheme: dark" in root.one("style").text
    assert [
        meta.attributes["content"] for meta in root.all("meta") if meta.attributes.get("name") == "color-scheme"
    ] == ["light dark"]
