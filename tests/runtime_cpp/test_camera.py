"""The example with frames in a folder: it answers each as Python does, and says what that cost."""

from __future__ import annotations

import select
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.runtime_cpp.camera import (
    READING,
    Scenes,
    answered,
    camera,
    expected,
    two_frames,
    without_libraries,
)
from tests.runtime_cpp.drivers import run
from tests.runtime_cpp.runtime import onnxruntime_library

SECONDS = 120  # until a frame is answered, on a machine that has other work


@pytest.fixture
def frames(scenes: Scenes, tmp_path: Path) -> Path:
    return two_frames(tmp_path / "frames", scenes)


def test_frames_in_the_order_of_their_names(pocket: Path, frames: Path, scenes: Scenes) -> None:
    prompt = scenes[0][1]
    said = run(camera(), pocket, frames, prompt, onnxruntime_library())
    found = answered(said)
    assert [name for name, *_ in found] == ["a.png", "b.png"]
    for name, text, kept, visual in found:
        assert (text, kept) == expected(pocket, frames / name, prompt)
        assert visual > kept


def test_a_frame_that_is_none_does_not_end_the_film(
    pocket: Path, frames: Path, scenes: Scenes
) -> None:
    (frames / "a.png").write_bytes(b"half a frame")
    asked = (pocket, frames, scenes[0][1], onnxruntime_library())
    said = run(camera(), *asked, code=2)
    assert "a.png" in said
    assert "b.png: read " in said


def test_it_waits_for_more(pocket: Path, frames: Path, scenes: Scenes) -> None:
    asked = (pocket, frames, scenes[0][1], "--follow", onnxruntime_library())
    command: list[str | Path] = [camera(), *asked]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as running:
        try:
            assert next_frame(running) == "a.png"
            assert next_frame(running) == "b.png"
            shutil.copy(scenes[0][0], frames / "c.part")
            (frames / "c.part").rename(frames / "c.png")
            assert next_frame(running) == "c.png"
            assert running.poll() is None
        finally:
            running.terminate()


def next_frame(running: subprocess.Popen[bytes]) -> str:
    """The name of the frame that is answered next."""
    assert running.stdout is not None
    said = b""
    while said.count(b"\n") < 2:  # what it cost, and the answer
        assert select.select([running.stdout], [], [], SECONDS)[0], "nothing comes"
        piece = running.stdout.read(1)
        assert piece, "it ended"
        said += piece
    return said.decode().split(":")[0]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "BUNDLE, FOLDER and QUESTION are expected\n  usage: camera BUNDLE FOLDER QUESTION"),
        (("a", "b", "What?", "d", "e"), "BUNDLE, FOLDER and QUESTION are expected"),
        (("a", "--gstreamer", "b"), "BUNDLE and QUESTION are expected beside --gstreamer"),
        (("a", "What?", "--gstreamer", "b", "--follow"), "--follow is for a FOLDER"),
        (("a", "b", "What?", "--show"), "--show has no value"),
        (("a", "b", "What?", "--display", ""), "--display has no value"),
        (("a", "b", "What?", "--fast"), "there is no option '--fast'"),
        (("a", ".", "What?", "--show", "./"), "--show is FOLDER itself"),
    ],
)
def test_what_it_refuses(words: tuple[str, ...], says: str) -> None:
    assert says in run(camera(), *words, code=2)


def test_a_bundle_that_is_missing() -> None:
    said = run(camera(), "/none", "frames", "What?", onnxruntime_library(), code=2)
    assert "/none is not there, expected the folder of a bundle" in said


def test_a_folder_that_is_missing(pocket: Path) -> None:
    said = run(camera(), pocket, "/none", "What?", onnxruntime_library(), code=2)
    assert "/none cannot be read: No such file or directory" in said


# Without GStreamer and Pango


def test_a_folder_needs_neither(pocket: Path, frames: Path) -> None:
    program = without_libraries()
    found = answered(run(program, pocket, frames, READING, onnxruntime_library()))
    assert [name for name, *_ in found] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("frames", "--show", "shown"), "apt-get install libpango1.0-dev"),
        (("frames", "--display", "fakesink"), "apt-get install libpango1.0-dev"),
        (("--gstreamer", "videotestsrc"), "apt-get install libgstreamer-plugins-base1.0-dev"),
    ],
)
def test_it_says_what_it_was_built_without(
    pocket: Path, options: tuple[str, ...], says: str
) -> None:
    said = run(without_libraries(), pocket, *options, "What?", onnxruntime_library(), code=3)
    assert says in said
    assert "was built without it" in said
