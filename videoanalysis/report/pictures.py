"""The pictures of a report: each is in the page once and shown in several places."""

from base64 import b64encode
from bisect import bisect_left
from collections.abc import Mapping
from typing import TYPE_CHECKING

from videoanalysis.report.markup import Markup, element
from videoanalysis.wording import clock

if TYPE_CHECKING:
    # Needs PyAV, which whoever has thumbnails has.
    from videoanalysis.report.thumbnails import Thumbnail


class Pictures:
    """Thumbnails by the times of their frames."""

    def __init__(self, thumbnails: "Mapping[float, Thumbnail]") -> None:
        self._thumbnails = dict(sorted(thumbnails.items()))
        self._times = list(self._thumbnails)

    def __len__(self) -> int:
        return len(self._times)

    def store(self) -> Markup:
        """The pictures themselves; must come before they are shown."""
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
        """The picture of the frame with this time."""
        return self._show(seconds, crop=False) if seconds in self._thumbnails else None

    def nearest(self, seconds: float, *, crop: bool = False) -> Markup:
        """With `crop` it fills whatever place it is given."""
        index = bisect_left(self._times, seconds)
        around = self._times[max(index - 1, 0) : index + 1]
        return self._show(min(around, key=lambda time: abs(time - seconds)), crop=crop)

    def between(self, start_seconds: float, end_seconds: float) -> Markup | None:
        """The picture nearest to the middle, if there is one from start to before end."""
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
