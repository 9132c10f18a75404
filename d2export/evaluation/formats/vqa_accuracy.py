"""The VQA accuracy of a short answer, as TextVQA's evaluation server computes it.

After `EvalAIAnswerProcessor` and `TextVQAAccuracyEvaluator` of facebookresearch/mmf
(`mmf/utils/m4c_evaluators.py`), which InternVL and LLaVA use too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

ANSWERS = 10  # people who answered each question

_MARKS = ';/[]"{}()=+\\_-><@`!'
_FULL_STOP = re.compile(r"\.(?!\d)")
_FULL_STOPS = 32  # so many are removed: `re.UNICODE`, given to `re.sub` in the place of `count`
_ARTICLES = ("a", "an", "the")
_UP_TO_TEN = "zero one two three four five six seven eight nine ten"
_NUMBERS = {word: str(number) for number, word in enumerate(_UP_TO_TEN.split())} | {"none": "0"}


def vqa_accuracy(answer: str, truths: Sequence[str]) -> float:
    """0, 0.3, 0.6, 0.9 or 1: how many of ten people gave the answer.

    The mean over the ten, each left out once, of `min(1, equal answers among the other nine / 3)`:
    with `k` equal answers that is `(k * min(1, (k - 1) / 3) + (10 - k) * min(1, k / 3)) / 10`,
    which is `min(1, 0.3 * k)`.

    Args:
        answer: as it was generated.
        truths: ten answers as people typed them.
    """
    wanted = plain(answer)
    equal = sum(plain(truth) == wanted for truth in truths)
    return min(1.0, 3 * equal / ANSWERS)


def plain(answer: str) -> str:
    """An answer without case, punctuation, articles and other things that do not matter.

    1. Lower case; commas and question marks go; `'s` becomes a word of its own.
    2. Each other mark goes if, anywhere in the text, it stands beside a blank; else it becomes one.
    3. Full stops go, the first 32, unless a digit follows.
    4. Number words up to ten become digits, articles go, and contractions get their apostrophe.
    """
    text = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    before = text = text.replace("\n", " ").replace("\t", " ").strip()
    for mark in _MARKS:
        beside_a_blank = f"{mark} " in before or f" {mark}" in before
        text = text.replace(mark, "" if beside_a_blank else " ")
    text = _FULL_STOP.sub("", text, count=_FULL_STOPS)
    words = (_NUMBERS.get(word, word) for word in text.split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _misspelt(word: str) -> list[str]:
    """The word with any one of its apostrophes left out."""
    return [word[:place] + word[place + 1 :] for place, c in enumerate(word) if c == "'"]


# Only these: `shed` and `ill` are words.
_APOSTROPHES = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've
    hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've
    mightn't mightn't've must've mustn't needn't not've o'clock oughtn't 'ow's'at shan't
    she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
    someone'd've someone'll someone's something'd something'd've something'll that's there'd
    there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've
    we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've
    who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll
    y'all'd've you'd you'd've you'll you're you've
"""
_CONTRACTIONS = {
    misspelt: word for word in _APOSTROPHES.split() for misspelt in _misspelt(word)
} | {"somebody'd": "somebodyd"}  # the other way round in the original
