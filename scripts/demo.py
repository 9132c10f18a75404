"""`make demo`: the main job at real size, on photographs; then a small trained model that answers.

Builds InternVL2.5-8B's vision tower and projector with random weights (nothing to download), prunes
to 64 visual tokens a picture, and checks the graph against PyTorch. The four photographs come with
scikit-image and have the aspect ratios that give 1, 7 and 13 tiles. Then it builds the whole pocket
model, which is trained, keeps a tenth of the tokens, and asks it where an object is.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import skimage

from d2export.evaluation.scenes.task import pocket_scenes

PHOTOS = ("astronaut.png", "camera.png", "coffee.png", "coins.png")
OUT, POCKET, FOUND = "out/demo", "out/demo-pocket", "out/demo-found"


def main() -> int:
    """Run the commands that a user would type."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    data = Path(skimage.__file__).parent / "data"
    photos = [word for photo in PHOTOS for word in ("--image", str(data / photo))]
    build = ["build", "--force", "--model"]
    passed = d2export(
        *build, "internvl2.5-8b", "--random-weights", "--keep", "64", *photos, "--output", OUT
    ) and d2export(
        *build, "pocket", "--scope", "vlm", "--keep", "10%", "--quiet", "--output", POCKET
    )
    return 0 if passed and found() else 1


def found() -> bool:
    """Ask the trained model where an object is, and draw what it says."""
    sample = pocket_scenes(scenes=1).samples[0]
    picture = Path(FOUND) / "scene.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    sample.load().save(picture)
    asked = ["--image", str(picture), "--prompt", sample.prompt]
    return d2export("run", POCKET, *asked, "--output", FOUND)


def d2export(*words: str) -> bool:
    """Whether a command succeeded; it is shown first."""
    print(f"\n$ {shlex.join(['d2export', *words])}\n", flush=True)
    executable = Path(sys.executable).with_name("d2export")
    return subprocess.run([executable, *words], check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
