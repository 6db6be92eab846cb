"""Renders an analysis as one self-contained HTML page."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from videoanalysis.formatting import clock, count, model_name, peak, percent, share_of_video
from videoanalysis.report.markup import Markup, element, joined
from videoanalysis.report.pictures import Pictures
from videoanalysis.report.timeline import Timeline
from videoanalysis.stack import bundled_model
from videoanalysis.video_analysis import Caption, Chunk, Scene, Tag, VideoAnalysis

if TYPE_CHECKING:
    from videoanalysis.report.thumbnails import Thumbnail

# Second line of defence behind escaping: no script runs and nothing is loaded.
_CONTENT_SECURITY_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_TAGS_PER_PART = 3
# Where there are more, all are collapsed.
_OPEN_CHUNKS = 6


def render(
    analysis: VideoAnalysis,
    *,
    video: str,
    scene_threshold: float,
    made_at: datetime,
    thumbnails: "Mapping[float, Thumbnail] | None" = None,
    note: str = "",
    trace_url: str = "",
) -> str:
    """The HTML page. `video` is the name of the video to show, `scene_threshold` that of the request.

    `thumbnails` are keyed by the times of sampled frames, in seconds; `note` explains which are missing.
    `trace_url` is the address of a trace, with {trace_id} in place of its id.
    """
    pictures = Pictures(thumbnails or {})
    body = [
        pictures.definitions(),
        element(
            "main",
            _header(analysis, video),
            _section("Overview", _overview(analysis)),
            _section("Timeline", Timeline(analysis, scene_threshold, pictures).draw(), _note(note)),
            _section("Scenes", _scenes(analysis, pictures)),
            _section("Chunks", *(_chunk(chunk, analysis, pictures) for chunk in analysis.chunks)),
            _section("Timing", _timing(analysis)),
            _section("Model and text bank", _origin(analysis, trace_url)),
            element("footer", f"videoanalysis, {made_at:%d %B %Y, %H:%M %Z}, stream id {analysis.stream_id}"),
        ),
    ]
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=_CONTENT_SECURITY_POLICY),
        element("title", f"{video} – video analysis"),
        element("style", Markup(Path(__file__).with_name("style.css").read_text(encoding="utf-8"))),
    ]
    page = element("html", element("head", *head), element("body", *body), lang="en")
    return f"<!doctype html>\n{page}\n"


def _section(heading: str, *content: str) -> Markup:
    return element("section", element("h2", heading), *content)


def _note(text: str) -> Markup:
    return element("p", text, class_="note") if text else Markup()


def _header(analysis: VideoAnalysis, video: str) -> Markup:
    frames = sum(len(chunk.frame_times_seconds) for chunk in analysis.chunks)
    facts = [
        ("duration", clock(analysis.video_duration_seconds)),
        ("scene changes", f"{len(analysis.scene_changes):,}"),
        ("cuts", f"{len(analysis.cuts):,}"),
        ("chunks", f"{len(analysis.chunks):,}"),
        ("frames sampled", f"{frames:,}"),
        ("analysed in", f"{analysis.timing.total_seconds:.1f} s"),
    ]
    warnings = [bundled_model.caveat(analysis.message.model) or ""]
    if analysis.decode_failures:
        warnings.append(f"{count(analysis.decode_failures, 'packet')} of the video could not be decoded.")
    if analysis.ends_early:
        claimed, found = clock(analysis.claimed_duration_seconds), clock(analysis.video_duration_seconds)
        warnings.append(f"The file claims {claimed} and ends after {found}: it may have been cut short.")
    if analysis.frames_dropped:
        warnings.append(f"{count(analysis.frames_dropped, 'frame')} of the video had no place by their timestamps.")
    return element(
        "header",
        element("p", "Video analysis", class_="kind"),
        element("h1", video),
        *(element("p", warning, class_="warning") for warning in warnings if warning),
        element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in facts)),
    )


def _overview(analysis: VideoAnalysis) -> Markup:
    caption = analysis.caption
    if caption is None:
        reason = "no description reaches the minimum probability" if analysis.text_bank else "there is no text bank"
        shown = element("p", f"No caption: {reason}.", class_="note")
    else:
        details = " · ".join(filter(None, [share_of_video(caption), peak(caption)]))
        shown = element("figure", element("blockquote", caption.text), element("figcaption", details))
    if analysis.tags:
        tags = element("ol", *(_bar(tag) for tag in analysis.tags), class_="bars")
    else:
        tags = element("p", "No tag reaches the minimum probability.", class_="note")
    return joined([shown, tags])


def _bar(tag: Tag) -> Markup:
    return element(
        "li",
        element("span", tag.text, class_="name"),
        element("span", element("i", style=f"width:{_share(tag.probability)}"), class_="track"),
        element("span", percent(tag.probability), class_="value"),
        element(
            "span", " · ".join(["of the video", *filter(None, [peak(tag)]), f"score {tag.score:.3f}"]), class_="detail"
        ),
    )


def _scenes(analysis: VideoAnalysis, pictures: Pictures) -> Markup:
    cards = [_scene(number, scene, pictures) for number, scene in enumerate(analysis.scenes, 1)]
    return element("ol", *cards, class_="scenes")


def _scene(number: int, scene: Scene, pictures: Pictures) -> Markup:
    return element(
        "li",
        pictures.between(scene.start_seconds, scene.end_seconds) or Markup(),
        element(
            "div",
            element(
                "h3",
                element("b", str(number), class_="number"),
                element("span", f"{clock(scene.start_seconds)} – {clock(scene.end_seconds)}"),
                element("span", f"{scene.end_seconds - scene.start_seconds:.1f} s", class_="length"),
            ),
            _caption(scene.caption),
            _chips(scene.tags),
        ),
        id=f"scene-{number}",
    )


def _chunk(chunk: Chunk, analysis: VideoAnalysis, pictures: Pictures) -> Markup:
    end = chunk.start_seconds + chunk.duration_seconds
    summary = element(
        "summary",
        element("h3", f"{clock(chunk.start_seconds)} – {clock(end)}"),
        element("span", count(len(chunk.scene_changes), "scene change"), class_="detail"),
        _caption(chunk.caption),
    )
    starts_scene = {change.frame_index for change in chunk.scene_changes}
    frames = []
    for index, time in enumerate(chunk.frame_times_seconds):
        if (picture := pictures.at(time)) is not None:
            score = f"{chunk.scene_scores[index]:.2f}" if chunk.scene_scores else ""
            caption = element("figcaption", clock(time), element("span", score))
            marks = {"class_": "new-scene", "title": "first of a new scene"} if index in starts_scene else {}
            frames.append(element("figure", picture, caption, **marks))
    is_open = len(analysis.chunks) <= _OPEN_CHUNKS
    sheet = element("div", *frames, class_="frames") if frames else Markup()
    return element("details", summary, _chips(chunk.tags), sheet, open=is_open, class_="chunk")


def _caption(caption: Caption | None) -> Markup:
    if caption is None:
        return Markup()
    return element("p", caption.text, " ", element("span", percent(caption.probability)), class_="said")


def _chips(tags: tuple[Tag, ...]) -> Markup:
    chips = [element("li", tag.text, " ", element("span", percent(tag.probability))) for tag in tags[:_TAGS_PER_PART]]
    return element("ul", *chips, class_="chips") if chips else Markup()


def _timing(analysis: VideoAnalysis) -> Markup:
    timing = analysis.timing
    total = max(timing.total_seconds, 1e-9)
    pieces = [
        (f"{name} {kind}", f"of-{name} {kind}", seconds)
        for name, stage in timing.stages()
        for kind, seconds in (("queue", stage.queue_seconds), ("compute", stage.compute_seconds))
    ]
    pieces.append(("no stage", "of-none", timing.unattributed_seconds))
    bar = [
        element("span", class_=kind, title=f"{name}: {seconds:.3f} s", style=f"width:{_share(seconds / total)}")
        for name, kind, seconds in pieces
    ]
    rows = [
        _row(name, f"of-{name}", stage.queue_seconds, stage.compute_seconds, total) for name, stage in timing.stages()
    ]
    rows.append(_row("no stage", "of-none", None, timing.unattributed_seconds, total))
    rows.append(_row("total", "", None, timing.total_seconds, total))
    columns = element("tr", *(element("th", name, scope="col") for name in ("stage", "queue", "compute", "share")))
    return joined(
        [
            element("div", *bar, class_="stack", aria_hidden="true"),
            element("table", element("thead", columns), element("tbody", *rows)),
            element(
                "p",
                "The stages overlap. Each instant counts for the stage that the next chunk was waiting for, so the "
                "parts add up to the total.",
                class_="note",
            ),
            element("p", _usage(analysis), class_="note"),
        ]
    )


def _usage(analysis: VideoAnalysis) -> str:
    usage = analysis.usage
    return (
        f"Read {usage.bytes_read / 1e6:.1f} MB of video; {count(usage.frames_decoded, 'decoded frame')}, "
        f"{usage.frames_encoded} of them embedded; "
        f"{usage.accelerator_seconds:.3f} s of accelerator time."
    )


def _row(name: str, kind: str, queue: float | None, compute: float, total: float) -> Markup:
    cells = ["" if queue is None else f"{queue:.3f} s", f"{compute:.3f} s", f"{((queue or 0) + compute) / total:.0%}"]
    return element("tr", element("th", name, scope="row", class_=kind), *(element("td", cell) for cell in cells))


def _origin(analysis: VideoAnalysis, trace_url: str) -> Markup:
    model, bank = analysis.model, analysis.text_bank
    model_facts = {
        "model": model_name(model),
        "revision": model.revision,
        "digest": model.digest,
        "computation": f"{model.precision} on {model.device}",
        "image size": f"{model.image_size} × {model.image_size} pixels",
        "probability": f"sigmoid({model.logit_scale:.4g} · score {model.logit_bias:+.4g})",
    }
    lists = [_definitions(model_facts)]
    if bank is not None:
        bank_facts = {
            "text bank": bank.name,
            "digest": bank.digest,
            "texts": f"{count(bank.tag_count, 'tag')}, {count(bank.description_count, 'description')}",
            "template": bank.template,
            "made": bank.created_at,
        }
        lists.append(_definitions(bank_facts))
    if analysis.trace_id:
        address = trace_url.replace("{trace_id}", analysis.trace_id)
        linked = (
            element("a", analysis.trace_id, href=address)
            if address and analysis.trace_id.isalnum()
            else analysis.trace_id
        )
        lists.append(_definitions({"trace": linked}))
    return element("div", *lists, class_="origin")


def _definitions(entries: Mapping[str, str]) -> Markup:
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", value)) for name, value in entries.items() if value),
    )


def _share(fraction: float) -> str:
    return f"{100 * fraction:.2f}%"
