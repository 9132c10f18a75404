"""`make demo`: the main job at real size, on photographs.

Builds InternVL2.5-8B's vision tower and projector with random weights (nothing to download), prunes
to 64 visual tokens a picture, and checks the graph against PyTorch. The four photographs come with
scikit-image and have the aspect ratios that give 1, 7 and 13 tiles.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import skimage

PHOTOS = ("astronaut.png", "camera.png", "coffee.png", "coins.png")
OUT = "out/demo"


def main() -> int:
    """Run the command that a user would type."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    data = Path(skimage.__file__).parent / "data"
    command = ["d2export", "build", "--model", "internvl2.5-8b", "--random-weights"]
    command += ["--keep", "64", "--output", OUT, "--force"]
    for photo in PHOTOS:
        command += ["--image", str(data / photo)]
    print(f"$ {shlex.join(command)}\n", flush=True)
    executable = Path(sys.executable).with_name(command[0])
    return subprocess.run([executable, *command[1:]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
