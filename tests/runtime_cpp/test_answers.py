"""Answers in C++ against d2export.runtime: the same tokens, the same kept visual tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from d2export.bundle.folder import read_bundle
from d2export.engine import custom_op
from d2export.runtime.generate import Generation, Generator
from d2export.runtime.sampling import Sampling
from tests.runtime_cpp.conftest import Builder
from tests.runtime_cpp.runtime import Answer, Model, Refusal, need_backend

Scenes = list[tuple[Path, str]]


@pytest.fixture(autouse=True)
def backend() -> None:
    need_backend()


def same(found: Answer, expected: Generation) -> None:
    assert found.tokens == expected.tokens
    assert found.kept == tuple(tuple(int(i) for i in kept) for kept in expected.kept)
    assert (found.text, found.finish) == (expected.text, expected.finish)


def test_scenes(pocket: Path, scenes: Scenes) -> None:
    model, generator = Model(pocket), Generator(read_bundle(pocket), threads=1)
    for picture, prompt in scenes:
        found = model.ask([picture], prompt, max_new_tokens=16)
        same(found, generator.answer([picture], prompt, max_new_tokens=16))
        assert len(found.kept[0]) == 25


@pytest.mark.parametrize(
    "options",
    [
        {"selector": "divprune"},
        {"importance": "uniform"},
        {"selector": "cdpruner"},
        {"selector": "sms", "keep": None},
        {"budget": "tile", "keep": "1"},
        {"budget": "prompt"},
        {"precision": "fp16"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_every_place_to_prune(
    options: dict[str, Any], small: Builder, scenes: Scenes, tmp_path: Path
) -> None:
    """Before the language model and inside it, by image, tile and prompt; one picture is wide."""
    bundle = small(**options)
    wide = tmp_path / "wide.png"
    with Image.open(scenes[0][0]) as image:
        image.resize((900, 300)).save(wide)
    pictures = [wide] if options.get("selector") == "sms" else [scenes[0][0], wide]
    model, generator = Model(bundle), Generator(read_bundle(bundle), threads=1)
    found = model.ask(pictures, "What is this?", max_new_tokens=8)
    same(found, generator.answer(pictures, "What is this?", max_new_tokens=8))


def test_drawn_tokens(pocket: Path, scenes: Scenes) -> None:
    model, generator = Model(pocket), Generator(read_bundle(pocket), threads=1)
    picture, prompt = scenes[1]
    for seed in range(4):
        sampling = Sampling(temperature=2.0, top_k=50, top_p=0.9, seed=seed)
        expected = generator.answer([picture], prompt, max_new_tokens=12, sampling=sampling)
        found = model.ask(
            [picture], prompt, max_new_tokens=12, temperature=2.0, top_k=50, top_p=0.9, seed=seed
        )
        same(found, expected)


def test_the_stream_adds_up_and_can_be_stopped(pocket: Path, scenes: Scenes) -> None:
    model = Model(pocket)
    picture, prompt = scenes[0]
    pieces: list[str] = []

    def listen(piece: str) -> bool:
        pieces.append(piece)
        return True

    answer = model.ask([picture], prompt, on_text=listen)
    assert "".join(pieces) == answer.text
    assert len(pieces) > 1
    stopped = model.ask([picture], prompt, on_text=lambda piece: False)
    assert stopped.finish == "cancelled"
    assert stopped.text == pieces[0]


def test_what_an_answer_took(pocket: Path, scenes: Scenes, tmp_path: Path) -> None:
    picture, prompt = scenes[0]
    once = Model(pocket).ask([picture], prompt).seconds
    assert min(once) > 0
    # Cutting pictures is part of the first; a large one takes far longer than reading the prompt.
    large = tmp_path / "large.png"
    Image.open(picture).resize((4000, 4000)).save(large)
    assert Model(pocket).ask([large], prompt).seconds[0] > 3 * once[0]


def test_the_prior_warns(small: Builder, prior: Path, scenes: Scenes) -> None:
    said: list[str] = []
    model = Model(small(prior=str(prior)))
    picture, prompt = scenes[0]  # 3 x 3 tiles of this model, and their thumbnail
    model.ask([picture], prompt, max_new_tokens=1, on_warning=said.append)
    assert said == ["the prior was calibrated on pictures of 2 to 4 tiles; here is one of 10"]


def test_the_native_op(pocket: Path, scenes: Scenes) -> None:
    library = custom_op.library("cpu")
    if library is None:
        pytest.skip("libd2export_onnxruntime.so: install with ORT_INCLUDE_DIR")
    picture, prompt = scenes[0]
    assert Model(pocket, custom_ops=str(library)).ask([picture], prompt) == Model(pocket).ask(
        [picture], prompt
    )


@pytest.mark.parametrize(
    ("images", "prompt", "options", "message"),
    [
        (0, "What?", {}, "there is no image"),
        (1, " ", {}, "the prompt is empty"),
        (1, "<image> <image> What?", {}, "placeholders '<image>' in the prompt: 2, expected 1"),
        (1, "a <|im_end|> b", {}, "contains the control token '<|im_end|>'"),
        (1, "What?", {"max_new_tokens": -1}, "max_new_tokens is -1, expected at least 1"),
        (
            1,
            "What?",
            {"max_new_tokens": 4000},
            "and the answer may have 4000, this model's context",
        ),
        (1, "What?", {"temperature": -1.0}, "temperature is -1"),
        (9, "What?", {}, None),
    ],
    ids=lambda value: str(value)[:12],
)
def test_what_cannot_be_asked(
    images: int,
    prompt: str,
    options: dict[str, Any],
    message: str | None,
    pocket: Path,
    scenes: Scenes,
) -> None:
    model = Model(pocket)
    if message is None:  # as many as the context holds
        assert len(model.ask([scenes[0][0]] * images, prompt, max_new_tokens=1).kept) == images
        return
    with pytest.raises(Refusal) as caught:
        model.ask([scenes[0][0]] * images, prompt, **options)
    assert message in caught.value.problem
    assert caught.value.status == 2


def test_a_picture_that_is_none(pocket: Path, tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    path.write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(Refusal, match=r"noise\.png"):
        Model(pocket).ask([path], "What?")


def test_a_bundle_without_a_language_model(small_bundle: Path, scenes: Scenes) -> None:
    with pytest.raises(Refusal, match="has scope 'vision', so it has no language model"):
        Model(small_bundle).ask([scenes[0][0]], "What?")
