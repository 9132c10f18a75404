"""RefCOCO, RefCOCO+ and RefCOCOg in the files InternVL evaluates on: the box of what is described.

After `internvl_chat/eval/refcoco/evaluate_grounding.py` of OpenGVLab/InternVL. It compares boxes
in float32, here they are float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from d2export.errors import UsageError
from d2export.evaluation.formats.entries import Entry
from d2export.evaluation.formats.files import read_lines
from d2export.evaluation.formats.pictures import in_order, picture_file, picture_folder
from d2export.evaluation.metrics import iou, parse_box
from d2export.evaluation.task import Answer, Box, Sample, Task

SPLITS = {
    "refcoco": ("refcoco_val", "refcoco_testA", "refcoco_testB"),
    "refcoco+": ("refcoco+_val", "refcoco+_testA", "refcoco+_testB"),
    "refcocog": ("refcocog_val", "refcocog_test"),
}
PICTURES = ("train2014", "images", "../coco/train2014")
PROMPT = (
    "Please provide the bounding box coordinate of the region this sentence describes:"
    " <ref>{}</ref>"
)
METRIC = "Precision@1 (IoU >= 0.5)"
MAX_NEW_TOKENS = 100


def read_refcoco(name: str, folder: Path, limit: int | None) -> Task:
    """The splits of `refcoco`, `refcoco+` or `refcocog` whose files are in the folder.

    Args:
        name: one of `SPLITS`.
        folder: with `refcoco_val.jsonl` and the like.
        limit: entries of each split; None is all.

    Raises:
        UsageError: no split or no pictures are there; an entry is not as it should be.
    """
    files = {split: folder / f"{split}.jsonl" for split in SPLITS[name]}
    there = {split: path for split, path in files.items() if path.exists()}
    if not there:
        raise UsageError(
            f"{folder} has none of {', '.join(path.name for path in files.values())}",
            "Put one of them there at least: docs/tasks.md says where they come from.",
        )
    pictures = picture_folder(folder, PICTURES)
    samples = (
        sample
        for split, path in there.items()
        for sample in _samples(split, pictures, read_lines(path, limit))
    )
    return Task(
        name,
        f"The box of the object a sentence describes: {', '.join(there)}",
        in_order(folder, samples),
        dict.fromkeys(there, METRIC),
        lambda sample, answer: float(overlap(sample, answer) >= 0.5),
        further,
    )


def overlap(sample: Sample, answer: str) -> float:
    """IoU of the answer's box with the true one; 0 without a box."""
    box = parse_box(answer)
    return 0.0 if box is None else iou(box, sample.truth)


def further(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Mean IoU, and how many answers have no box in them."""
    count = max(1, len(answers))
    return {
        "mean IoU": sum(overlap(answer.sample, answer.text) for answer in answers) / count,
        "answers without a box": float(sum(parse_box(answer.text) is None for answer in answers)),
    }


def _samples(split: str, pictures: Path, entries: Iterator[Entry]) -> Iterator[Sample]:
    for number, entry in enumerate(entries, 1):
        picture = picture_file(pictures, entry, "image")
        width, height = entry.side("width"), entry.side("height")
        x1, y1, x2, y2 = entry.box("bbox")
        box = (x1 / width, y1 / height, x2 / width, y2 / height)
        yield Sample(
            id=f"{split}-{number}",
            kind=split,
            picture=picture,
            picture_id=picture.name,
            prompt=PROMPT.format(entry.text("sent")),
            truth=box,
            max_new_tokens=MAX_NEW_TOKENS,
            regions=(_inside(box),),
        )


def _inside(box: Box) -> Box:
    """The part of a box that is in the picture; COCO's reach over the edge by a fraction."""
    x1, y1, x2, y2 = (min(1.0, max(0.0, value)) for value in box)
    return x1, y1, x2, y2
