"""The example with frames of GStreamer: it answers the newest as Python does, and never hangs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runtime_cpp.camera import (
    READING,
    Scenes,
    answered,
    camera,
    expected,
    need_gstreamer,
    need_pango,
    pixels,
)
from tests.runtime_cpp.drivers import run
from tests.runtime_cpp.runtime import onnxruntime_library


def png(path: Path) -> str:
    """A pipeline of one frame."""
    return f"filesrc location={path} ! pngdec"


def test_a_frame_of_gstreamer(pocket: Path, scenes: Scenes) -> None:
    need_gstreamer()
    for frame, prompt in (scenes[0], scenes[-1]):
        asked = (pocket, "--gstreamer", png(frame), prompt, onnxruntime_library())
        ((_, text, kept, visual),) = answered(run(camera(), *asked))
        assert (text, kept) == expected(pocket, frame, prompt)
        assert visual > kept


@pytest.mark.parametrize("width", [333, 334, 335])
def test_rows_that_do_not_follow_each_other(
    pocket: Path, scenes: Scenes, tmp_path: Path, width: int
) -> None:
    """GStreamer pads rows to a multiple of 4 bytes."""
    need_gstreamer()
    need_pango()
    frame, shown = tmp_path / "odd.png", tmp_path / "shown"
    with Image.open(scenes[0][0]) as whole:
        whole.crop((0, 0, width, 333)).save(frame)
    asked = (pocket, "--gstreamer", png(frame), READING, "--show", shown, onnxruntime_library())
    ((name, text, kept, _),) = answered(run(camera(), *asked))
    assert (text, kept) == expected(pocket, frame, READING)
    before, after = pixels(frame), pixels(shown / f"{name}.png")
    assert np.array_equal(before[100:200], after[100:200])  # between the bands of text


def test_the_newest_frame_is_answered(pocket: Path, scenes: Scenes) -> None:
    need_gstreamer()
    frames, rate = 60, 100
    film = f"multifilesrc location={scenes[0][0]} num-buffers={frames} caps=image/png,framerate="
    asked = (pocket, "--gstreamer", f"{film}{rate}/1 ! pngdec", READING, onnxruntime_library())
    taken = [float(name.removesuffix("s")) for name, *_ in answered(run(camera(), *asked))]
    assert taken == sorted(set(taken))
    assert len(taken) < frames
    assert taken[-1] == (frames - 1) / rate


@pytest.mark.parametrize(
    ("pipeline", "code", "says"),
    [
        ("filesrc ! ! pngdec", 2, "cannot be made: syntax error"),
        ("nosuchcamera", 3, 'cannot be made: no element "nosuchcamera"'),
        ("videotestsrc place=3", 2, 'no property "place" in element "videotestsrc"'),
        ("videotestsrc ! fakesink", 2, "could not link fakesink0 to videoconvert0"),
        ("filesrc location=/none.png ! pngdec", 2, "says, in filesrc0: Resource not found."),
        ("filesrc location=/dev/null ! pngdec", 2, "/dev/null ! pngdec"),
        ("videotestsrc num-buffers=0", 2, "ended without a frame"),
        ("videotestsrc is-live=true ! valve drop=true", 3, "gave no frame for 10 s"),
    ],
)
def test_pipelines_that_give_nothing(pocket: Path, pipeline: str, code: int, says: str) -> None:
    need_gstreamer()
    asked = (pocket, "--gstreamer", pipeline, "What?", onnxruntime_library())
    said = run(camera(), *asked, code=code)
    assert f'--gstreamer "{pipeline}" ' in said
    assert says in said
    assert "gst-" in said or "camera is connected" in said  # the next step


def test_a_camera_does_not_wait_for_a_clock(pocket: Path) -> None:
    need_gstreamer()
    late = "compositor latency=20000000000"  # nanoseconds, more than a camera may be silent
    live = f"videotestsrc is-live=true num-buffers=3 ! {late} ! video/x-raw,width=448,height=448"
    asked = (pocket, "--gstreamer", live, READING, onnxruntime_library())
    assert answered(run(camera(), *asked))
