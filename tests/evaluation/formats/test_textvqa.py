"""TextVQA in its four forms: as published, InternVL's lines, and both with OCR tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from d2export.errors import D2ExportError
from d2export.evaluation.formats import read_task
from tests.evaluation.formats.small_files import PEOPLE, read, write_json, write_lines

SHORT = "Answer the question using a single word or phrase."
OCR = f"what brand?\nReference OCR token: dakota, digital\n{SHORT}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train_images").mkdir()
    return tmp_path


def write_published(folder: Path, *entries: Any) -> None:
    write_json(folder / "TextVQA_0.5.1_val.json", {"data": entries or [read()]})


def write_internvl(folder: Path, name: str = "textvqa_val.jsonl", **changes: Any) -> None:
    entry = {"image": "data/textvqa/train_images/003a.jpg", "question": "What brand?"}
    write_lines(folder / name, {**entry, "question_id": 34602, **changes})
    answers = [{"answer": text, "answer_id": number} for number, text in enumerate(PEOPLE)]
    document = {"annotations": [{"question_id": 34602, "answers": answers}]}
    write_json(folder / "textvqa_val_annotations.json", document)


def write_llava(folder: Path, **changes: Any) -> None:
    entry = {"question_id": "003a", "image": "003a.jpg", "text": OCR, **changes}
    write_lines(folder / "llava_textvqa_val_v051_ocr.jsonl", entry)


def test_as_published(folder):
    write_published(folder)
    task = read_task("textvqa", folder)
    (sample,) = task.samples
    assert (sample.id, sample.kind, sample.picture_id) == ("34602", "textvqa", "003a.jpg")
    assert sample.picture == folder / "train_images" / "003a.jpg"
    assert sample.prompt == f"What brand?\n{SHORT}"
    assert sample.truth == tuple(PEOPLE)
    assert (sample.max_new_tokens, sample.chance) == (10, None)
    assert task.metric == {"textvqa": "VQA accuracy"}
    scores = [task.score(sample, text) for text in ("dakota.", "Dakota Digital", "nous", "canon")]
    assert scores == [1, 0.9, 0.3, 0]


def test_a_limit_is_of_the_file(folder):
    write_published(folder, *[read(question_id=number) for number in range(5)])
    assert [sample.id for sample in read_task("textvqa", folder, limit=2).samples] == ["0", "1"]


def test_internvls_lines_join_question_and_prompt_by_a_blank(folder):
    write_internvl(folder)
    (sample,) = read_task("textvqa", folder).samples
    assert sample.prompt == f"What brand? {SHORT}"
    assert (sample.id, sample.truth) == ("34602", tuple(PEOPLE))
    assert sample.picture == folder / "train_images" / "003a.jpg"


def test_if_both_are_there_the_published_file_is_read(folder):
    write_internvl(folder)
    write_published(folder)
    task = read_task("textvqa", folder)
    assert task.samples[0].prompt == f"What brand?\n{SHORT}"
    assert "TextVQA_0.5.1_val.json" in task.about


@pytest.mark.parametrize(
    "text", [OCR, f"Reference OCR token: dakota\nwhat brand?\n{SHORT}", f"what brand?\n{SHORT}"]
)
def test_llavas_prompts_are_taken_as_they_are(folder, text):
    write_published(folder, read(), read(question="What colour?", question_id=2))
    write_llava(folder, text=text)
    (sample,) = read_task("textvqa-ocr", folder).samples
    assert (sample.prompt, sample.truth) == (text, tuple(PEOPLE))
    assert sample.id == "003a-1"


def test_internvls_questions_with_ocr_tokens(folder):
    write_internvl(
        folder, "textvqa_val_llava.jsonl", question="What brand?\nReference OCR token: x"
    )
    (sample,) = read_task("textvqa-ocr", folder).samples
    assert sample.prompt == f"What brand?\nReference OCR token: x {SHORT}"


def test_files_that_are_not_there_are_named(folder):
    with pytest.raises(D2ExportError) as error:
        read_task("textvqa", folder)
    assert (
        "expected TextVQA_0.5.1_val.json, or textvqa_val.jsonl and textvqa_val_annotations.json"
        in error.value.problem
    )
    write_published(folder)
    with pytest.raises(D2ExportError, match=r"llava_textvqa_val_v051_ocr.jsonl and TextVQA_0.5.1"):
        read_task("textvqa-ocr", folder)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"answers": PEOPLE[:9]}, "'answers' has 9 texts, expected 10"),
        (
            {"answers": ["x"] * 9 + [7]},
            f"'answers' is {['x'] * 9 + [7]}, expected a list of 10 texts",
        ),
        ({"answers": "dakota"}, "'answers' is 'dakota', expected a list of 10 texts"),
        ({"image_id": 7}, "'image_id' is 7, expected a text"),
        ({"question": ""}, "'question' is '', expected a text"),
    ],
)
def test_a_published_entry_that_is_not_as_it_should_be(folder, change, problem):
    write_published(folder, read(), read(question_id=2, **change))
    with pytest.raises(D2ExportError) as error:
        read_task("textvqa", folder)
    assert f"{folder / 'TextVQA_0.5.1_val.json'}, entry 2: {problem}" in error.value.problem


def test_a_published_file_without_its_list(folder):
    write_json(folder / "TextVQA_0.5.1_val.json", {"questions": []})
    with pytest.raises(D2ExportError, match=r"TextVQA_0.5.1_val.json has no list 'data'"):
        read_task("textvqa", folder)


def test_a_line_without_answers(folder):
    write_internvl(folder, question_id=5)
    with pytest.raises(D2ExportError, match=r"'question_id' is 5, expected one of textvqa_val_ann"):
        read_task("textvqa", folder)


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([{"answer": "x"}] * 9, "'answers' has 9 texts, expected 10"),
        ([{"text": "x"}] * 10, "expected a list of 10 objects with a text 'answer'"),
        (["x"] * 10, "expected a list of 10 objects with a text 'answer'"),
        ("x", "'answers' is 'x', expected a list of 10 objects"),
    ],
)
def test_answers_that_are_not_as_they_should_be(folder, answers, problem):
    write_internvl(folder)
    document = {"annotations": [{"question_id": 34602, "answers": answers}]}
    path = write_json(folder / "textvqa_val_annotations.json", document)
    with pytest.raises(D2ExportError) as error:
        read_task("textvqa", folder)
    assert str(path) in error.value.problem
    assert problem in error.value.problem


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"text": f"where?\n{SHORT}"}, "has no question 'where?' about picture 003a"),
        ({"question_id": "004b"}, "has no question 'what brand?' about picture 004b"),
        ({"text": "what brand?"}, "a question, 'Reference OCR token: ...' and how to answer"),
        ({"text": f"what\nbrand?\n{SHORT}"}, "a question, 'Reference OCR token: ...' and how to"),
    ],
)
def test_a_line_of_llavas_that_fits_no_question(folder, change, problem):
    write_published(folder)
    write_llava(folder, **change)
    with pytest.raises(D2ExportError) as error:
        read_task("textvqa-ocr", folder)
    assert "llava_textvqa_val_v051_ocr.jsonl, line 1" in error.value.problem
    assert problem in error.value.problem
