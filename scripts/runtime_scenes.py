"""Whether the C++ runtime answers as Python does: the same tokens, the same kept visual tokens.

Exports the trained pocket model, installs engines/runtime to a prefix, builds engines/examples
against it, and asks `minimal` and `d2run` what Python's runtime is asked, a process each.

    python scripts/runtime_scenes.py out/runtime-scenes --scenes 100 \
        --ort-include ~/.cache/d2export/onnxruntime/1.20.0/include
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnxruntime

from d2export.bundle.folder import read_bundle
from d2export.evaluation.scenes.task import pocket_scenes
from d2export.options import ExportOptions
from d2export.pipeline import export
from d2export.runtime.generate import Generator

ENGINES = Path(__file__).parents[1] / "engines"


def main() -> int:
    """Build what is missing in the output folder, ask, and say how many answers are equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--ort-include", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    bundle, programs = prepare(options.output.resolve(), options.ort_include.resolve())
    tokens = kept = texts = 0
    generator = Generator(read_bundle(bundle), threads=1)
    # A question of every kind belongs to each scene; here each scene is asked one, by turns.
    samples = pocket_scenes(scenes=options.scenes).samples
    kinds = len(samples) // options.scenes
    for scene in range(options.scenes):
        sample = samples[scene * kinds + scene % kinds]
        picture = options.output / "scene.png"
        sample.load().save(picture)
        expected = generator.answer([picture], sample.prompt)
        found = d2run(programs / "d2run" / "d2run", bundle, picture, sample.prompt)
        tokens += found["tokens"] == list(expected.tokens)
        kept += found["kept"] == [indices.tolist() for indices in expected.kept]
        said = run(programs / "minimal" / "minimal", bundle, picture, sample.prompt, library())
        texts += said == expected.text + "\n"
    print(
        f"{options.scenes} scenes, ONNX Runtime {onnxruntime.__version__}: "
        f"tokens equal in {tokens}, kept visual tokens in {kept}, minimal's text in {texts}"
    )
    return 0 if tokens == kept == texts == options.scenes else 1


def prepare(output: Path, headers: Path) -> tuple[Path, Path]:
    """The bundle, and the folder of the examples, made as far as they are missing."""
    bundle, prefix, examples = output / "bundle", output / "prefix", output / "examples"
    output.mkdir(parents=True, exist_ok=True)
    if not (bundle / "manifest.json").is_file():
        export(ExportOptions("pocket", scope="vlm", keep="10%"), bundle)
    build = output / "build"
    run("cmake", "-S", ENGINES / "runtime", "-B", build, f"-DORT_INCLUDE_DIR={headers}")
    run("cmake", "--build", build, "--parallel", "2")
    run("cmake", "--install", build, "--prefix", prefix)
    for name in ("minimal", "d2run"):
        source = ENGINES / "examples" / name
        run("cmake", "-S", source, "-B", examples / name, f"-DCMAKE_PREFIX_PATH={prefix}")
        run("cmake", "--build", examples / name)
    return bundle, examples


def d2run(program: Path, bundle: Path, picture: Path, prompt: str) -> dict[str, Any]:
    """The answer of d2run, as it prints it."""
    asked = ("--image", picture, "--prompt", prompt, "--onnxruntime", library(), "--json")
    answer: dict[str, Any] = json.loads(run(program, bundle, *asked))
    return answer


def library() -> Path:
    """ONNX Runtime's shared library, which its Python package brings."""
    return next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))


def run(*command: str | Path) -> str:
    """What a command prints; its errors go where ours go."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
