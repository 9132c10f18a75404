"""Real-width slices of whole models against PyTorch.

    python scripts/bench/parity.py [--layers 3] [--model internvl2.5-8b] [--precision fp16]

For each model: the whole vision tower and so many decoder layers of its language model, random
weights of the published type, pruned before layer 2 to 64 tokens a picture; photographs of 1 and of
7 tiles (of 1 and 1 for LLaVA-1.5). Each precision is built and checked in a process of its own, as
`d2export build --scope vlm` does it. Deviations are the largest of both, relative to the largest
magnitude; behind each stands what is tolerated. Where kept tokens differ, a line says whether they
were near-ties. Exits with 1 if a check fails.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    del sys.path[0]  # this folder, whose select.py hides the standard library's

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import skimage

import d2export
from d2export.errors import CheckFailed
from d2export.models.presets import preset
from d2export.models.random_weights import write_random_checkpoint
from d2export.verify.tables import near_tie_line
from d2export.verify.vlm_check import VlmReport

PHOTOGRAPHS = ("astronaut.png", "coffee.png")
KEEP = "64"


def checked(checkpoint: Path, precision: str) -> VlmReport | str:
    """The report of a build, or why it failed."""
    photographs = Path(skimage.__file__).parent / "data"
    options = d2export.ExportOptions(
        str(checkpoint),
        scope="vlm",
        keep=KEEP,
        precision=precision,
        images=tuple(photographs / name for name in PHOTOGRAPHS),
    )
    with tempfile.TemporaryDirectory(dir=checkpoint.parent) as folder:
        try:
            report = d2export.build(options, Path(folder, "bundle")).accuracy
        except CheckFailed as error:
            return error.problem
    assert isinstance(report, VlmReport)
    return report


def line(report: VlmReport) -> str:
    """All prompts of a report together."""
    cases, asked = report.cases, report.tolerances
    kept = f"{sum(case.common for case in cases)}/{sum(case.kept for case in cases)}"
    answer = f"{sum(case.equal_tokens for case in cases)}/{sum(case.tokens for case in cases)}"
    embeddings = max(case.embeddings_error for case in cases)
    logits = max(case.logits_error for case in cases)
    return (
        f"{kept:<12}{embeddings:.1e} ({asked.embeddings:.0e})   "
        f"{logits:.1e} ({asked.logits:.0e})   {answer}"
    )


def main() -> int:
    """Print a line per model and precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", help="default: InternVL2.5-8B, LLaVA-1.5-7B")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--precision", action="append", help="default: fp32 and fp16")
    arguments = parser.parse_args()
    passed = True
    print(
        "model           precision  kept equal  embeddings        logits            answer equal",
        flush=True,
    )
    for name in arguments.model or ("internvl2.5-8b", "llava-1.5-7b"):
        whole = preset(name)
        text = replace(whole.text, layers=arguments.layers)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder, name)
            write_random_checkpoint(replace(whole, text=text), checkpoint, 0, scope="vlm")
            for precision in arguments.precision or ("fp32", "fp16"):
                # What one holds at its peak is not there for the next.
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    found = pool.submit(checked, checkpoint, precision).result()
                start = f"{name:<16}{precision:<11}"
                if isinstance(found, str):
                    passed = False
                    print(f"{start}FAILED: {found}", flush=True)
                    continue
                print(start + line(found), flush=True)
                for case in found.cases:
                    if case.near_ties is not None:
                        print("  " + near_tie_line(case.name, case.near_ties), flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
