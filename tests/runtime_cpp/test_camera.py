"""The example with frames in a folder: it answers each as Python does, and says what that cost."""

from __future__ import annotations

import re
import select
import shutil
import subprocess
from pathlib import Path

import pytest

from d2export.bundle.folder import read_bundle
from d2export.runtime.generate import Generator
from tests.runtime_cpp.drivers import run
from tests.runtime_cpp.programs import example
from tests.runtime_cpp.runtime import need_backend, onnxruntime_library

Scenes = list[tuple[Path, str]]
SECONDS = 120  # until a frame is answered, on a machine that has other work

COSTS = re.compile(
    r"(.+): read [\d.]+ ms, preprocess [\d.]+ ms, vision [\d.]+ ms, prefill [\d.]+ ms, "
    r"decode \d+ tokens/s, kept (\d+) of (\d+) visual tokens"
)


@pytest.fixture
def frames(scenes: Scenes, tmp_path: Path) -> Path:
    """A folder of two frames, and of what is none."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for name, (picture, _) in zip(("b.png", "a.png"), (scenes[0], scenes[-1]), strict=True):
        shutil.copy(picture, folder / name)
    (folder / "notes.txt").write_text("no frame")
    return folder


def expected(bundle: Path, frame: Path, prompt: str) -> tuple[str, int]:
    """Python's answer, and how many visual tokens it kept."""
    answer = Generator(read_bundle(bundle), threads=1).answer([frame], prompt)
    return answer.text, len(answer.kept[0])


def test_frames_in_the_order_of_their_names(pocket: Path, frames: Path, scenes: Scenes) -> None:
    need_backend()
    prompt = scenes[0][1]
    lines = run(example("camera"), pocket, frames, prompt, onnxruntime_library()).splitlines()
    assert len(lines) == 4
    for name, costs, said in zip(("a.png", "b.png"), lines[::2], lines[1::2], strict=True):
        found = COSTS.fullmatch(costs)
        assert found is not None, costs
        text, kept = expected(pocket, frames / name, prompt)
        assert (found[1], said, int(found[2])) == (name, f"  {text}", kept)
        assert int(found[3]) > kept


def test_a_frame_that_is_none_does_not_end_the_film(
    pocket: Path, frames: Path, scenes: Scenes
) -> None:
    need_backend()
    (frames / "a.png").write_bytes(b"half a frame")
    asked = (pocket, frames, scenes[0][1], onnxruntime_library())
    said = run(example("camera"), *asked, code=2)
    assert "a.png" in said
    assert "b.png: read " in said


def test_it_waits_for_more(pocket: Path, frames: Path, scenes: Scenes) -> None:
    need_backend()
    asked = (pocket, frames, scenes[0][1], "--follow", onnxruntime_library())
    command: list[str | Path] = [example("camera"), *asked]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as camera:
        try:
            assert next_frame(camera) == "a.png"
            assert next_frame(camera) == "b.png"
            shutil.copy(scenes[0][0], frames / "c.part")
            (frames / "c.part").rename(frames / "c.png")
            assert next_frame(camera) == "c.png"
            assert camera.poll() is None
        finally:
            camera.terminate()


def next_frame(camera: subprocess.Popen[bytes]) -> str:
    """The name of the frame that is answered next."""
    assert camera.stdout is not None
    said = b""
    while said.count(b"\n") < 2:  # what it cost, and the answer
        assert select.select([camera.stdout], [], [], SECONDS)[0], "nothing comes"
        piece = camera.stdout.read(1)
        assert piece, "it ended"
        said += piece
    return said.decode().split(":")[0]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "usage: camera BUNDLE FOLDER QUESTION [--follow] [libonnxruntime.so]"),
        (("/none", "frames", "What?"), "/none is not there, expected the folder of a bundle"),
    ],
)
def test_what_it_refuses(words: tuple[str, ...], says: str) -> None:
    need_backend()
    assert says in run(example("camera"), *words, onnxruntime_library(), code=2)


def test_a_folder_that_is_missing(pocket: Path) -> None:
    need_backend()
    said = run(example("camera"), pocket, "/none", "What?", onnxruntime_library(), code=2)
    assert "/none cannot be read: No such file or directory" in said
