"""`report.json` is somebody's file: what it says is read, and what makes no sense is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from d2export.errors import BundleError
from d2export.report.measured import Measured, read_measured

LATENCY = {"iterations": 3, "min": 1, "mean": 2, "median": 2, "p90": 3, "p95": 3, "p99": 3}
STAGE = {
    "tiles": 1, "tokens": 256, "kept": 64, "vision": LATENCY, "selection": LATENCY,
    "selection_implementation": "native", "selection_share": 0.1,
}  # fmt: skip
CASE = {
    "name": "photo", "tiles": 1, "tokens": 256, "kept": 64, "common": 63,
    "embeddings_error": None, "seconds": 0.5, "cosine": 1.0, "near_ties": None,
}  # fmt: skip
REPORT = {
    "passed": True,
    "accuracy": {
        "backend": "onnxruntime", "selection_implementation": "native", "precision": "fp32",
        "tolerances": {"embeddings": 1e-5, "indices": 1, "logits": 1e-4}, "agreement": 0.98,
        "passed": True, "cases": [CASE],
    },
    "latency_ms": [STAGE],
    "pytorch_seconds": {"photo": 1.5},
    "environment": {"processor": "one"},
}  # fmt: skip


def read(folder: Path, value: Any) -> Measured:
    text = value if isinstance(value, str) else json.dumps(value)
    (folder / "report.json").write_text(text)
    return read_measured(folder)


def test_what_it_says(tmp_path: Path) -> None:
    found = read(tmp_path, REPORT)
    assert found.check is not None
    (case,) = found.check.cases
    assert (case.kept, case.common, case.embeddings_error) == (64, 63, None)
    assert case.tokens is None  # visual ones there, not those of an answer
    assert found.check.asked == 1.0
    assert found.timed[0].vision.p95 == 3.0
    assert found.timed[0].prefill is None
    assert found.environment == {"processor": "one"}


def test_the_tokens_of_an_answer(tmp_path: Path) -> None:
    answered = {**CASE, "tokens": 8, "equal_tokens": 7, "logits_error": 1e-5}
    value = {**REPORT, "accuracy": {**REPORT["accuracy"], "cases": [answered]}}  # type: ignore[dict-item]
    check = read(tmp_path, value).check
    assert check is not None
    assert (check.cases[0].tokens, check.cases[0].equal_tokens) == (8, 7)


def test_nothing_measured(tmp_path: Path) -> None:
    assert read_measured(tmp_path) == Measured()
    assert read(tmp_path, {}) == Measured()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{", "not JSON"),
        ([], "no object, expected an object"),
        ({"latency_ms": {}}, "latency_ms is no array"),
        ({"latency_ms": [{**STAGE, "kept": "64"}]}, "latency_ms[0].kept"),
        ({"latency_ms": [{**STAGE, "vision": {}}]}, "latency_ms[0].vision.iterations is missing"),
        ({"accuracy": {**REPORT["accuracy"], "cases": 1}}, "accuracy.cases is no array"),  # type: ignore[dict-item]
        ({"accuracy": {"cases": []}}, "accuracy.backend is missing"),
        ({"environment": {"processor": 1}}, "environment.processor"),
        ({**REPORT, "pytorch_seconds": {"photo": None}}, "pytorch_seconds.photo"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, value: Any, said: str) -> None:
    with pytest.raises(BundleError) as caught:
        read(tmp_path, value)
    assert said in caught.value.problem
    assert caught.value.hint == f"Measure again: d2export build {tmp_path}"
