"""Small folders of tasks, written as a test wants them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from d2export.evaluation.task import Answer, Task

PEOPLE = ["Dakota"] * 5 + ["dakota digital"] * 3 + ["clos", "nous"]


def write_lines(path: Path, *objects: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in objects))
    return path


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def draw(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 4), "red").save(path)
    return path


def answered(task: Task, *texts: str) -> list[Answer]:
    """What `Task.further` takes: these answers to the samples, scored."""
    pairs = zip(task.samples, texts, strict=True)
    return [Answer(sample, text, task.score(sample, text)) for sample, text in pairs]


def described(**changes: Any) -> dict[str, Any]:
    """An entry of RefCOCO."""
    return {
        "image": "data/coco/train2014/a.png",
        "sent": "left ring",
        "bbox": [160, 120, 480, 360.5],
        "height": 480,
        "width": 640,
        **changes,
    }


def asked(**changes: Any) -> dict[str, Any]:
    """An entry of POPE."""
    return {
        "question_id": 1,
        "image": "a.png",
        "text": "Is there a ring in the image?",
        "label": "yes",
        **changes,
    }


def read(**changes: Any) -> dict[str, Any]:
    """An entry of TextVQA as published."""
    return {
        "question_id": 34602,
        "image_id": "003a",
        "question": "What brand?",
        "answers": PEOPLE,
        **changes,
    }


def looked(**changes: Any) -> dict[str, Any]:
    """An entry of GQA."""
    return {
        "imageId": "n1",
        "question": "Is it overcast?",
        "answer": "no",
        "types": {"structural": "verify"},
        **changes,
    }
