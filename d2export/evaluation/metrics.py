"""What is right about an answer: boxes, words, numbers, yes and no. Each function is pure."""

from __future__ import annotations

import math
import re

from d2export.evaluation.task import Box

# Four values up to the first closing bracket, none of the first three with a comma in it.
_BOX = re.compile(r"\[+([^,\n]*),([^,\n]*),([^,\n]*),(.*?)\]")
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?|[a-z]+")
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen twenty"
)
_WORDS = {word: number for number, word in enumerate(_NUMBERS.split())} | {"none": 0}


def parse_box(text: str) -> Box | None:
    """The first box in an answer, as shares of the picture; None if there is none.

    `[[x1, y1, x2, y2]]` with coordinates from 0 to 1000, inside `<box>` or not, one bracket or two.
    What adds up to less than 4 is taken for shares already. Nothing is sorted or cut: a box with
    its corners exchanged overlaps nothing. Text in brackets before the box hides it. All as in
    InternVL's `eval/refcoco/evaluate_grounding.py`, except that NaN and infinity are no box (there
    they score 0 as well).
    """
    found = _BOX.search(text)
    if found is None:
        return None
    try:
        x1, y1, x2, y2 = (float(value) for value in found.groups())
    except ValueError:
        return None
    total = x1 + y1 + x2 + y2
    if not math.isfinite(total):
        return None
    scale = 1000 if total >= 4 else 1
    return x1 / scale, y1 / scale, x2 / scale, y2 / scale


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes in the same unit, 0 to 1.

    0 for a box without area: one whose second corner is not right of and below its first.
    """
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / (_area(a) + _area(b) - common)


def same_text(answer: str, truth: str) -> bool:
    """Whether two texts are equal but for case and the blanks around them."""
    return answer.strip().casefold() == truth.strip().casefold()


def text_similarity(answer: str, truth: str) -> float:
    """1 minus the edit distance as a share of the longer text, 0 to 1; case and outer blanks apart.

    The edit distance is Levenshtein's: letters inserted, removed or replaced. ANLS (arXiv
    1905.13648) is this, with what is below 0.5 set to 0.
    """
    a, b = answer.strip().casefold(), truth.strip().casefold()
    return 1 - _edit_distance(a, b) / max(len(a), len(b), 1)


def parse_number(text: str) -> int | None:
    """The first number in a text, in digits or as an English word up to twenty; None if none.

    `none` is 0, `1,200` is 1200. A first number that is not whole makes it None.
    """
    for token in _NUMBER.findall(text.lower()):
        if token in _WORDS:
            return _WORDS[token]
        if token[0].isdecimal():
            value = float(token.replace(",", ""))
            return int(value) if value.is_integer() else None
    return None


def same_number(answer: str, truth: int) -> bool:
    """Whether the first number in an answer is `truth`."""
    return parse_number(answer) == truth


def says_yes(text: str) -> bool:
    """Whether an answer to a question of yes or no says yes.

    It says no if a word of its first sentence is `No`, `no` or `not`, with commas left out and
    words parted by blanks only; else yes, even where it is empty. As in LLaVA's `eval_pope.py`.
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return not {"No", "no", "not"} & set(words)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _edit_distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))  # from the letters of `a` so far to each beginning of `b`
    for i, letter in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            replaced = diagonal + (letter != other)
            diagonal, row[j] = row[j], min(replaced, row[j] + 1, row[j - 1] + 1)
    return row[-1]
