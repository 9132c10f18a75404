"""InternVL2.5-8B's vision graph at its real size, from a checkpoint on disk, in a fresh process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from d2export.models.presets import preset
from d2export.models.random_weights import write_random_checkpoint

EXPORT = """
import sys
from pathlib import Path

from d2export.export.vision_graph import write_graphs
from d2export.models import layouts
from d2export.models.checkpoint import open_checkpoint
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import d2_plan

checkpoint = open_checkpoint(Path(sys.argv[1]), layouts.is_needed)
target = Path(sys.argv[2])
target.mkdir()
placed = write_graphs(
    target, checkpoint.spec, layouts.resolve(checkpoint.tensors, checkpoint.spec),
    d2_plan(PruneParameters(keep=64), "cls", 22), prior=None, precision="fp16",
    opset=17, copy_weights=sys.argv[3] == "copied",
)
assert placed.mode == sys.argv[3]
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("internvl2.5-8b")
    write_random_checkpoint(preset("internvl2.5-8b"), folder, seed=0)
    return folder


@pytest.mark.real_size
@pytest.mark.parametrize("mode", ["linked", "copied"])
def test_exporting_takes_less_than_a_gigabyte_and_copies_only_if_asked(checkpoint, mode, tmp_path):
    target = tmp_path / "onnx"
    answer = subprocess.run(
        [sys.executable, "-c", EXPORT, str(checkpoint), str(target), mode],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(answer.stdout) * 1024 < 1e9
    weights = next(target.glob("*.safetensors"))
    assert weights.stat().st_size > 600e6
    assert weights.samefile(checkpoint / "model.safetensors") == (mode == "linked")
    assert (target / "vision.onnx").stat().st_size < 2e6
