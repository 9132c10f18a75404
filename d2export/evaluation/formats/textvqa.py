"""TextVQA: questions about text in pictures, each answered by ten people.

Read from the published `TextVQA_0.5.1_val.json`, or from the lines InternVL evaluates on
(`internvl_chat/eval/vqa/evaluate_vqa.py`). `textvqa-ocr` has prompts that give away what an OCR
program read, as in LLaVA's figures (`llava/eval/eval_textvqa.py`) and InternVL's `textvqa_val_ocr`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from d2export.errors import UsageError
from d2export.evaluation.formats.entries import AS_IT_SHOULD_BE, Entry
from d2export.evaluation.formats.files import read_lines, read_listed
from d2export.evaluation.formats.pictures import in_order, picture_file, picture_folder
from d2export.evaluation.formats.short_answers import SHORT_ANSWER, short_answer_prompt
from d2export.evaluation.formats.vqa_accuracy import ANSWERS, vqa_accuracy
from d2export.evaluation.task import Sample, Task

PICTURES = ("train_images", "train_val_images/train_images", "images")
MAX_NEW_TOKENS = 10

PUBLISHED = "TextVQA_0.5.1_val.json"
INTERNVL = "textvqa_val.jsonl"
INTERNVL_OCR = "textvqa_val_llava.jsonl"
INTERNVL_ANSWERS = "textvqa_val_annotations.json"
LLAVA_OCR = "llava_textvqa_val_v051_ocr.jsonl"

OCR_TOKENS = "Reference OCR token:"
Answers = tuple[str, ...]


@dataclass(frozen=True)
class Form:
    """A way in which the questions come.

    Attributes:
        files: which have to be there.
        samples: reads them: the folder, that of the pictures, how many entries.
    """

    files: tuple[str, ...]
    samples: Callable[[Path, Path, int | None], Iterator[Sample]]


def read_textvqa(name: str, folder: Path, limit: int | None) -> Task:
    """The questions of the validation split, in the first form all of whose files are there.

    Args:
        name: one of `FORMS`.
        folder: with the files of one of its forms, and `train_images`.
        limit: questions; None is all.

    Raises:
        UsageError: the files or the pictures are not there; an entry is not as it should be.
    """
    for form in FORMS[name]:
        if all((folder / file).exists() for file in form.files):
            break
    else:
        needed = ", or ".join(" and ".join(form.files) for form in FORMS[name])
        raise UsageError(
            f"{folder} lacks files of {name}, expected {needed}",
            "Put them there: docs/tasks.md says where they come from.",
        )
    pictures = picture_folder(folder, PICTURES)
    return Task(
        name,
        f"What is written in the picture, or can be told from it: {form.files[0]}",
        in_order(folder / form.files[0], form.samples(folder, pictures, limit)),
        {"textvqa": "VQA accuracy"},
        lambda sample, answer: vqa_accuracy(answer, sample.truth),
    )


def _published(folder: Path, pictures: Path, limit: int | None) -> Iterator[Sample]:
    for entry in read_listed(folder / PUBLISHED, "data", limit):
        yield _sample(
            entry.identity("question_id"),
            picture_file(pictures, entry, "image_id", ".jpg"),
            short_answer_prompt(entry.text("question")),
            entry.texts("answers", ANSWERS),
        )


def _internvl(file: str, folder: Path, pictures: Path, limit: int | None) -> Iterator[Sample]:
    answers = {
        entry.identity("question_id"): entry
        for entry in read_listed(folder / INTERNVL_ANSWERS, "annotations")
    }
    for entry in read_lines(folder / file, limit):
        number = entry.identity("question_id")
        if number not in answers:
            raise entry.wrong("question_id", f"one of {INTERNVL_ANSWERS}")
        yield _sample(
            number,
            picture_file(pictures, entry, "image"),
            f"{entry.text('question')} {SHORT_ANSWER}",  # with a blank: as InternVL asks
            answers[number].nested_texts("answers", "answer", ANSWERS),
        )


def _llava_ocr(folder: Path, pictures: Path, limit: int | None) -> Iterator[Sample]:
    """LLaVA's lines name a picture, not a question: pictures and questions in lower case agree."""
    answers: Mapping[tuple[str, str], Answers] = {
        (entry.identity("image_id"), entry.text("question").lower()): entry.texts(
            "answers", ANSWERS
        )
        for entry in read_listed(folder / PUBLISHED, "data")
    }
    for number, entry in enumerate(read_lines(folder / LLAVA_OCR, limit), 1):
        key = entry.identity("question_id"), _question(entry).lower()
        if key not in answers:
            raise UsageError(
                f"{entry.where}: {PUBLISHED} has no question {key[1]!r} about picture {key[0]}",
                AS_IT_SHOULD_BE,
            )
        picture = picture_file(pictures, entry, "image")
        yield _sample(f"{key[0]}-{number}", picture, entry.text("text"), answers[key])


def _question(entry: Entry) -> str:
    """The question among the lines of a prompt: the OCR tokens' and the last are others."""
    *lines, _ = entry.text("text").split("\n")
    found = [line for line in lines if not line.startswith(OCR_TOKENS)]
    if len(found) != 1:
        raise entry.wrong("text", f"a question, '{OCR_TOKENS} ...' and how to answer, a line each")
    return found[0]


def _sample(number: str, picture: Path, prompt: str, answers: Answers) -> Sample:
    return Sample(
        id=number,
        kind="textvqa",
        picture=picture,
        picture_id=picture.name,
        prompt=prompt,
        truth=answers,
        max_new_tokens=MAX_NEW_TOKENS,
    )


FORMS: dict[str, tuple[Form, ...]] = {
    "textvqa": (
        Form((PUBLISHED,), _published),
        Form((INTERNVL, INTERNVL_ANSWERS), partial(_internvl, INTERNVL)),
    ),
    "textvqa-ocr": (
        Form((LLAVA_OCR, PUBLISHED), _llava_ocr),
        Form((INTERNVL_OCR, INTERNVL_ANSWERS), partial(_internvl, INTERNVL_OCR)),
    ),
}
