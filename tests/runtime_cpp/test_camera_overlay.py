"""What the example draws over a frame: the answer, its boxes, and what it cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2export.runtime.boxes import boxes_in
from tests.runtime_cpp.camera import (
    READING,
    Scenes,
    answered,
    camera,
    need_gstreamer,
    need_pango,
    pixels,
    two_frames,
)
from tests.runtime_cpp.drivers import run
from tests.runtime_cpp.runtime import onnxruntime_library

LINE = (255, 217, 0)  # of a box


@pytest.fixture
def frames(scenes: Scenes, tmp_path: Path) -> Path:
    return two_frames(tmp_path / "frames", scenes)


def test_the_overlay_is_drawn_over_the_frame(
    pocket: Path, frames: Path, scenes: Scenes, tmp_path: Path
) -> None:
    need_pango()
    shown = tmp_path / "new" / "shown"
    asked = (pocket, frames, READING, "--show", shown, onnxruntime_library())
    run(camera(), *asked)
    assert sorted(path.name for path in shown.iterdir()) == ["a.png", "b.png"]
    before, after = pixels(frames / "a.png"), pixels(shown / "a.png")
    assert after.shape == before.shape
    rows = (before != after).any(axis=(1, 2))
    changed = np.flatnonzero(np.diff(rows.astype(int)))
    assert rows[0]
    assert rows[-1]
    assert len(changed) == 2  # a band at the top, one at the bottom, the picture between them
    for band in (after[: changed[0] + 1], after[changed[1] + 1 :]):
        assert (band == 255).all(axis=2).any()  # text, white
        assert band.mean() < before.mean()


def test_a_box_is_drawn_where_the_answer_has_it(
    pocket: Path, frames: Path, scenes: Scenes, tmp_path: Path
) -> None:
    need_pango()
    asked = (pocket, frames, scenes[0][1], "--show", tmp_path, onnxruntime_library())
    for name, text, *_ in answered(run(camera(), *asked)):
        ((x1, y1, x2, y2),) = boxes_in(text)
        line = (pixels(tmp_path / name) == LINE).all(axis=2)
        high, wide = line.shape
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        for middle in ((x1, y), (x2, y), (x, y1), (x, y2)):  # of each side
            column, row = round(middle[0] * wide), round(middle[1] * high)
            assert line[row - 1 : row + 1, column - 1 : column + 1].any()
        assert not line[round(y * high), round(x * wide)]


def test_a_jpeg_becomes_a_png_of_its_own(pocket: Path, scenes: Scenes, tmp_path: Path) -> None:
    need_pango()
    frames, shown = tmp_path / "frames", tmp_path / "shown"
    frames.mkdir()
    with Image.open(scenes[0][0]) as picture:
        picture.save(frames / "a.jpg")
        picture.save(frames / "a.png")
    run(camera(), pocket, frames, READING, "--show", shown, onnxruntime_library())
    assert sorted(path.name for path in shown.iterdir()) == ["a.jpg.png", "a.png"]


def test_a_display_gets_what_is_shown(
    pocket: Path, frames: Path, scenes: Scenes, tmp_path: Path
) -> None:
    need_pango()
    need_gstreamer()
    with Image.open(frames / "b.png") as picture:  # the second is of another size
        small = picture.crop((0, 0, 333, 201))
    small.save(frames / "b.png")
    display = (
        f"video/x-raw,format=RGB ! pngenc ! multifilesink sync=true location={tmp_path}/%d.png"
    )
    options = ("--show", tmp_path / "shown", "--display", display)
    said = run(camera(), pocket, frames, READING, *options, onnxruntime_library())
    assert len(answered(said)) == 2  # and not a word of warning
    for number, name in enumerate(("a.png", "b.png")):
        sent, shown = pixels(tmp_path / f"{number}.png"), pixels(tmp_path / "shown" / name)
        assert np.array_equal(sent, shown)


@pytest.mark.parametrize(
    ("option", "value", "code", "says"),
    [
        ("--display", "nosuchsink", 3, 'cannot be made: no element "nosuchsink"'),
        ("--display", "filesink location=/none/x", 3, "Could not open file"),
        ("--display", "video/x-raw,width=7 ! fakesink", 2, "says, in pictures: Internal data"),
        ("--show", "/dev/null/x", 2, "--show /dev/null/x cannot be made: Not a directory"),
        ("--show", "/proc", 3, "/proc/a.png cannot be written"),
    ],
)
def test_what_cannot_show(
    pocket: Path, frames: Path, option: str, value: str, code: int, says: str
) -> None:
    need_pango()
    if option == "--display":
        need_gstreamer()
    said = run(camera(), pocket, frames, READING, option, value, onnxruntime_library(), code=code)
    assert says in said
