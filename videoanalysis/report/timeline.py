"""Draws the timeline of a report: thumbnails, scene scores, threshold, scene changes and scenes over time."""

from math import ceil, floor

from videoanalysis.formatting import clock
from videoanalysis.report.markup import Markup, element, joined
from videoanalysis.report.pictures import Pictures
from videoanalysis.video_analysis import SceneChange, VideoAnalysis

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
            element("div", *self._scenes(), class_="bands"),
            element("div", *self._time_labels(), class_="axis"),
            class_="canvas long" if self._min_pixels > _PAGE_PIXELS else "canvas",
            style=f"min-width:{self._min_pixels}px",
        )
        return joined([self._legend(), element("div", canvas, class_="scroller", tabindex="0")])

    def _legend(self) -> Markup:
        entries = [
            ("of-score", "scene score of each sampled frame"),
            ("of-threshold", f"threshold {self._threshold:g}"),
            ("of-cut", "scene change"),
            ("of-chunk", "start of a chunk"),
        ]
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
            self._vertical("cut", x),
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


def _short(seconds: float, step: float) -> str:
    return clock(seconds) if step < 1 else clock(seconds).removesuffix(".0")
