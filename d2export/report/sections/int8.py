"""What INT8 does to each product."""

from __future__ import annotations

import re

from d2export.report.data import ProductError, ReportData
from d2export.report.figures import section, table
from d2export.report.markup import Html, element

ABOUT = (
    "Signal to noise of each product's output, in decibels, when nothing but that product is INT8. "
    "Six decibels are a bit. Measured in float32 on the pictures of the calibration."
)
STAYS = "FP16"


def int8(data: ReportData) -> Html:
    """The section; nothing for a bundle in another precision."""
    if not data.products:
        return Html("")
    layers: dict[str, dict[str, ProductError]] = {}
    for product in data.products:
        layer, part = _parts(product.name)
        layers.setdefault(layer, {})[part] = product
    tables = []
    for title, chosen in (
        ("Layers", {name: parts for name, parts in layers.items() if ".layers." in name}),
        ("Others", {name: parts for name, parts in layers.items() if ".layers." not in name}),
    ):
        columns = list(dict.fromkeys(part for parts in chosen.values() for part in parts))
        rows = [
            (name, *(_cell(parts.get(column)) for column in columns))
            for name, parts in chosen.items()
        ]
        if rows:
            tables.append(table((title, *columns), rows, caption=f"{title}, in decibels"))
    stay = sum(not product.int8 for product in data.products)
    kept = f" {stay} of {len(data.products)} products stay in FP16." if stay else ""
    return section("int8", "What INT8 costs", element("p", ABOUT + kept), tables)


def _parts(name: str) -> tuple[str, str]:
    """`text.layers.0` and `attention.q`; of what is in no layer, its folder and its own name."""
    found = re.fullmatch(r"(.+\.layers\.\d+)\.(.+)", name)
    if found:
        return found[1], found[2]
    folder, _, own = name.rpartition(".")
    return folder, own


def _cell(product: ProductError | None) -> str:
    if product is None:
        return ""
    shown = "exact" if product.decibels is None else f"{product.decibels:.1f}"
    return shown if product.int8 else f"{shown} {STAYS}"
