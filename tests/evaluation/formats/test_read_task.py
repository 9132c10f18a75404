"""What all tasks have in common: names, folders, files that cannot be read, examples in docs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from d2export.errors import D2ExportError, ImageError
from d2export.evaluation.formats import READERS, read_task, refcoco
from d2export.evaluation.formats.short_answers import SHORT_ANSWER
from tests.evaluation.formats.small_files import asked, described, write_lines

DOCUMENT = Path(__file__).parents[3] / "docs" / "tasks.md"
EXAMPLE = re.compile(r"^Example of `([^`]+)`.*\n\n```json\n(.*)\n```$", re.MULTILINE)


def test_an_unknown_name_gets_a_suggestion(tmp_path):
    with pytest.raises(D2ExportError, match="no task 'refcoco-g', did you mean 'refcocog'"):
        read_task("refcoco-g", tmp_path)


@pytest.mark.parametrize("name", READERS)
def test_a_folder_that_is_not_there(tmp_path, name):
    with pytest.raises(D2ExportError, match=rf"nowhere is no folder, .* of task {re.escape(name)}"):
        read_task(name, tmp_path / "nowhere")


def test_a_limit_is_at_least_one(tmp_path):
    with pytest.raises(D2ExportError, match="limit is 0, expected at least 1"):
        read_task("gqa", tmp_path, limit=0)


def test_a_missing_folder_of_pictures_is_an_error_at_once(tmp_path):
    write_lines(tmp_path / "coco_pope_random.json", asked())
    with pytest.raises(D2ExportError) as error:
        read_task("pope", tmp_path)
    assert f"{tmp_path} has no folder of pictures, expected one of val2014" in error.value.problem
    assert str(tmp_path / "val2014") in error.value.hint


def test_a_missing_picture_is_an_error_when_it_is_asked_for(tmp_path):
    (tmp_path / "val2014").mkdir()
    write_lines(tmp_path / "coco_pope_random.json", asked())
    (sample,) = read_task("pope", tmp_path).samples
    with pytest.raises(ImageError, match=r"val2014/a.png does not exist"):
        sample.load()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "coco_pope_random.json has no entries, expected at least one"),
        (b"\n \n", "coco_pope_random.json has no entries, expected at least one"),
        (b"[]", "coco_pope_random.json has no entries, expected at least one"),
        (b'\n{"question_id": 1,\n', "line 2 is not JSON (Expecting property name"),
        (b'"text"', "line 1 is 'text', expected a JSON object"),
        (b"[{}, 7]", "entry 1 has no 'image', expected a text; it has nothing"),
        (b"[7]", "entry 1 is 7, expected a JSON object"),
        (b"[{}\n", "coco_pope_random.json is not JSON"),
        (b'{"image": "\xff"}', "line 1 is not JSON ('utf-8' codec"),
        (b"\x1f\x8b\x08\x00", "line 1 is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"image": ' + b"[" * 100_000, "line 1 is not JSON"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path, content, problem):
    (tmp_path / "images").mkdir()
    path = tmp_path / "coco_pope_random.json"
    path.write_bytes(content)
    with pytest.raises(D2ExportError) as error:
        read_task("pope", tmp_path)
    assert str(path) in error.value.problem
    assert problem in error.value.problem
    assert error.value.hint


def test_the_line_of_a_mistake_is_its_line_in_the_file(tmp_path):
    (tmp_path / "images").mkdir()
    path = write_lines(tmp_path / "coco_pope_random.json", asked(), asked(question_id=2))
    path.write_bytes(path.read_bytes() + b"\n[1]\n")
    with pytest.raises(D2ExportError, match=r"line 4 is \[1\], expected a JSON object"):
        read_task("pope", tmp_path)
    assert len(read_task("pope", tmp_path, limit=2).samples) == 2  # not looked at


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]"])
def test_a_document_that_cannot_be_read(tmp_path, content):
    (tmp_path / "images").mkdir()
    path = tmp_path / "testdev_balanced_questions.json"
    path.write_bytes(content)
    with pytest.raises(D2ExportError, match=r"testdev_balanced_questions\.json (is|has no) "):
        read_task("gqa", tmp_path)


def test_a_folder_in_the_place_of_a_file(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "refcoco_val.jsonl").mkdir()
    (tmp_path / "testdev_balanced_questions.json").mkdir()
    for name in ("refcoco", "gqa"):
        with pytest.raises(D2ExportError, match=r"cannot read .*: Is a directory"):
            read_task(name, tmp_path)


def test_a_byte_order_mark_does_no_harm(tmp_path):
    (tmp_path / "images").mkdir()
    path = tmp_path / "refcoco_val.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(described()).encode() + b"\r\n")
    assert len(read_task("refcoco", tmp_path).samples) == 1


def examples() -> list[tuple[str, str]]:
    return EXAMPLE.findall(DOCUMENT.read_text())


def test_every_file_has_an_example_in_the_document():
    assert [name for name, _ in examples()] == [
        "refcoco_val.jsonl",
        "coco_pope_random.json",
        "TextVQA_0.5.1_val.json",
        "textvqa_val.jsonl",
        "textvqa_val_annotations.json",
        "llava_textvqa_val_v051_ocr.jsonl",
        "testdev_balanced_questions.json",
    ]


@pytest.mark.parametrize(
    ("task", "files", "truth"),
    [
        ("refcoco", ["refcoco_val.jsonl"], 0.1623),
        ("pope", ["coco_pope_random.json"], "yes"),
        ("textvqa", ["TextVQA_0.5.1_val.json"], "nous les gosses"),
        ("textvqa", ["textvqa_val.jsonl", "textvqa_val_annotations.json"], "nous les gosses"),
        (
            "textvqa-ocr",
            ["llava_textvqa_val_v051_ocr.jsonl", "TextVQA_0.5.1_val.json"],
            "nous les gosses",
        ),
        ("gqa", ["testdev_balanced_questions.json"], "no"),
    ],
)
def test_the_examples_of_the_document_are_read(tmp_path, task, files, truth):
    for folder in ("images", "train_images"):
        (tmp_path / folder).mkdir()
    for file in files:
        (tmp_path / file).write_text(dict(examples())[file])
    (sample,) = read_task(task, tmp_path).samples
    found = getattr(sample.truth, "answer", sample.truth)
    assert (found if isinstance(found, str) else found[0]) == (
        pytest.approx(truth, abs=1e-4) if isinstance(truth, float) else truth
    )


def test_the_document_lists_every_task_and_what_is_asked():
    text = DOCUMENT.read_text()
    table = text[text.index("| task ") : text.index("`--data`")]
    assert [name for name in READERS if f"`{name}`" not in table] == []
    words = " ".join(text.split())
    assert refcoco.PROMPT.format("the lady with the blue shirt") in words
    assert f"`{SHORT_ANSWER}`" in words
