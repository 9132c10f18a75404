"""What an evaluation found is on a page of its own, or beside its bundle, as it was found."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from d2export.errors import UsageError
from d2export.report.evaluated import (
    evaluations_of,
    read_accuracy,
    report_of,
    write_evaluation_report,
)
from d2export.report.page import render
from tests.report.sample_accuracy import sample_accuracy
from tests.report.test_page import Page


def write(folder: Path, **changes: Any) -> Path:
    (folder / "accuracy.json").write_text(json.dumps({**sample_accuracy().to_json(), **changes}))
    return folder


def test_a_round_trip(tmp_path: Path) -> None:
    assert read_accuracy(write(tmp_path)) == sample_accuracy()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "other"}, "format is another, expected 'd2export-accuracy'"),
        ({"version": 2}, "version is 2, expected 1"),
        ({"rows": {}}, "rows is an object"),
        ({"rows": [1]}, "rows[0] is no object"),
        ({"rows": [{**sample_accuracy().to_json()["rows"][0], "score": "1"}]}, "rows[0].score"),
        ({"rows": [{"configuration": "d2"}]}, "rows[0].series"),
        ({"task": None}, "task is null"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_accuracy(write(tmp_path, **changes))
    assert said in caught.value.problem
    assert caught.value.hint == "Pass the --output of `d2export eval`."


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"accuracy\.json cannot be read: .*No such file"):
        read_accuracy(tmp_path)


def test_the_score_that_is_told_first_is_that_of_a_tenth_of_the_tokens() -> None:
    locate, count = evaluations_of(sample_accuracy())
    rows = {row.configuration: row for row in sample_accuracy().of("locate")}
    assert locate.score == f"{100 * rows['d2 10%'].score:.1f}\u202f%"
    assert locate.score_about == "locate, d2 10%; unpruned 94.6\u202f%"
    assert count.score_about == "count, d2 10%; unpruned 81.2\u202f%"


def test_the_first_selector_is_told_of_even_if_another_is_nearer() -> None:
    accuracy = sample_accuracy()
    rows = tuple(row for row in accuracy.rows if row.configuration != "d2 10%")
    locate, _ = evaluations_of(replace(accuracy, rows=rows))
    assert locate.score_about == "locate, d2 5%; unpruned 94.6\u202f%"


def test_the_page_has_a_plot_and_all_numbers_of_each_kind(tmp_path: Path) -> None:
    path = write_evaluation_report(sample_accuracy(), tmp_path)
    text = path.read_text()
    page = Page(text)
    assert path == tmp_path / "report.html"
    assert len([svg for svg in page.all("svg") if svg.get("font-family")]) == 2
    assert "pocket-scenes: locate" in page.text
    assert "random <b> 25%" in page.text
    assert "Not complete" not in page.text
    assert "Against PyTorch" not in page.text
    assert len(page.all("tr")) == 2 * (1 + 13)
    row = re.search(r"<tr><th[^>]*>d2 10%</th>(.*?)</tr>", text)
    assert row is not None
    assert re.findall(r"<td>([^<]*)</td>", row[1]) == [
        "25.6 of 256", "82.5", "80.5 to 84.5", "-12.2", "-13.7 to -10.7"
    ]  # fmt: skip


def test_nothing_that_the_policy_would_refuse() -> None:
    assert not [found for _, found in Page(render(report_of(sample_accuracy()))).elements
                if "style" in found]  # fmt: skip


def test_what_is_missing_is_said() -> None:
    text = Page(render(report_of(sample_accuracy(answers=26_000)))).text
    assert "26,000 of 52,000 answers are there; shards without any: 2/2." in text
