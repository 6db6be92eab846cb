"""Report pages as trees, read strictly."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "br"}


@dataclass
class Element:
    name: str
    attributes: dict[str, str | None]
    children: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()

    def all(self, name: str | None = None, class_: str | None = None) -> list["Element"]:
        """Those below it, in their order."""
        return [
            element
            for element in self._below()
            if (name is None or element.name == name) and (class_ is None or class_ in element.classes)
        ]

    def one(self, name: str | None = None, class_: str | None = None) -> "Element":
        (found,) = self.all(name, class_)
        return found

    def section(self, heading: str) -> "Element":
        (found,) = [element for element in self.all("section") if element.one("h2").text == heading]
        return found

    def _below(self) -> Iterator["Element"]:
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child._below()


class _Reader(HTMLParser):
    """Every element must be closed, in order; nothing may be repaired."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in _VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().name == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read(page: str) -> Element:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == [reader.root], "something is not closed"
    (html,) = [child for child in reader.root.children if isinstance(child, Element)]
    return html
