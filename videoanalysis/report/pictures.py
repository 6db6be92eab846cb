"""The thumbnails of a report: each is embedded once in the page and shown in several places."""

from base64 import b64encode
from bisect import bisect_left
from collections.abc import Mapping
from typing import TYPE_CHECKING

from videoanalysis.formatting import clock
from videoanalysis.report.markup import Markup, element

if TYPE_CHECKING:
    # The module needs PyAV.
    from videoanalysis.report.thumbnails import Thumbnail


class Pictures:
    """Thumbnails by frame time."""

    def __init__(self, thumbnails: "Mapping[float, Thumbnail]") -> None:
        self._thumbnails = dict(sorted(thumbnails.items()))
        self._times = list(self._thumbnails)

    def __len__(self) -> int:
        return len(self._times)

    def definitions(self) -> Markup:
        """The embedded images; must precede their uses in the page."""
        images = [
            element(
                "image",
                id=f"frame-{index}",
                href="data:image/jpeg;base64," + b64encode(picture.jpeg).decode(),
                width=picture.width,
                height=picture.height,
            )
            for index, picture in enumerate(self._thumbnails.values())
        ]
        return element("svg", element("defs", *images), class_="store", width=0, height=0, aria_hidden="true")

    def at(self, seconds: float) -> Markup | None:
        """The thumbnail of the frame at exactly this time."""
        return self._show(seconds, crop=False) if seconds in self._thumbnails else None

    def nearest(self, seconds: float, *, crop: bool = False) -> Markup:
        """With `crop` the thumbnail is cropped to fill its element."""
        index = bisect_left(self._times, seconds)
        around = self._times[max(index - 1, 0) : index + 1]
        return self._show(min(around, key=lambda time: abs(time - seconds)), crop=crop)

    def between(self, start_seconds: float, end_seconds: float) -> Markup | None:
        """The thumbnail nearest to the middle of the range, None if the range has none; the end is exclusive."""
        inside = [time for time in self._times if start_seconds <= time < end_seconds]
        return self.nearest((inside[0] + inside[-1]) / 2) if inside else None

    def _show(self, seconds: float, *, crop: bool) -> Markup:
        picture = self._thumbnails[seconds]
        return element(
            "svg",
            element("use", href=f"#frame-{bisect_left(self._times, seconds)}"),
            class_="picture",
            viewBox=f"0 0 {picture.width} {picture.height}",
            preserveAspectRatio="xMidYMid slice" if crop else None,
            role="img",
            aria_label=f"frame at {clock(seconds)}",
        )
