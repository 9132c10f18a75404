"""A model repository in a real Triton: it answers what d2export answers."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import d2export
from d2export.bundle.folder import read_bundle
from d2export.packaging.triton import write_repository
from d2export.packaging.triton_choices import Choices
from d2export.progress import Progress
from d2export.runtime.prompt import embed_prompt
from d2export.runtime.vision import VisionRunner
from tests.packaging.triton_server import ask, require_server, serving, statistics

PROMPT = "What is in the picture?"
DELAY = "max_queue_delay_microseconds: "


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One of six tiles and a thumbnail, one of a single tile."""
    folder = tmp_path_factory.mktemp("pictures")
    found = []
    for height, width in ((112, 168), (56, 56)):
        pixels = np.random.default_rng(width).integers(0, 255, (height, width, 3), np.uint8)
        found.append(folder / f"{width}.png")
        Image.fromarray(pixels).save(found[-1])
    return found


@pytest.fixture(scope="module")
def server(
    vlm_bundle: Path, text_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Both scopes in one server, the graphs run by its Python backend."""
    require_server()
    folder = tmp_path_factory.mktemp("served")
    for name, bundle in (("answers", vlm_bundle), ("sees", text_bundle)):
        choices = Choices(name, "python")
        write_repository(bundle, folder / name, choices, Progress(level="quiet"))
    # Tiles wait for others long enough that two requests do meet.
    config = folder / "answers" / "models" / "answers_vision" / "config.pbtxt"
    text = config.read_text()
    assert f"{DELAY}2000\n" in text
    config.write_text(text.replace(f"{DELAY}2000\n", f"{DELAY}1500000\n"))
    (folder / "packages").mkdir()
    models = [folder / name / "models" for name in ("answers", "sees")]
    with serving(models, folder / "packages") as url:
        yield url


def uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def listed(value: Any) -> list[int]:
    """Triton's JSON has a number instead of a list of one."""
    return value if isinstance(value, list) else [value]


def test_an_answer_has_the_same_tokens(server: str, vlm_bundle: Path, pictures: list[Path]) -> None:
    expected = d2export.answer(vlm_bundle, pictures, PROMPT, max_new_tokens=12)
    images = [uri(path) for path in pictures]
    *pieces, last = ask(server, "answers", prompt=PROMPT, image=images, max_new_tokens=12)
    assert listed(last["tokens"]) == list(expected.tokens)
    assert last["finish"] == expected.finish
    assert listed(last["kept_indices"]) == np.concatenate(expected.kept).tolist()
    assert listed(last["kept_lengths"]) == [len(indices) for indices in expected.kept] == [3, 3]
    assert "".join(piece["text"] for piece in pieces) == expected.text
    steps = statistics(server, "answers_decoder")["inference_stats"]["success"]["count"]
    assert steps == len(expected.tokens)  # prefill, then a call for each further token


def test_requests_at_once_are_seen_together(
    server: str, vlm_bundle: Path, pictures: list[Path]
) -> None:
    before = statistics(server, "answers_vision")
    asked = {"prompt": PROMPT, "image": [uri(pictures[1])], "max_new_tokens": 4}
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: ask(server, "answers", **asked)[-1], range(2)))
    after = statistics(server, "answers_vision")
    assert after["inference_count"] - before["inference_count"] == 2  # tiles
    assert after["execution_count"] - before["execution_count"] == 1
    expected = d2export.answer(vlm_bundle, pictures[1:], PROMPT, max_new_tokens=4)
    assert [listed(answer["tokens"]) for answer in answers] == [list(expected.tokens)] * 2


def test_a_seed_draws_the_same_answer(server: str, vlm_bundle: Path, pictures: list[Path]) -> None:
    from d2export.runtime.sampling import Sampling

    sampling = Sampling(0.8, top_p=0.9, seed=5)
    expected = d2export.answer(
        vlm_bundle, pictures[1:], PROMPT, max_new_tokens=6, sampling=sampling
    )
    asked = {"temperature": 0.8, "top_p": 0.9, "seed": 5, "max_new_tokens": 6}
    last = ask(server, "answers", prompt=PROMPT, image=[uri(pictures[1])], **asked)[-1]
    # 0.8 and 0.9 arrive as float32; the token drawn is another only at the edge of an interval.
    assert listed(last["tokens"]) == list(expected.tokens)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"image": ["data:image/png;base64,???"]}, "image 0 is a data URI that is not base64"),
        ({"image": ["no picture"]}, "is not an image"),
        ({"image": [], "prompt": PROMPT}, "image"),
        ({"max_new_tokens": 0}, "--max-new-tokens is 0, expected at least 1"),
        ({"seed": 1}, "top_p and seed have no effect without temperature"),
        ({"max_new_tokens": 100000}, "this model's context is 512"),
    ],
)
def test_a_clients_mistake_is_its_error_alone(
    server: str, pictures: list[Path], asked: dict[str, Any], message: str
) -> None:
    given = {"prompt": PROMPT, "image": [uri(pictures[1])], **asked}
    (answer,) = ask(server, "answers", **given)
    assert message in answer["error"]


def test_an_ensemble_sees_what_run_sees(
    server: str, text_bundle: Path, pictures: list[Path]
) -> None:
    bundle = read_bundle(text_bundle)
    expected = VisionRunner(bundle).run(pictures[0], embed_prompt(bundle, PROMPT))
    (found,) = ask(server, "sees", image=uri(pictures[0]), prompt=PROMPT)
    assert found["kept_indices"] == expected.kept_indices.tolist()
    embeds = np.array(found["image_embeds"], np.float32).reshape(expected.image_embeds.shape)
    np.testing.assert_allclose(embeds, expected.image_embeds, rtol=1e-4, atol=1e-5)
    (refused,) = ask(server, "sees", image="no picture", prompt=PROMPT)
    assert "is not an image" in refused["error"]
