"""GQA as published: what is asked, what an answer scores, open questions and the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from d2export.errors import D2ExportError
from d2export.evaluation.formats import read_task
from d2export.evaluation.task import Task
from tests.evaluation.formats.small_files import answered, looked, write_json


def task_of(tmp_path: Path, document: Any) -> Task:
    (tmp_path / "images").mkdir(exist_ok=True)
    write_json(tmp_path / "testdev_balanced_questions.json", document)
    return read_task("gqa", tmp_path)


def test_an_entry_becomes_a_sample(tmp_path):
    task = task_of(tmp_path, {"201307251": looked()})
    (sample,) = task.samples
    assert (sample.id, sample.kind, sample.picture_id) == ("201307251", "gqa", "n1.jpg")
    assert sample.picture == tmp_path / "images" / "n1.jpg"
    assert sample.prompt == ("Is it overcast?\nAnswer the question using a single word or phrase.")
    assert (sample.truth.answer, sample.truth.open) == ("no", False)
    assert (sample.max_new_tokens, sample.chance) == (10, None)
    assert task.metric == {"gqa": "accuracy"}


@pytest.mark.parametrize(
    ("answer", "score"),
    [("no", 1), ("No.", 1), (" NO..\n", 1), ("no, it is not", 0), ("yes", 0), ("", 0)],
)
def test_what_an_answer_scores(tmp_path, answer, score):
    task = task_of(tmp_path, {"1": looked()})
    assert task.score(task.samples[0], answer) == score


def test_open_questions_and_the_others(tmp_path):
    query = looked(answer="car", types={"structural": "query", "semantic": "obj"})
    task = task_of(tmp_path, {"1": looked(), "2": query, "3": looked(), "4": looked(), "5": query})
    answers = answered(task, "no", "bus", "no", "yes", "Car")
    figures = task.further(answers)
    assert figures == pytest.approx({"accuracy, binary": 2 / 3, "accuracy, open": 1 / 2})
    assert task.further(answers[:1]) == {"accuracy, binary": 1}


def test_questions_come_picture_by_picture_and_a_limit_is_of_the_file(tmp_path):
    document = {str(n): looked(imageId=name) for n, name in enumerate("abcab")}
    assert [sample.id for sample in task_of(tmp_path, document).samples] == list("03142")
    few = read_task("gqa", tmp_path, limit=4)
    assert [sample.id for sample in few.samples] == list("0312")


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, "has no entries, expected at least one"),
        ([looked()], "expected a JSON object"),
        ({"1": looked(), "7": None}, "entry '7' is None, expected a JSON object"),
        ({"7": looked(types="verify")}, "entry '7': 'types' is 'verify', expected an object"),
        ({"7": looked(types={})}, "entry '7', 'types' has no 'structural', expected a text"),
        ({"7": looked(answer=1)}, "entry '7': 'answer' is 1, expected a text"),
        ({"7": looked(imageId=["n"])}, "entry '7': 'imageId' is ['n'], expected a text"),
    ],
)
def test_a_file_that_is_not_as_it_should_be(tmp_path, document, problem):
    with pytest.raises(D2ExportError) as error:
        task_of(tmp_path, document)
    assert f"{tmp_path / 'testdev_balanced_questions.json'}" in error.value.problem
    assert problem in error.value.problem


def test_a_folder_without_questions(tmp_path):
    with pytest.raises(D2ExportError, match=r"has no testdev_balanced_questions.json"):
        read_task("gqa", tmp_path)
