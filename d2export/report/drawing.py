"""A picture with what was decided about it, as SVG in which the picture itself is there once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from d2export.report.colours import STOPS
from d2export.report.data import Keep, Picture
from d2export.report.images import data_uri
from d2export.report.markup import Html, element

GRADIENT, GREY = "viridis", "grey"  # ids of what all pictures share


def shared_definitions() -> Html:
    """The colours of the heat maps, and the filter that takes colour away; drawn nowhere."""
    stops = [
        element("stop", offset=f"{100 * i / (len(STOPS) - 1):g}%", stop_color=f"rgb{stop}")
        for i, stop in enumerate(STOPS)
    ]
    saturation = element("feColorMatrix", type="saturate", values="0")
    return _hidden(
        element("linearGradient", *stops, id=GRADIENT),
        element("filter", saturation, id=GREY, color_interpolation_filters="sRGB"),
    )


def picture_definition(picture: Picture, number: int) -> Html:
    """The picture, for all drawings of it to use."""
    return _hidden(
        element(
            "image",
            id=f"picture-{number}",
            width=picture.width,
            height=picture.height,
            href=data_uri(picture.jpeg, "jpeg"),
        )
    )


def kept_tokens(picture: Picture, number: int, keeps: tuple[Keep, ...]) -> Html:
    """The picture with a layer for each budget: what no kept token saw is dark."""
    layers = []
    for index, (keep, kept) in enumerate(zip(keeps, picture.kept, strict=True)):
        if kept is None:
            continue
        tiles, thumbnail = _cells(picture, kept)
        outline = f"kept-{number}-{index}"
        shapes: list[Html] = []
        for name, cells in (("tile", tiles), ("thumbnail", thumbnail)):
            if len(cells):
                path = element("path", id=f"{outline}-{name}", class_="cells", d=_boxes(cells))
                again = element("use", href=f"#{outline}-{name}", class_=name)
                shapes += [element("g", path, class_="halo"), again]
        dark = element("path", class_="unseen", d=_boxes(_unseen(picture, tiles, thumbnail)))
        classes = f"layer k{index}" + " built" * keep.built
        layers.append(element("g", dark, *shapes, class_=classes))
    label = f"{picture.name}: kept tokens outlined, everything that no kept token saw darkened"
    return _drawing(picture, number, label, _on_canvas(picture, layers))


def heat_map(picture: Picture, number: int, uri: str, label: str) -> Html:
    """The picture in grey with a colour for each token of its tiles."""
    width, height = picture.columns * picture.side, picture.rows * picture.side
    cells = element(
        "image", width=width, height=height, href=uri, class_="heat", preserveAspectRatio="none"
    )
    return _drawing(picture, number, label, _on_canvas(picture, [cells]), grey=True)


def thumbnail_map(picture: Picture, number: int, uri: str, label: str) -> Html:
    """The same for the tokens of the thumbnail, each of which saw more of the picture."""
    size = {"width": picture.width, "height": picture.height}
    cells = element("image", **size, href=uri, class_="heat", preserveAspectRatio="none")
    return _drawing(picture, number, label, cells, grey=True)


def legend() -> Html:
    """The colours from lowest to highest."""
    bar = element("rect", width=100, height=8, fill=f"url(#{GRADIENT})")
    return element(
        "svg", bar, class_="scale", viewBox="0 0 100 8", preserveAspectRatio="none", **_UNSEEN
    )


_UNSEEN = {"aria_hidden": "true", "focusable": "false"}


def _hidden(*definitions: Html) -> Html:
    return element(
        "svg", element("defs", definitions), width=0, height=0, class_="definitions", **_UNSEEN
    )


def _drawing(
    picture: Picture, number: int, label: str, content: Html, *, grey: bool = False
) -> Html:
    below = element(
        "use",
        href=f"#picture-{number}",
        filter=f"url(#{GREY})" if grey else None,
        class_="below" if grey else None,
    )
    return element(
        "svg",
        below,
        content,
        viewBox=f"0 0 {picture.width} {picture.height}",
        role="img",
        aria_label=label,
    )


def _on_canvas(picture: Picture, content: list[Html]) -> Html:
    """`content` in units of tokens, laid over the picture."""
    return element(
        "svg",
        content,
        width=picture.width,
        height=picture.height,
        viewBox=" ".join(f"{part:g}" for part in picture.window),
        preserveAspectRatio="none",
    )


def _cells(
    picture: Picture, kept: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """x, y, width, height `[M, 4]` of kept tokens on the canvas: of tiles, and of the thumbnail."""
    side, columns = picture.side, picture.columns
    of_tiles = kept[kept < picture.in_tiles].astype(np.int64)
    tile, place = np.divmod(of_tiles, side * side)
    (tile_y, tile_x), (y, x) = np.divmod(tile, columns), np.divmod(place, side)
    ones = np.ones_like(x)
    cells = np.stack([tile_x * side + x, tile_y * side + y, ones, ones], axis=-1)
    y, x = np.divmod(kept[kept >= picture.in_tiles].astype(np.int64) - picture.in_tiles, side)
    size = np.ones_like(x)
    wide, high = size * columns, size * picture.rows
    return cells, np.stack([x * wide, y * high, wide, high], axis=-1)


def _unseen(picture: Picture, *seen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rectangles that cover what none of `seen` does: runs of a row, equal ones merged."""
    dark = np.ones((picture.rows * picture.side, picture.columns * picture.side), bool)
    for cells in seen:
        for x, y, width, height in cells.tolist():
            dark[y : y + height, x : x + width] = False
    return np.array(list(_rectangles(dark)), np.int64).reshape(-1, 4)


def _rectangles(dark: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int, int, int]]:
    open_runs: dict[tuple[int, int], int] = {}  # (start, stop) and the row where it began
    for y in range(len(dark) + 1):
        row = dark[y] if y < len(dark) else np.zeros(dark.shape[1], bool)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]])))
        runs = set(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
        for run in [run for run in open_runs if run not in runs]:
            top = open_runs.pop(run)
            yield run[0], top, run[1] - run[0], y - top
        for run in runs:
            open_runs.setdefault(run, y)


def _boxes(cells: npt.NDArray[np.int64]) -> str:
    """Rectangles as the `d` of a path."""
    return "".join(f"M{x} {y}h{w}v{h}h-{w}z" for x, y, w, h in cells.tolist())
