"""The page says what the data say, whatever is missing from them, and loads nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from d2export.report.data import ReportData
from d2export.report.markup import VOID
from d2export.report.page import render
from tests.report.sample_report import HOSTILE, empty_report, full_report, keeps

SECTIONS = ["kept", "importance", "cost", "accuracy", "check", "made"]


class Page(HTMLParser):
    """Elements with their attributes and text; refuses what is not nested."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(data: ReportData) -> Page:
    return Page(render(data))


@pytest.mark.parametrize("data", [full_report(), empty_report()], ids=["full", "empty"])
def test_every_section_is_there(data: ReportData) -> None:
    page = page_of(data)
    assert [section["id"] for section in page.all("section")] == SECTIONS
    assert len(page.all("h1")) == 1


def test_hostile_names_stay_text() -> None:
    """Model, selector, picture, prior, plan, note, machine, command: each is shown, none acts."""
    page = page_of(full_report(HOSTILE))
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert page.all("img") == []
    assert page.text.count(HOSTILE) >= 12
    assert not [name for _, found in page.elements for name in found if name.startswith("on")]
    plain, hostile = page_of(full_report("plain")), page
    assert [tag for tag, _ in plain.elements] == [tag for tag, _ in hostile.elements]


def test_nothing_is_loaded_and_nothing_else_may_be() -> None:
    text = render(full_report("plain"))
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)
    page = Page(text)
    for tag, attributes in page.elements:
        assert "style" not in attributes, tag  # the policy would refuse it
        for name in ("src", "href", "data", "action", "srcset", "poster"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/jpeg;", "data:image/png;")), (tag, value[:60])
    (policy,) = (meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_what_is_used_is_defined_once() -> None:
    text = render(full_report("plain"))
    page = Page(text)
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    used = {found["href"] for found in page.all("use")} | set(re.findall(r"url\((#[^)]+)\)", text))
    used |= {f"#{found['for']}" for found in page.all("label")}
    used |= {f"#{found['aria-labelledby']}" for found in page.all("section")}
    assert len(used) > 10
    assert used <= {f"#{name}" for name in ids}


def test_every_drawing_has_words() -> None:
    for drawing in page_of(full_report("plain")).all("svg"):
        nested = "x" in drawing or ("width" in drawing and "viewbox" in drawing)
        hidden = drawing.get("aria-hidden") == "true"
        assert nested or hidden or (drawing["role"] == "img" and drawing["aria-label"])


@pytest.mark.parametrize(
    "number",
    [
        "25\u202f%", "32 of 128 visual tokens of 2 pictures",  # kept
        "43\u202f%", "35\u202f% of its KV cache", "43.2\u202f%", "1.23", "5.60",  # saved
        "0.50\u202fms", "4.0\u202f% of the prefill", "21.5", "64.5", "0.691", "0.000365",  # takes
        "96.88\u202f% of the kept tokens equal, fp16", "31 of 32", "1.5e-06", "2.5e-05", "7 of 8",
        "0.25", "4.75", "0.746", "2.13.0", "14 of 112 tokens", "28 of 112 tokens",
    ],
)  # fmt: skip
def test_numbers_are_those_of_the_data(number: str) -> None:
    assert number in page_of(full_report("plain")).text


def test_every_budget_has_its_layer_and_one_is_chosen() -> None:
    page = page_of(full_report("plain"))
    radios = [found for found in page.all("input") if found["type"] == "radio"]
    assert [found["id"] for found in radios] == ["budget-0", "budget-1", "budget-2"]
    assert [found["id"] for found in radios if "checked" in found] == ["budget-1"]
    layers = [found["class"] for found in page.all("g") if "layer" in (found["class"] or "")]
    assert layers == ["layer k0", "layer k1 built"] * 2  # nothing is drawn where all are kept
    for i in range(3):
        assert f":root:has(#budget-{i}:checked) .k{i}" in render(full_report("plain"))


def test_what_is_missing_is_said() -> None:
    text = page_of(empty_report()).text
    for said in (
        "no selection is stored",
        "stores no selections",
        "There is nothing to draw.",
        "It was not measured.",
        "Not evaluated on a task yet.",
        "Nothing was compared with PyTorch.",
        "Not noted",
        "not checked",
    ):
        assert said in text, said
    assert "Random weights" not in text
    assert "Random weights" in page_of(full_report()).text


def test_a_stage_that_was_not_timed_has_no_number() -> None:
    data = full_report("plain")
    (*stages, unpruned) = data.stages
    row = re.search(r"<tr><th[^>]*>Prefill, nothing pruned</th>.*?</tr>", render(data))
    assert row is not None
    assert row[0].count('aria-label="not measured"') == 2
    counted = replace(data, stages=(*stages, replace(unpruned, latency=stages[0].latency)))
    assert render(counted).count('aria-label="not measured"') == 0


def test_a_failed_check_and_an_error_that_is_no_number() -> None:
    data = full_report("plain")
    assert data.check is not None
    (case,) = data.check.cases
    broken = replace(data.check, passed=False, cases=(replace(case, embeddings_error=None),))
    text = page_of(replace(data, check=broken)).text
    assert "failed" in text
    assert "No. onnxruntime in fp16" in text
    assert "not finite" in text


def test_without_a_prior_there_is_one_map_a_picture() -> None:
    data = full_report("plain")
    pictures = tuple(replace(picture, prior=None, debiased=None) for picture in data.pictures)
    text = page_of(replace(data, pictures=pictures)).text
    assert "Raw importance, padded" in text
    assert "debiased" not in text
    assert "÷ prior" in page_of(data).text


def test_a_budget_that_the_picture_decides_saves_nothing_that_is_known() -> None:
    unknown = tuple(replace(keep, saving=None) for keep in keeps())
    text = page_of(replace(full_report("plain"), keeps=unknown)).text
    assert "the picture decides how many tokens stay" in text
    assert "What each budget saves" not in text


def test_equal_data_give_equal_pages_of_modest_size() -> None:
    assert render(full_report()) == render(full_report())
    assert len(render(full_report())) < 100_000


def test_the_page_of_an_evaluation_has_no_parts_of_a_bundle() -> None:
    data = replace(full_report("plain"), subject="evaluation")
    page = page_of(data)
    assert [section["id"] for section in page.all("section")] == ["accuracy", "made"]
    assert "not checked" not in page.text
    assert "Exported with" not in page.text
