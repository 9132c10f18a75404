"""HTML and SVG as values: whatever is not markup already is escaped, and nothing can forget to."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

VOID = frozenset({"br", "img", "input", "link", "meta"})  # elements without an end tag


class Html(str):
    """Text that is markup."""

    __slots__ = ()


Child = str | Iterable["Child"] | None


def element(name: str, /, *children: Child, **attributes: object) -> Html:
    """`<name attributes>children</name>`.

    Args:
        children: `Html` goes in as it is, other text escaped, None not at all; nested lists are
            flattened.
        attributes: `class_` and `for_` lose their `_`, other `_` become `-`. True is an attribute
            without a value; False and None leave it out.
    """
    written = "".join(
        f" {_attribute(key)}" if value is True else f' {_attribute(key)}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    start = f"<{name}{written}>"
    return Html(start) if name in VOID else Html(f"{start}{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Html:
    """All of them, one after the other."""
    return Html("".join(map(_child, children)))


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return str(child)
    return escape(child) if isinstance(child, str) else str(join(child))


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")
