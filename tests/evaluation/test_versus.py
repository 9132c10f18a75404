"""INT8 beside FP16: what is paired, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from d2export.evaluation.configuration import Configuration, unpruned
from d2export.evaluation.results import ResultsFolder, settings_of
from d2export.evaluation.statistics import paired
from d2export.evaluation.tables import Accuracy, summarize
from d2export.evaluation.versus import Footprint, Versus
from d2export.models.presets import preset
from d2export.options import ExportOptions
from d2export.report.evaluated import read_accuracy, report_of
from d2export.report.page import render
from tests.evaluation.small_model import small_samples, small_task

PLAN = ExportOptions("pocket", scope="vlm").plan(preset("pocket"))
HERE = {"processor": "one", "threads": "2"}
FP16 = Footprint("fp16", "fp16", 8_000_000, {"vision": 10.0, "prefill": 4.0, "decode": 1.0}, HERE)
INT8 = Footprint("int8", "int8", 5_000_000, {"vision": 12.0, "prefill": 3.0, "decode": 1.01}, HERE)
PICTURES = 40
CONFIGURATIONS = [
    configuration
    for group in ("fp16", "int8")
    for configuration in (
        unpruned(group),
        Configuration(f"d2 {group} 10%", f"d2 {group}", PLAN, group=group),
    )
] + [Configuration("d2 int8 5%", "d2 int8", PLAN, group="int8")]  # without a twin
WRONG = {
    "unpruned fp16": 2,
    "unpruned int8": 3,
    "d2 fp16 10%": 4,
    "d2 int8 10%": 20,
    "d2 int8 5%": 9,
}


def found(folder: Path, narrow: Footprint = INT8, wide: Footprint = FP16) -> Accuracy:
    task = small_task(small_samples(PICTURES))
    results = ResultsFolder(folder, settings_of(task, {}, CONFIGURATIONS, 1))
    lines = []
    for sample in task.samples:
        for name, wrong in WRONG.items():
            score = float(int(sample.picture_id) >= wrong or sample.kind == "read")
            record: dict[str, Any] = {"id": sample.id, "configuration": name, "text": ""}
            lines.append(json.dumps(record | {"score": score, "kept": 1, "tokens": 16}) + "\n")
    (folder / "answers-1-of-1.jsonl").write_text("".join(lines))
    return summarize(task, results, CONFIGURATIONS, {}, [(narrow, wide)])


def versus(folder: Path, **changes: Any) -> Versus:
    (one,) = found(folder, replace(INT8, **changes)).versus
    return one


def test_what_differs_in_nothing_else_is_paired(tmp_path: Path) -> None:
    one = versus(tmp_path)
    assert [(pair.configuration, pair.kind) for pair in one.pairs] == [
        ("unpruned int8", "locate"),
        ("d2 int8 10%", "locate"),
        ("unpruned int8", "read"),
        ("d2 int8 10%", "read"),
    ]
    tenth = one.pairs[1]
    assert (tenth.n, tenth.wide_score, tenth.score) == (PICTURES, 0.9, 0.5)
    scores = [[float(i >= wrong) for i in range(PICTURES)] for wrong in (20, 4)]
    expected = paired(*scores, range(PICTURES))
    assert (tenth.difference, tenth.low, tenth.high) == (expected.difference, *expected.interval)


def test_a_loss_is_said_in_points_with_its_interval(tmp_path: Path) -> None:
    first, *others = versus(tmp_path).verdict()
    assert first.startswith("INT8 loses 40.0 points (")
    assert first.endswith(") of locate: d2 int8 10%.")
    assert not any("points" in sentence for sentence in others)  # 2.5 points are within noise


def test_no_loss_that_shows_is_no_proof(tmp_path: Path) -> None:
    one = versus(tmp_path)
    quiet = replace(one, pairs=tuple(pair for pair in one.pairs if pair.high >= 0))
    most = -100 * min(pair.low for pair in quiet.pairs)
    assert quiet.verdict()[0] == (
        f"No loss of accuracy shows in 40 questions of a kind; one of {most:.1f} points could "
        "still hide."
    )


def test_sizes_and_times(tmp_path: Path) -> None:
    assert versus(tmp_path).verdict()[1:] == [
        "INT8 is smaller: 5.0 MB against 8.0 MB, 62%.",
        "INT8 is slower, it loses: vision takes 12 ms against 10 ms.",
        "INT8 is faster: prefill takes 3 ms against 4 ms.",
        "INT8 is as fast: decode takes 1.01 ms against 1 ms.",
    ]
    assert (
        "INT8 is larger: 9.0 MB against 8.0 MB, 112%."
        in versus(tmp_path, bytes=9_000_000).verdict()
    )


@pytest.mark.parametrize(
    "changes", [{"milliseconds": {}}, {"where": {**HERE, "processor": "another"}}]
)
def test_times_of_two_machines_are_not_compared(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert versus(tmp_path, **changes).verdict()[-1].startswith("Latency: not measured in both")


def test_it_is_in_the_text_in_the_file_and_on_the_page(tmp_path: Path) -> None:
    accuracy = found(tmp_path)
    assert "INT8 against FP16, scores in %" in accuracy.text()
    assert accuracy.versus[0].verdict()[0] in accuracy.text()
    accuracy.write(tmp_path)
    assert read_accuracy(tmp_path).versus == accuracy.versus
    page = render(report_of(accuracy))
    assert "INT8 against FP16" in page
    assert accuracy.versus[0].verdict()[0] in page
    assert "INT8" not in render(report_of(replace(accuracy, rows=(), versus=())))
