"""What the page says of the products of an INT8 bundle."""

from __future__ import annotations

import re

from d2export.report.data import ProductError, ReportData
from d2export.report.page import render
from d2export.report.sections.int8 import int8

PRODUCTS = (
    ProductError("tower.patch_embedding", 41.23, True),
    ProductError("tower.layers.0.attention.q", 39.96, True),
    ProductError("text.layers.11.mlp.gate", 38.0, True),
    ProductError("text.layers.11.mlp.down", 24.56, False),
    ProductError("projector.linear1", None, True),
)


def rows(products: tuple[ProductError, ...] = PRODUCTS) -> list[list[str]]:
    """The cells of all tables, row by row."""
    text = int8(ReportData("m", "h", products=products))
    cut = re.findall(r"<tr.*?</tr>", text)
    return [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in cut]


def test_a_row_for_each_layer_and_a_column_for_each_part():
    assert rows() == [
        ["Layers", "attention.q", "mlp.gate", "mlp.down"],
        ["tower.layers.0", "40.0", "", ""],
        ["text.layers.11", "", "38.0", "24.6 FP16"],
        ["Others", "patch_embedding", "linear1"],
        ["tower", "41.2", ""],
        ["projector", "", "exact"],
    ]


def test_how_many_stay_in_fp16():
    assert " 1 of 5 products stay in FP16." in int8(ReportData("m", "h", products=PRODUCTS))
    assert "stay in FP16" not in int8(ReportData("m", "h", products=PRODUCTS[:2]))


def test_a_page_of_another_precision_has_no_such_section():
    assert "What INT8 costs" in render(ReportData("m", "h", products=PRODUCTS))
    assert "INT8" not in render(ReportData("m", "h"))
