"""Time and peak memory of exporting the real-size vision graph from a checkpoint on disk.

    python scripts/bench/export.py [--model internvl2.5-8b] [--runs 3]

Writes a random checkpoint of the published size and layout, then exports it in fresh processes:
linked, then with the weights copied into the bundle. Includes importing torch. The peak is the
kernel's own high-water mark of the process.
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

CHILD = """
import sys
from pathlib import Path
from d2export.export.vision_graph import write_graphs
from d2export.models import layouts
from d2export.models.checkpoint import open_checkpoint
from d2export.pruning.parameters import PruneParameters

source, target, copy = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "copied"
checkpoint = open_checkpoint(source, layouts.is_needed)
target.mkdir()
write_graphs(
    target,
    checkpoint.spec,
    layouts.resolve(checkpoint.tensors, checkpoint.spec),
    PruneParameters(keep=64),
    importance="cls",
    cls_layer=checkpoint.spec.vision.layers - 2,
    prior=None,
    precision="fp32",
    opset=17,
    copy_weights=copy,
)
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


def main() -> None:
    """Print a line per mode."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="internvl2.5-8b")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "checkpoint")
        write_random_checkpoint(preset(arguments.model), source, seed=0)
        size = (source / "model.safetensors").stat().st_size / 1e6
        print(f"{arguments.model}: {size:.0f} MB of weights for the vision graph")
        for mode in ("linked", "copied"):
            seconds, peaks = [], []
            for run in range(arguments.runs):
                target = Path(folder, f"{mode}{run}")
                start = time.perf_counter()
                answer = subprocess.run(
                    [sys.executable, "-c", CHILD, str(source), str(target), mode],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                seconds.append(time.perf_counter() - start)
                peaks.append(int(answer.stdout) * 1024 / 1e9)
            print(
                f"{mode}: median {statistics.median(seconds):.1f} s "
                f"(min {min(seconds):.1f}, max {max(seconds):.1f}), peak {max(peaks):.2f} GB"
            )


if __name__ == "__main__":
    main()
