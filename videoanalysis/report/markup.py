"""HTML and SVG elements whose texts are escaped by MarkupSafe."""

from collections.abc import Iterable

from markupsafe import Markup, escape

__all__ = ["Markup", "element", "joined"]

_VOID = {"meta", "br", "img"}


def element(name: str, /, *children: str, **attributes: str | float | bool | None) -> Markup:
    """An element. In attribute names a trailing _ is dropped and others become -; None and False omit the attribute."""
    start = f"<{name}"
    for key, value in attributes.items():
        if value is not None and value is not False:
            attribute = key.removesuffix("_").replace("_", "-")
            start += f" {attribute}" if value is True else f' {attribute}="{escape(value)}"'
    return Markup(f"{start}>" if name in _VOID else f"{start}>{joined(children)}</{name}>")


def joined(parts: Iterable[str]) -> Markup:
    """The concatenation of the parts."""
    return Markup("").join(parts)
