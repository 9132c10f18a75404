"""Raw importance, the prior, and the quotient of the two, as heat maps side by side."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from d2export.report.colours import Scale, scale_of
from d2export.report.data import Picture, ReportData
from d2export.report.drawing import heat_map, legend, thumbnail_map
from d2export.report.figures import percent, section, significant
from d2export.report.images import heat_maps
from d2export.report.markup import Child, Html, element

HEAD = 0.1  # the most important tokens whose share is told


def importance(data: ReportData) -> Html:
    """The section."""
    title = "Why these tokens"
    if data.why_no_importance:
        missing = element("p", data.why_no_importance, class_="missing")
        return section("importance", title, missing)
    debiased = any(picture.debiased is not None for picture in data.pictures)
    about = element("p", f"Importance is a share {data.unit}. " if data.unit else "", data.prior)
    groups: list[Html] = []
    if debiased:
        for number, picture in enumerate(data.pictures):
            maps = element("div", _triple(picture, number), class_="gallery triple")
            groups.append(element("div", element("h3", picture.name), maps))
    else:
        alone = [_alone(picture, i) for i, picture in enumerate(data.pictures)]
        groups.append(element("div", alone, class_=f"gallery of-{min(len(alone), 3)}"))
    return section("importance", title, about, groups)


def _triple(picture: Picture, number: int) -> list[Html]:
    """Raw and prior on one scale, the quotient on its own."""
    assert picture.raw is not None
    assert picture.prior is not None
    assert picture.debiased is not None
    common = scale_of(picture.raw, picture.prior)
    own = scale_of(picture.debiased)
    raw = _map(picture, number, "Raw importance", picture.raw, common, shares=True)
    prior = _map(picture, number, "÷ prior", picture.prior, common, shares=True)
    quotient = _map(picture, number, "= debiased", picture.debiased, own, shares=False)
    return [raw, prior, quotient]


def _alone(picture: Picture, number: int) -> Html | None:
    if picture.raw is None:
        return None
    title = f"Raw importance, {picture.name}"
    return _map(picture, number, title, picture.raw, scale_of(picture.raw), shares=True)


def _map(
    picture: Picture,
    number: int,
    title: str,
    values: npt.NDArray[np.float32],
    scale: Scale,
    *,
    shares: bool,
) -> Html:
    tiles, thumbnail = heat_maps(picture, values, scale)
    low, high = (_end(value, shares) for value in (scale.low, scale.high))
    label = f"{title} of {picture.name}, from {low} (dark) to {high} (bright)"
    drawings: list[Child] = [heat_map(picture, number, tiles, label)]
    if thumbnail is not None:
        small = thumbnail_map(picture, number, thumbnail, f"{label}, tokens of the thumbnail")
        inset = [element("span", "thumbnail"), small]
        drawings.append(element("div", inset, class_="inset"))
    ends = element("p", element("span", low), legend(), element("span", high), class_="ends")
    head = element("p", _concentration(values), class_="small")
    return element("figure", element("figcaption", element("strong", title)), drawings, ends, head)


def _end(value: float, shares: bool) -> str:
    return f"{significant(100 * value)}\u202f%" if shares else f"{significant(value)} \u00d7"


def _concentration(values: npt.NDArray[np.float32]) -> str:
    """How uneven it is."""
    finite = np.sort(np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0))[::-1]
    count = max(1, round(HEAD * len(finite)))
    total = float(finite.sum())
    if total <= 0:
        return "All of it is 0."
    return (
        f"The highest {percent(HEAD)} of the tokens hold {percent(finite[:count].sum() / total)}."
    )
