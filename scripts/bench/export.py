"""Time and peak memory of exporting real-size graphs from a checkpoint on disk.

    python scripts/bench/export.py [--model internvl2.5-8b] [--runs 3]
    python scripts/bench/export.py --scope vlm [--naive-layers 2 --naive-layers 4]

Writes a random checkpoint of the published size and layout, then exports it in fresh processes:
linked, then, in scope vision, with the weights copied into the bundle. Includes importing torch.
The peak is the kernel's own high-water mark of the process. `naive` is torch.onnx.export of the
same decoder as one would write it down: with its weights in memory, for so many layers.
"""

from __future__ import annotations

import sys

del sys.path[0]  # this folder, whose select.py hides the standard library's

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from d2export.models.presets import preset
from d2export.models.random_weights import write_random_checkpoint

PEAK = """
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""

VISION = (
    """
import sys
from pathlib import Path
from d2export.export.vision_graph import write_graphs
from d2export.models import layouts
from d2export.models.checkpoint import open_checkpoint
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import d2_plan

source, target, copy = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "copied"
checkpoint = open_checkpoint(source, layouts.is_needed)
target.mkdir()
write_graphs(
    target,
    checkpoint.spec,
    layouts.resolve(checkpoint.tensors, checkpoint.spec),
    d2_plan(PruneParameters(keep=64), "cls", checkpoint.spec.vision.layers - 2),
    prior=None,
    precision="fp32",
    opset=17,
    copy_weights=copy,
)
"""
    + PEAK
)

VLM = (
    """
import sys
from pathlib import Path
from d2export.export.vlm_graphs import write_vlm_graphs
from d2export.models import layouts
from d2export.models.checkpoint import open_checkpoint
from d2export.models.text_layouts import resolve_text
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import d2_plan

source, target = Path(sys.argv[1]), Path(sys.argv[2])
checkpoint = open_checkpoint(source)
target.mkdir()
write_vlm_graphs(
    target,
    checkpoint.spec,
    layouts.resolve(checkpoint.tensors, checkpoint.spec)
    | resolve_text(checkpoint.tensors, checkpoint.spec),
    d2_plan(PruneParameters(keep=64)),
    prior=None,
    precision="fp16",
    opset=17,
    copy_weights=False,
)
"""
    + PEAK
)

NAIVE = (
    """
import sys, warnings
from dataclasses import replace
from pathlib import Path
import torch
from torch.export import Dim
from d2export.export.pruned_decoder import PrunedDecoder
from d2export.models.presets import preset
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import d2_plan

warnings.simplefilter("ignore")
spec = replace(preset(sys.argv[1]).text, layers=int(sys.argv[3]))
keep = PruneParameters(keep_permille=1000)
# The library's op has no translation outside the project: nothing is pruned here.
import d2export.export.pruned_decoder as module
module.prune_positions = lambda states, *_: torch.arange(states.shape[1])
decoder = PrunedDecoder(spec, d2_plan(keep, layer=1)).eval()
past = [torch.zeros(1, spec.kv_heads, 7, spec.head_dim) for _ in range(2 * spec.layers)]
sequence, visual, before = Dim("sequence", min=1), Dim("visual", min=1), Dim("past", min=1)
arguments = {
    "input_ids": torch.zeros(1, 23, dtype=torch.int64),
    "image_embeds": torch.zeros(11, spec.hidden),
    "visual_positions": torch.arange(11),
    "image_lengths": torch.tensor([11]),
    "token_grid": torch.zeros(11, 2),
    "position_ids": torch.zeros(1, 23, dtype=torch.int64),
    "past": past,
}
shapes = {
    "input_ids": {1: sequence},
    "image_embeds": {0: visual},
    "visual_positions": {0: visual},
    "image_lengths": None,
    "token_grid": {0: visual},
    "position_ids": {1: sequence},
    "past": [{2: before} for _ in past],
}
torch.onnx.export(
    decoder, (), str(Path(sys.argv[2]) / "decoder.onnx"), kwargs=arguments, dynamo=True,
    dynamic_shapes=shapes, verbose=False, external_data=True,
)
"""
    + PEAK
)


def main() -> None:
    """Print a line per mode."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="internvl2.5-8b")
    parser.add_argument("--scope", choices=("vision", "vlm"), default="vision")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--naive-layers", type=int, action="append", default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "checkpoint"
        start = time.perf_counter()
        write_random_checkpoint(preset(arguments.model), source, seed=0, scope=arguments.scope)
        size = (source / "model.safetensors").stat().st_size / 1e9
        seconds = time.perf_counter() - start
        print(f"{arguments.model}: {size:.2f} GB of weights, drawn in {seconds:.0f} s", flush=True)
        if arguments.scope == "vision":
            for mode in ("linked", "copied"):
                measure(mode, VISION, folder, [str(source)], [mode], arguments.runs)
            return
        measure("linked", VLM, folder, [str(source)], [], arguments.runs)
        for layers in arguments.naive_layers:
            last = [str(layers)]
            measure(f"naive, {layers} layers", NAIVE, folder, [arguments.model], last, 1)


def measure(
    name: str, program: str, folder: Path, first: list[str], last: list[str], runs: int
) -> None:
    """Run a program several times in fresh processes and folders, and print what it took."""
    seconds, peaks = [], []
    for run in range(runs):
        target = folder / f"{name.replace(' ', '-')}{run}"
        if program == NAIVE:
            target.mkdir()
        start = time.perf_counter()
        answer = subprocess.run(
            [sys.executable, "-c", program, *first, str(target), *last],
            capture_output=True,
            text=True,
        )
        if answer.returncode:
            print(f"{name}: {(answer.stderr or 'killed').strip().splitlines()[-1]}", flush=True)
            return
        seconds.append(time.perf_counter() - start)
        peaks.append(int(answer.stdout.splitlines()[-1]) * 1024 / 1e9)
    print(
        f"{name}: median {statistics.median(seconds):.1f} s "
        f"(min {min(seconds):.1f}, max {max(seconds):.1f}), peak {max(peaks):.2f} GB",
        flush=True,
    )


if __name__ == "__main__":
    main()
