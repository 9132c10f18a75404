"""RefCOCO files as InternVL has them: what is asked, what an answer scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2export.errors import D2ExportError
from d2export.evaluation.formats import read_task
from d2export.evaluation.task import Task
from tests.evaluation.formats.small_files import answered, described, draw, write_lines


def task_of(tmp_path: Path, *entries: object) -> Task:
    (tmp_path / "train2014").mkdir(exist_ok=True)
    write_lines(tmp_path / "refcoco_val.jsonl", *entries)
    return read_task("refcoco", tmp_path)


def test_a_line_becomes_a_sample(tmp_path):
    picture = draw(tmp_path / "train2014" / "a.png")
    (sample,) = task_of(tmp_path, described()).samples
    assert (sample.id, sample.kind, sample.picture_id) == ("refcoco_val-1", "refcoco_val", "a.png")
    assert sample.picture == picture
    assert sample.load().size == (8, 4)
    assert sample.prompt == (
        "Please provide the bounding box coordinate of the region this sentence describes:"
        " <ref>left ring</ref>"
    )
    assert sample.truth == pytest.approx((0.25, 0.25, 0.75, 360.5 / 480))
    assert sample.regions == (sample.truth,)
    assert (sample.max_new_tokens, sample.chance) == (100, None)


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("<ref>left ring</ref><box>[[250, 250, 750, 750]]</box>", 1),
        ("[[250, 250, 500, 750]]", 1),  # just half of it
        ("[[250, 250, 499, 750]]", 0),
        ("[[250, 250, 750, 1251]]", 0),  # a little more than twice as high
        ("[0.25, 0.25, 0.75, 0.75]", 1),
        ("[[750, 750, 250, 250]]", 0),
        ("There is no ring.", 0),
    ],
)
def test_what_an_answer_scores(tmp_path, answer, score):
    task = task_of(tmp_path, described(bbox=[160, 120, 480, 360]))
    assert task.score(task.samples[0], answer) == score


def test_figures_beside_the_score(tmp_path):
    task = task_of(tmp_path, *[described(bbox=[160, 120, 480, 360])] * 4)
    answers = answered(
        task, "[[250, 250, 750, 750]]", "[[250, 250, 350, 750]]", "[[0, 0, 9, 9]]", "no box"
    )
    assert [answer.score for answer in answers] == [1, 0, 0, 0]
    figures = task.further(answers)
    assert figures == pytest.approx({"mean IoU": 1.2 / 4, "answers without a box": 1})
    assert task.metric == {"refcoco_val": "Precision@1 (IoU >= 0.5)"}


def test_a_region_ends_at_the_edge_and_the_truth_does_not(tmp_path):
    (sample,) = task_of(tmp_path, described(bbox=[-6.4, 0, 640, 480.48])).samples
    assert sample.truth == pytest.approx((-0.01, 0, 1, 1.001))
    assert sample.regions == ((0, 0, 1, 1),)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("refcoco", ["refcoco_val", "refcoco_testA", "refcoco_testB"]),
        ("refcoco+", ["refcoco+_val", "refcoco+_testA", "refcoco+_testB"]),
        ("refcocog", ["refcocog_val", "refcocog_test"]),
    ],
)
def test_each_split_is_a_kind(tmp_path, name, files):
    (tmp_path / "images").mkdir()
    for file in files:
        write_lines(tmp_path / f"{file}.jsonl", described(), described(image="b.png"))
    task = read_task(name, tmp_path, limit=1)
    assert [sample.kind for sample in task.samples] == files
    assert list(task.metric) == files
    assert len(read_task(name, tmp_path).samples) == 2 * len(files)


def test_only_splits_that_are_there_are_read(tmp_path):
    (tmp_path / "images").mkdir()
    write_lines(tmp_path / "refcoco_testB.jsonl", described())
    assert list(read_task("refcoco", tmp_path).metric) == ["refcoco_testB"]
    with pytest.raises(D2ExportError) as error:
        read_task("refcocog", tmp_path)
    assert "has none of refcocog_val.jsonl, refcocog_test.jsonl" in error.value.problem


def test_pictures_may_lie_where_internvl_has_them(tmp_path):
    pictures = tmp_path / "coco" / "train2014"
    pictures.mkdir(parents=True)
    write_lines(tmp_path / "refcoco" / "refcoco_val.jsonl", described())
    (sample,) = read_task("refcoco", tmp_path / "refcoco").samples
    assert sample.picture.resolve() == pictures / "a.png"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"bbox": [1, 2, 3]}, "line 2: 'bbox' is [1, 2, 3], expected [x1, y1, x2, y2] in pixels"),
        ({"bbox": [1, 2, 3, "4"]}, "'bbox' is [1, 2, 3, '4']"),
        ({"bbox": [3, 2, 1, 4]}, "with x1 < x2 and y1 < y2"),
        ({"bbox": [1, 4, 3, 4]}, "with x1 < x2 and y1 < y2"),
        ({"bbox": [1, 2, 3, float("nan")]}, "'bbox' is [1, 2, 3, nan]"),
        ({"bbox": [1, 2, 3, 10**400]}, "'bbox' is [1, 2, 3, 1000"),
        ({"bbox": "1, 2, 3, 4"}, "'bbox' is '1, 2, 3, 4'"),
        ({"width": 0}, "line 2: 'width' is 0, expected a number of pixels above 0"),
        ({"height": True}, "'height' is True"),
        ({"sent": " "}, "'sent' is ' ', expected a text"),
        ({"sent": 7}, "'sent' is 7, expected a text"),
        ({"sent": "\ud800"}, "'sent' is '\\ud800', expected a text"),
        ({"image": "data/.."}, "'image' is 'data/..', expected the name of a picture"),
        ({"image": "a\0.png"}, "'image' is 'a\\x00.png', expected the name of a picture"),
        ({"image": "data/"}, "'image' is 'data/', expected the name of a picture"),
    ],
)
def test_an_entry_that_is_not_as_it_should_be(tmp_path, change, problem):
    with pytest.raises(D2ExportError) as error:
        task_of(tmp_path, described(), described(**change))
    assert str(tmp_path / "refcoco_val.jsonl") in error.value.problem
    assert problem in error.value.problem
    assert "docs/tasks.md" in error.value.hint


@pytest.mark.parametrize("key", ["image", "sent", "bbox", "height", "width"])
def test_an_entry_that_lacks_something(tmp_path, key):
    entry = described()
    del entry[key]
    with pytest.raises(D2ExportError, match=rf"refcoco_val.jsonl, line 1 has no '{key}', expected"):
        task_of(tmp_path, entry)


def test_a_name_in_a_file_does_not_lead_out_of_the_folder(tmp_path):
    (sample,) = task_of(tmp_path, described(image="/etc/../etc\\passwd")).samples
    assert sample.picture == tmp_path / "train2014" / "passwd"
