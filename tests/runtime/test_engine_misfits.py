"""Which TensorRT and GPU engines run on, by what is known of how they were built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from d2export.bundle.engine_records import SCHEMA, BuiltEngines, Gpu, PlannedEngine, PlannedEngines
from d2export.bundle.folder import read_bundle
from d2export.bundle.records import Tool
from d2export.engine.build_options import BuildOptions
from d2export.engine.cuda_driver import Device
from d2export.engine.targets import target
from d2export.engine.tensorrt_api import parse_version
from d2export.engine.this_machine import Machine
from d2export.runtime.engine_misfits import misfits
from tests.engine.plans import plan
from tests.sample_bundle import write_sample
from tests.test_engine_building import H100, ORIN

A100 = Device("NVIDIA A100-SXM4-80GB", (8, 0), 81000 * 2**20, False)
T4 = Device("Tesla T4", (7, 5), 15000 * 2**20, False)
NANO = replace(ORIN, memory=7620 * 2**20)


def found(folder: Path, here: str, device: Device, gpu: Device = ORIN, **options: Any) -> list[str]:
    """What keeps engines of TensorRT 10.3.0 from running."""
    built_plan = plan((10, 3), options=BuildOptions(**options), name="h100")
    tool = Tool("d2export", "0.1.0")
    planned = PlannedEngines(
        SCHEMA, tool, target("h100"), BuildOptions(), (PlannedEngine(built_plan, "", ()),)
    )
    record = Gpu(gpu.name, gpu.compute_capability, gpu.memory)
    built = BuiltEngines(SCHEMA, tool, "h100", "10.3.0", record, None, ())
    trt = SimpleNamespace(__version__=here)
    machine = Machine(trt, parse_version(here), device, ())
    bundle = read_bundle(write_sample(folder))
    return [one.problem for one in misfits(bundle, planned, built, None, machine)]


@pytest.mark.parametrize(
    ("here", "options", "fits"),
    [
        ("10.3.0", {}, True),
        ("10.3.0.post1", {}, True),
        ("10.3.1", {}, False),
        ("10.16.0", {}, False),
        ("10.16.0", {"version_compatible": True}, True),
        ("8.6.1", {"version_compatible": True}, False),
    ],
)
def test_versions(tmp_path: Path, here: str, options: dict[str, Any], fits: bool) -> None:
    problems = found(tmp_path, here, ORIN, **options)
    expected = f"the engines were built by TensorRT 10.3.0, this machine has TensorRT {here}"
    assert problems == ([] if fits else [expected])


@pytest.mark.parametrize(
    ("gpu", "device", "options", "fits"),
    [
        (ORIN, ORIN, {}, True),
        (ORIN, replace(ORIN, memory=ORIN.memory - 2**30), {}, True),
        (ORIN, NANO, {}, False),
        (A100, H100, {}, False),
        (A100, H100, {"hardware_compatible": True}, True),
        (A100, T4, {"hardware_compatible": True}, False),
    ],
)
def test_gpus(
    tmp_path: Path, gpu: Device, device: Device, options: dict[str, Any], fits: bool
) -> None:
    problems = found(tmp_path, "10.3.0", device, gpu, **options)
    assert bool(problems) != fits
    if not fits:
        assert problems[0].startswith(f"the engines were built for a GPU {gpu.name} of compute ")
