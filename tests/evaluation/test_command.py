"""`d2export eval` and `d2export check --max-drop`, as they are typed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from d2export.evaluation import tasks
from d2export.evaluation.configuration import unpruned
from d2export.evaluation.pytorch_answers import PytorchAnswers
from d2export.evaluation.pytorch_model import load_model
from d2export.evaluation.task import Sample, Task
from d2export.models.checkpoint import Checkpoint
from tests.command import Caller, names
from tests.evaluation.small_model import small_samples, small_task


@pytest.fixture
def faithful(small_model: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Task:
    """What is asked instead of any task: an answer is right if the unpruned model gives it, too."""
    samples = small_samples(4)
    answers = PytorchAnswers(load_model(small_model), [unpruned()])(samples)
    texts = {found.sample.id: found.text for found in answers}

    def score(sample: Sample, text: str) -> float:
        return float(text == texts[sample.id])

    task = replace(small_task(samples), score=score, metric={"": "as unpruned"})
    monkeypatch.setattr(tasks, "open_task", lambda *_: task)
    return task


def test_a_model(d2: Caller, small_model: Checkpoint, faithful: Task, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("eval", "-m", small_model.folder, "--task", "small", "-o", out, "--threads", "1")
    options = ("--selector", "d2", "--selector", "uniform", "--keep", "all", "--keep", "1")
    answer = d2(*command, *options, "--oracle", "--shard", "1/2")
    assert answer.code == 0, answer.err
    assert "[2/2] asking 7 configurations 4 questions of small\n" in answer.err
    assert "warning: 28 of 56 answers are there; shards without any: 2/2\n" in answer.err
    answer = d2(*command, *options, "--oracle", "--shard", "2/2", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["complete"] is True
    assert names(out) == [
        "accuracy-locate.svg",
        "accuracy-read.svg",
        "accuracy.csv",
        "accuracy.json",
        "answers-1-of-2.jsonl",
        "answers-2-of-2.jsonl",
        "evaluation.json",
        "report.html",
    ]
    assert json.loads((out / "accuracy.json").read_text()) == found
    scores = {(row["configuration"], row["kind"]): row["score"] for row in found["rows"]}
    for kind in ("locate", "read"):
        for whole in ("unpruned", "d2 all", "uniform all", "oracle all"):
            assert scores[whole, kind] == 1
    assert scores["uniform 1", "locate"] < 1
    assert found["environment"]["threads"] == "1"
    assert found["settings"]["models"][""]["source"] == "folder"
    refused = d2.refused(*command, "--selector", "d2", "--shard", "1/2")
    assert refused.startswith(f"{out} is another evaluation: configurations > d2 all is there, ")


def test_bundles(d2: Caller, d2_bundle: Path, faithful: Task, tmp_path: Path) -> None:
    """ONNX Runtime, unpruned, gives the answers of PyTorch; one token is not enough for that."""
    out = tmp_path / "out"
    command = ("eval", d2_bundle, "--task", "small", "-o", out, "--keep", "1", "--keep", "8")
    answer = d2(*command, "--json", "--quiet")
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)["rows"]
    assert [row["configuration"] for row in rows][:3] == ["unpruned", "d2 K=2 1", "d2 K=2 8"]
    assert [row["score"] for row in rows if row["baseline"] is None] == [1, 1]
    assert min(row["score"] for row in rows) < 1
    answer = d2(*command)  # nothing is asked again
    assert f"going on after 24 of 24 answers: {out}" in answer.err
    assert f"Figures and plots: {out}" in answer.out


def test_a_budget_that_is_kept_and_one_that_is_not(
    d2: Caller, d2_bundle: Path, faithful: Task
) -> None:
    answer = d2("check", d2_bundle, "--max-drop", "100%", "--task", "small", "--quiet")
    assert answer.code == 0, answer.err
    assert answer.last_line == "PASSED"
    answer = d2("check", d2_bundle, "--max-drop", "0%", "--quiet")
    assert answer.code == 1, answer.err
    assert answer.last_line == "FAILED"
    assert "d2 K=2 8 on small: drop of the score in percentage points, at most 0 " in answer.out
    assert "TOO MUCH" in answer.out
    answer = d2("check", d2_bundle, "--max-drop", "0%", "--json", "--quiet")
    assert answer.code == 1
    assert json.loads(answer.out)["passed"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("eval", "--task", "pope", "-o", "x"), "there is nothing to evaluate\n"),
        (
            ("eval", "--model", "pocket", "b", "--task", "pope", "-o", "x"),
            "bundles and --model are both given\n",
        ),
        (
            ("eval", "b", "--selector", "d2", "--task", "pope", "-o", "x"),
            "--selector has no effect with bundles\n",
        ),
        (
            ("eval", "-m", "pocket", "--provider", "cpu", "--task", "pope", "-o", "x"),
            "--provider has no effect with --model\n",
        ),
        (
            ("eval", "b", "--task", "pop", "-o", "x"),
            "there is no task 'pop', did you mean 'pope'?\n",
        ),
        (
            ("eval", "b", "--task", "pope", "-o", "x"),
            "task pope is read from files, and --data is missing\n",
        ),
        (
            ("eval", "b", "--task", "pocket-scenes", "--data", "d", "-o", "x"),
            "--data is d, but task pocket-scenes draws its own\n",
        ),
        (
            ("eval", "b", "--task", "pocket-scenes", "--samples", "0", "-o", "x"),
            "--samples is 0, expected at least 1\n",
        ),
        (("check", "b", "--task", "pope"), "--task has no effect without --max-drop\n"),
        (("check", "b", "--max-drop", "2"), "--max-drop is '2', expected percentage points"),
        (
            ("check", "b", "--max-drop", "2%", "--per-layer"),
            "--per-layer has no effect with --max-drop\n",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(
    d2: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...],
    message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    refused = d2.refused(*arguments)
    assert refused.startswith(message)
    assert "\n  " in refused
    assert names(tmp_path) == []
