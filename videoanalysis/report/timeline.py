"""Draws the timeline of a report: thumbnails, scene scores, scene changes, cuts, transitions and scenes over time."""

from math import ceil, floor

from videoanalysis.formatting import clock, count
from videoanalysis.report.markup import Markup, element, joined
from videoanalysis.report.pictures import Pictures
from videoanalysis.video_analysis import Cut, SceneChange, Transition, VideoAnalysis

# Units of the plot, which is stretched to the width of the page.
_WIDTH, _HEIGHT = 1000.0, 100.0
_PAGE_PIXELS = 1040
_PIXELS_PER_FRAME = 4
_MAX_PIXELS = 8000
_PIXELS_PER_PICTURE = 65
_PIXELS_PER_LABEL = 100
_STEPS_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
_STEPS_SCORE = (0.05, 0.1, 0.2, 0.5, 1.0)


class Timeline:
    def __init__(self, analysis: VideoAnalysis, scene_threshold: float, pictures: Pictures) -> None:
        self._analysis = analysis
        self._threshold = scene_threshold
        self._pictures = pictures
        self._start = analysis.scenes[0].start_seconds if analysis.scenes else 0.0
        self._duration = max(analysis.video_duration_seconds - self._start, 1e-3)
        self._shots: list[Cut | Transition] = sorted([*analysis.cuts, *analysis.transitions], key=_start)
        self._scores = [
            (time, score)
            for chunk in analysis.chunks
            for time, score in zip(chunk.frame_times_seconds, chunk.scene_scores, strict=False)
        ]
        highest = max((score for _, score in self._scores), default=0.0)
        self._top = max(1.15 * highest, 2 * scene_threshold)
        frames = sum(len(chunk.frame_times_seconds) for chunk in analysis.chunks)
        # The timeline of a long video scrolls.
        self._min_pixels = min(_PIXELS_PER_FRAME * frames, _MAX_PIXELS)
        self._pixels = max(_PAGE_PIXELS, self._min_pixels)

    def draw(self) -> Markup:
        canvas = element(
            "div",
            self._filmstrip(),
            element("div", self._plot(), *self._score_labels(), class_="plot"),
            element("div", *self._shot_marks(), class_="shots", aria_hidden="true") if self._shots else Markup(),
            element("div", *self._scenes(), class_="bands"),
            element("div", *self._time_labels(), class_="axis"),
            class_="canvas long" if self._min_pixels > _PAGE_PIXELS else "canvas",
            style=f"min-width:{self._min_pixels}px",
        )
        scroller = element("div", canvas, class_="scroller", tabindex="0")
        return joined([self._legend(), scroller, self._shot_list()])

    def _legend(self) -> Markup:
        entries = [
            ("of-score", "scene score of each sampled frame"),
            ("of-threshold", f"threshold {self._threshold:g}"),
            ("of-change", "scene change"),
            ("of-chunk", "start of a chunk"),
        ]
        kinds = {_kind(shot) for shot in self._shots}
        entries += [(f"of-{kind}", kind) for kind in ("cut", "fade", "dissolve") if kind in kinds]
        return element("ul", *(element("li", text, class_=kind) for kind, text in entries), class_="legend")

    def _filmstrip(self) -> Markup:
        if not self._pictures:
            return Markup()
        count = round(self._pixels / _PIXELS_PER_PICTURE)
        middles = (self._start + (i + 0.5) / count * self._duration for i in range(count))
        return element("div", *(self._pictures.nearest(time, crop=True) for time in middles), class_="filmstrip")

    def _plot(self) -> Markup:
        points = [f"{self._x(time):.2f},{self._y(score):.2f}" for time, score in self._scores]
        area = ""
        if points:
            first, last = self._x(self._scores[0][0]), self._x(self._scores[-1][0])
            area = f"M{first:.2f},{_HEIGHT}L{'L'.join(points)}L{last:.2f},{_HEIGHT}Z"
        chunk_starts = [chunk.start_seconds for chunk in self._analysis.chunks if chunk.start_seconds > self._start]
        level = self._y(self._threshold)
        return element(
            "svg",
            *(self._vertical("chunk-start", self._x(start)) for start in chunk_starts),
            element("path", d=area, class_="area"),
            element("path", d=f"M{'L'.join(points)}" if points else "", class_="curve"),
            element("line", x1=0, x2=_WIDTH, y1=f"{level:.2f}", y2=f"{level:.2f}", class_="threshold"),
            *map(self._mark, self._analysis.scene_changes),
            viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}",
            preserveAspectRatio="none",
            role="img",
            aria_label="Scene score of each sampled frame, with the threshold and the scene changes",
        )

    def _mark(self, change: SceneChange) -> Markup:
        x, dot = self._x(change.cut_seconds), (self._x(change.timestamp_seconds), self._y(change.score))
        title = f"scene change at {clock(change.cut_seconds)}, score {change.score:.3f}"
        return element(
            "g",
            element("title", title),
            self._vertical("near", x),
            self._vertical("change", x),
            # A zero-length line with round caps stays a dot when the plot is stretched.
            element("path", d=f"M{dot[0]:.2f},{dot[1]:.2f}h0", class_="dot"),
            class_="scene-change",
        )

    def _vertical(self, kind: str, x: float) -> Markup:
        return element("line", x1=f"{x:.2f}", x2=f"{x:.2f}", y1=0, y2=_HEIGHT, class_=kind)

    def _score_labels(self) -> list[Markup]:
        step = next((step for step in _STEPS_SCORE if self._top / step <= 4), _STEPS_SCORE[-1])
        values = [i * step for i in range(1, int(self._top / step) + 1)]
        return [
            element("span", f"{value:.2f}".rstrip("0"), class_="score", style=f"top:{self._y(value):.2f}%")
            for value in values
            # Keeps clear of the label of the threshold.
            if abs(self._y(value) - self._y(self._threshold)) > 9
        ] + [
            element(
                "span",
                f"{self._threshold:g}",
                class_="score of-threshold",
                style=f"top:{self._y(self._threshold):.2f}%",
            )
        ]

    def _shot_marks(self) -> list[Markup]:
        """Of cuts and transitions, in a row of their own: they come from the pictures, not from the scene scores."""
        marks = []
        for shot in self._shots:
            style = f"left:{self._percent(_start(shot))}"
            if isinstance(shot, Transition):
                style += f";width:{(shot.end_seconds - shot.start_seconds) / self._duration * 100:.3f}%"
            kind = f"of-{_kind(shot)}{' coarse' if isinstance(shot, Cut) and shot.coarse else ''}"
            marks.append(element("i", class_=kind, title=_described(shot), style=style))
        return marks

    def _shot_list(self) -> Markup:
        """The same as text."""
        if not self._shots:
            return Markup()
        counts = count(len(self._analysis.cuts), "cut"), count(len(self._analysis.transitions), "transition")
        entries = element("ol", *(element("li", _described(shot)) for shot in self._shots))
        return element("details", element("summary", ", ".join(counts)), entries, class_="shot-list")

    def _scenes(self) -> list[Markup]:
        return [
            element(
                "a",
                element("span", str(number)),
                href=f"#scene-{number}",
                title=f"scene {number}: {clock(scene.start_seconds)} – {clock(scene.end_seconds)}",
                style=f"left:{self._percent(scene.start_seconds)};"
                f"width:{(scene.end_seconds - scene.start_seconds) / self._duration * 100:.3f}%",
            )
            for number, scene in enumerate(self._analysis.scenes, 1)
        ]

    def _time_labels(self) -> list[Markup]:
        max_labels = self._pixels / _PIXELS_PER_LABEL
        step = next((step for step in _STEPS_SECONDS if self._duration / step <= max_labels), _STEPS_SECONDS[-1])
        first, last = ceil(self._start / step), floor((self._start + self._duration) / step)
        times = [i * step for i in range(first, last + 1)]
        return [
            element(
                "span",
                _short(time, step),
                class_="at-end" if time - self._start > 0.93 * self._duration else None,
                style=f"left:{self._percent(time)}",
            )
            for time in times
        ]

    def _x(self, seconds: float) -> float:
        return (seconds - self._start) / self._duration * _WIDTH

    def _y(self, score: float) -> float:
        return _HEIGHT - score / self._top * _HEIGHT

    def _percent(self, seconds: float) -> str:
        return f"{(seconds - self._start) / self._duration * 100:.3f}%"


def _start(shot: Cut | Transition) -> float:
    return shot.time_seconds if isinstance(shot, Cut) else shot.start_seconds


def _kind(shot: Cut | Transition) -> str:
    return "cut" if isinstance(shot, Cut) else shot.kind


def _described(shot: Cut | Transition) -> str:
    if isinstance(shot, Transition):
        return f"{shot.kind} from {clock(shot.start_seconds)} to {clock(shot.end_seconds)}"
    if shot.coarse:
        return f"cut between {clock(shot.previous_frame_seconds)} and {clock(shot.time_seconds)}"
    return f"cut at {clock(shot.time_seconds)}, strength {shot.strength:.2f}"


def _short(seconds: float, step: float) -> str:
    return clock(seconds) if step < 1 else clock(seconds).removesuffix(".0")
