"""The example `camera`: its program, what that needs, and what it says."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2export.bundle.folder import read_bundle
from d2export.runtime.generate import Generator
from tests.runtime_cpp.drivers import BUILD, run
from tests.runtime_cpp.programs import EXAMPLES, installed
from tests.runtime_cpp.runtime import need_backend

Scenes = list[tuple[Path, str]]
Answered = tuple[str, str, int, int]  # the frame, the text, the visual tokens kept, and all
WARNINGS = "-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
READING = "What does the sign say?"  # the answer has no box

COSTS = re.compile(
    r"(.+): read [\d.]+ ms, preprocess [\d.]+ ms, vision [\d.]+ ms, prefill [\d.]+ ms, "
    r"decode \d+ tokens/s, kept (\d+) of (\d+) visual tokens, [\d.]+ frames/s"
)


@cache
def camera(*settings: str) -> Path:
    """The program, built against the prefix alone, with what this machine has for it."""
    need_backend()
    prefix, folder = installed(), BUILD / "examples" / "".join(("camera", *settings))
    folder.mkdir(parents=True, exist_ok=True)
    with (BUILD / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(
            "cmake", "-S", EXAMPLES / "camera", "-B", folder, f"-DCMAKE_PREFIX_PATH={prefix}",
            f"-DCMAKE_CXX_FLAGS={WARNINGS}", *settings,
        )  # fmt: skip
        run("cmake", "--build", folder)
    return folder / "camera"


def without_libraries() -> Path:
    """The program where there is neither GStreamer nor Pango."""
    return camera("-DCMAKE_DISABLE_FIND_PACKAGE_PkgConfig=ON")


def need_modules(packages: str, *modules: str) -> None:
    """Skips where the program has been built without a library."""
    tool = shutil.which("pkg-config")
    if tool is None or subprocess.run([tool, "--exists", *modules], check=False).returncode:
        pytest.skip(f"{' and '.join(modules)}: apt install pkg-config {packages}")


def need_pango() -> None:
    need_modules("libpango1.0-dev", "pangocairo")


def need_gstreamer() -> None:
    plugins = "gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
    development = f"libgstreamer-plugins-base1.0-dev {plugins}"
    need_modules(development, "gstreamer-app-1.0", "gstreamer-video-1.0")
    folder = Path(run("pkg-config", "--variable=pluginsdir", "gstreamer-1.0").strip())
    for plugin in ("app", "compositor", "multifile", "png", "videotestsrc"):
        if not (folder / f"libgst{plugin}.so").exists():
            pytest.skip(f"GStreamer's plugin {plugin}: apt install {plugins}")


def two_frames(folder: Path, scenes: Scenes) -> Path:
    """A folder with a.png and b.png, of two scenes, and with what is no frame."""
    folder.mkdir()
    for name, (picture, _) in zip(("b.png", "a.png"), (scenes[0], scenes[-1]), strict=True):
        shutil.copy(picture, folder / name)
    (folder / "notes.txt").write_text("no frame")
    return folder


def answered(said: str) -> list[Answered]:
    """What was printed about each frame."""
    lines = said.splitlines()
    found = []
    for costs, text in zip(lines[::2], lines[1::2], strict=True):
        numbers = COSTS.fullmatch(costs)
        assert numbers is not None, costs
        found.append((numbers[1], text.removeprefix("  "), int(numbers[2]), int(numbers[3])))
    return found


def expected(bundle: Path, frame: Path, prompt: str) -> tuple[str, int]:
    """Python's answer, and how many visual tokens it kept."""
    answer = Generator(read_bundle(bundle), threads=1).answer([frame], prompt)
    return answer.text, len(answer.kept[0])


def pixels(path: Path) -> np.ndarray:
    """`[height, width, 3]` of a PNG."""
    with Image.open(path) as opened:
        assert (opened.format, opened.mode) == ("PNG", "RGB")
        return np.asarray(opened)
