"""POPE files: what is asked, what an answer scores, F1 and the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2export.errors import D2ExportError
from d2export.evaluation.formats import read_task
from d2export.evaluation.task import Task
from tests.evaluation.formats.small_files import answered, asked, write_json, write_lines


def task_of(tmp_path: Path, *labels: str) -> Task:
    (tmp_path / "val2014").mkdir(exist_ok=True)
    entries = [asked(question_id=number, label=label) for number, label in enumerate(labels)]
    write_lines(tmp_path / "coco_pope_random.json", *entries)
    return read_task("pope", tmp_path)


def test_a_line_becomes_a_sample(tmp_path):
    (sample,) = task_of(tmp_path, "no").samples
    assert (sample.id, sample.kind, sample.truth) == ("random-0", "random", "no")
    assert sample.picture == tmp_path / "val2014" / "a.png"
    assert sample.prompt == (
        "Is there a ring in the image?\nAnswer the question using a single word or phrase."
    )
    assert (sample.max_new_tokens, sample.chance, sample.regions) == (100, 0.5, ())


@pytest.mark.parametrize(
    ("label", "answer", "score"),
    [("yes", "Yes", 1), ("yes", "No", 0), ("no", "No, there is none.", 1), ("no", "", 0)],
)
def test_what_an_answer_scores(tmp_path, label, answer, score):
    task = task_of(tmp_path, label)
    assert task.score(task.samples[0], answer) == score


def test_figures_beside_the_score(tmp_path):
    """Two of three yes found, one of five answered yes by mistake."""
    task = task_of(tmp_path, *["yes"] * 3, *["no"] * 5)
    answers = answered(task, "Yes", "Yes", "No", "Yes", "No", "No", "No", "No")
    assert sum(answer.score for answer in answers) == 6
    assert task.further(answers) == pytest.approx(
        {"F1": 2 / 3, "precision": 2 / 3, "recall": 2 / 3, "yes ratio": 3 / 8}
    )
    answers = answered(task, *["Yes"] * 8)
    assert task.further(answers) == pytest.approx(
        {"F1": 6 / 11, "precision": 3 / 8, "recall": 1, "yes ratio": 1}
    )


def test_figures_where_nobody_says_yes(tmp_path):
    task = task_of(tmp_path, "yes", "no")
    figures = task.further(answered(task, "No", "No"))
    assert figures == {"F1": 0, "precision": 0, "recall": 0, "yes ratio": 0}


@pytest.mark.parametrize(
    "place", ["coco_pope_{}.json", "coco_pope_{}.jsonl", "coco/coco_pope_{}.json"]
)
def test_the_three_kinds_picture_by_picture(tmp_path, place):
    (tmp_path / "images").mkdir()
    for kind in ("random", "popular", "adversarial"):
        path = tmp_path / place.format(kind)
        write_lines(path, asked(), asked(question_id=2, image="b.png"))
    samples = read_task("pope", tmp_path).samples
    assert [(sample.picture_id, sample.id) for sample in samples] == [
        ("a.png", "random-1"),
        ("a.png", "popular-1"),
        ("a.png", "adversarial-1"),
        ("b.png", "random-2"),
        ("b.png", "popular-2"),
        ("b.png", "adversarial-2"),
    ]


def test_a_file_may_be_an_array(tmp_path):
    (tmp_path / "images").mkdir()
    path = write_json(tmp_path / "coco_pope_popular.json", [asked(), asked(question_id="b")])
    assert [sample.id for sample in read_task("pope", tmp_path).samples] == [
        "popular-1",
        "popular-b",
    ]
    write_json(path, [asked(), asked(question_id=2, label="maybe")])
    with pytest.raises(D2ExportError, match="entry 2: 'label' is 'maybe', expected 'yes' or 'no'"):
        read_task("pope", tmp_path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"question_id": 1}, "two questions have the id 'random-1'"),
        ({"question_id": True}, "'question_id' is True, expected a whole number or a text"),
        ({"question_id": None}, "'question_id' is None, expected a whole number or a text"),
        ({"question_id": 1.5}, "'question_id' is 1.5, expected a whole number or a text"),
        ({"label": ["yes"]}, "'label' is ['yes'], expected 'yes' or 'no'"),
    ],
)
def test_an_entry_that_is_not_as_it_should_be(tmp_path, change, problem):
    (tmp_path / "images").mkdir()
    write_lines(tmp_path / "coco_pope_random.json", asked(), asked(**change))
    with pytest.raises(D2ExportError) as error:
        read_task("pope", tmp_path)
    assert problem in error.value.problem
    assert str(tmp_path) in error.value.problem


def test_a_folder_without_questions(tmp_path):
    with pytest.raises(D2ExportError, match=r"none of coco_pope_random.json, coco_pope_popular"):
        read_task("pope", tmp_path)
