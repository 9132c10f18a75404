"""Which tokens of a prompt are the user's own words: those only may be dropped as words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from d2export.runtime.tokenizer import BundleTokenizer, Encoded
from tests.runtime.test_tokenizer import (
    INTERNVL,
    LLAVA,
    LLAVA_HF,
    bundle,
    write_internlm2,
    write_llava,
    write_llava_hf,
)
from tests.small_tokenizers import write_qwen2

FORMS: dict[str, tuple[Callable[[Path], None], dict[str, object]]] = {
    "internvl with qwen2": (write_qwen2, INTERNVL),
    "internvl with internlm2": (write_internlm2, INTERNVL),
    "llava": (write_llava, LLAVA),
    "llava of transformers": (write_llava_hf, LLAVA_HF),
}


@pytest.fixture(params=FORMS)
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> BundleTokenizer:
    write, config = FORMS[request.param]
    write(tmp_path)
    return bundle(tmp_path, config)


def said(tokenizer: BundleTokenizer, encoded: Encoded) -> str:
    """The words, run by run as the images part them, without the blanks at their ends."""
    runs = np.split(encoded.text_positions, np.flatnonzero(np.diff(encoded.text_positions) > 1) + 1)
    return "|".join(tokenizer.decode(encoded.input_ids[run].tolist()).strip() for run in runs)


@pytest.mark.parametrize(
    ("prompt", "lengths", "words"),
    [
        ("what is on the table?", [4], "what is on the table?"),
        ("what is on the table?", [4, 12], "what is on the table?"),
        ("  the fox \n", [4], "the fox"),
        ("the fox <image> over the dog", [4], "the fox|over the dog"),
        ("<image>\nthe table, then <image>\nthe fox", [12, 4], "the table, then|the fox"),
        ("the fox<image>", [4], "the fox"),
        ("<image>the fox", [4], "the fox"),
        ("图片里有什么?", [4], "图片里有什么?"),
    ],
)
def test_the_words_and_nothing_else(
    tokenizer: BundleTokenizer, prompt: str, lengths: list[int], words: str
) -> None:
    found = tokenizer.encode(prompt, lengths)
    assert found.text_positions.dtype == np.int64
    assert np.all(np.diff(found.text_positions) > 0)
    assert said(tokenizer, found) == words
    assert not np.isin(found.text_positions, found.visual_positions).any()
    # What frames the words is the conversation's: the first token and the last, and image markup.
    assert found.text_positions[0] > 0
    assert found.text_positions[-1] < len(found.input_ids) - 1


def test_a_system_message_is_not_the_users(tmp_path: Path) -> None:
    write_qwen2(tmp_path)
    tokenizer = bundle(tmp_path, INTERNVL)
    plain = tokenizer.encode("the fox", [4])
    longer = tokenizer.encode("the fox", [4], "the lazy dog jumps over the fox")
    moved = len(longer.input_ids) - len(plain.input_ids)
    assert moved != 0
    assert longer.text_positions.tolist() == (plain.text_positions + moved).tolist()


def test_numbers_of_images_are_not_the_users(tmp_path: Path) -> None:
    write_qwen2(tmp_path)
    tokenizer = bundle(tmp_path, INTERNVL)
    found = tokenizer.encode("the fox", [4, 4])
    assert "Image-2: " in tokenizer.decode(found.input_ids.tolist())
    assert said(tokenizer, found) == "the fox"
    assert found.text_positions[0] > found.visual_positions[-1] + 1  # </img> is between
