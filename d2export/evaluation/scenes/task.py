"""The built-in task `pocket-scenes`: what the pocket model was trained for, on scenes it never saw.

Held-out scenes are new ones of the same kind: textures, shapes and letters are those of the
training, so the figures say nothing about other pictures.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import overload

import numpy as np
from PIL import Image

from d2export.errors import UsageError
from d2export.evaluation.metrics import iou, parse_box, same_number, same_text
from d2export.evaluation.scenes.questions import KINDS, Question, ask
from d2export.evaluation.scenes.scene import Scene, make_scene
from d2export.evaluation.task import Answer, Box, Sample, Task

NAME = "pocket-scenes"
SPLITS = {"test": 1, "tune": 2}  # and what their scenes are drawn from; training is elsewhere
SCENES = 2000
OBJECTS = (5, 10)  # fewest and most, signs among them
HIT = 0.5  # intersection over union from which on a box is right
MAX_NEW_TOKENS = {"locate": 16, "read": 8, "count": 4, "name": 6}
METRICS = {"locate": "IoU >= 0.5", "read": "exact", "count": "exact", "name": "exact"}
REMEMBERED = 256  # scenes


def pocket_scenes(split: str = "test", scenes: int = SCENES) -> Task:
    """Scenes of 5 to 10 objects, each with a question of every kind.

    Args:
        split: `test`, or `tune` to choose settings on.
        scenes: how many; the first ones are the same for any number.

    Raises:
        UsageError: an unknown split, or no scene.
    """
    if split not in SPLITS:
        raise UsageError(
            f"{NAME} has no split '{split}'", f"Splits: {', '.join(SPLITS)}; 'test' is the default."
        )
    if scenes < 1:
        raise UsageError(f"{NAME}: {scenes} scenes, expected at least 1", "Pass a larger number.")
    return Task(
        NAME if split == "test" else f"{NAME}:{split}",
        "find, read, count and name objects in drawn scenes",
        _Samples(SPLITS[split], scenes),
        METRICS,
        score,
        _further,
    )


def score(sample: Sample, answer: str) -> float:
    """1 if an answer is right, else 0."""
    if sample.kind == "locate":
        return float(_overlap(sample, answer) >= HIT)
    if sample.kind == "count":
        return float(same_number(answer, sample.truth))
    return float(same_text(answer, sample.truth))


def _further(answers: Sequence[Answer]) -> Mapping[str, float]:
    located = [answer for answer in answers if answer.sample.kind == "locate"]
    if not located:
        return {}
    return {"mean IoU": float(np.mean([_overlap(a.sample, a.text) for a in located]))}


def _overlap(sample: Sample, answer: str) -> float:
    found = parse_box(answer)
    return 0.0 if found is None else iou(found, sample.truth)


class _Samples(Sequence[Sample]):
    """Four samples a scene, made when they are asked for; the last scenes are remembered."""

    def __init__(self, key: int, scenes: int) -> None:
        self._key, self._scenes = key, scenes
        self._made: OrderedDict[int, tuple[Scene, list[Question]]] = OrderedDict()

    def __len__(self) -> int:
        return self._scenes * len(KINDS)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number, kind = divmod(range(len(self))[index], len(KINDS))
        scene, questions = self._scene(number)
        return _sample(number, scene, questions[kind])

    def _scene(self, number: int) -> tuple[Scene, list[Question]]:
        if number not in self._made:
            self._made[number] = _make(self._key, number)
            if len(self._made) > REMEMBERED:
                self._made.popitem(last=False)
        return self._made[number]


def _make(key: int, number: int) -> tuple[Scene, list[Question]]:
    """A scene with a question of every kind; one that has not is drawn anew."""
    random = np.random.default_rng([key, number])
    while True:
        objects, signs = int(random.integers(OBJECTS[0], OBJECTS[1] + 1)), 1 + random.integers(2)
        scene = make_scene(random, objects - int(signs), signs=int(signs))
        if len(scene.items) == objects:
            questions = [ask(random, scene, kind) for kind in KINDS]
            found = [question for question in questions if question is not None]
            if len(found) == len(KINDS):
                return scene, found


def _sample(number: int, scene: Scene, question: Question) -> Sample:
    regions = tuple(_share(item.box, scene.side) for item in question.items)
    truth = {"locate": regions[0], "count": len(question.items)}.get(question.kind, question.answer)
    # Who does not look would best say 1 to every question for a number.
    chance = float(truth == 1) if question.kind == "count" else question.chance
    return Sample(
        id=f"{number:05d}-{question.kind}",
        kind=question.kind,
        picture=lambda: Image.fromarray(scene.draw()),
        picture_id=f"{number:05d}",
        prompt=question.prompt,
        truth=truth,
        max_new_tokens=MAX_NEW_TOKENS[question.kind],
        regions=regions,
        chance=chance,
    )


def _share(box: tuple[int, int, int, int], side: int) -> Box:
    x1, y1, x2, y2 = (edge / side for edge in box)
    return x1, y1, x2, y2
