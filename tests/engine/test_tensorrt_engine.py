"""What engines are asked, by names that each TensorRT has; bfloat16 and int64 on the way there."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engine import tensorrt_headers as headers
from tests.engine.stand_in_engines import SINCE, UNTIL, compute_module

ROOT = Path(__file__).parents[2]
REGISTRIES = ("10.16.1.11", "11.4.0.106")  # TensorRT's lean runtime, as wheels
CLASSES = ("Runtime", "ICudaEngine", "IExecutionContext")
# Attributes that the stand-in's objects have, not its classes.
OF_OBJECTS = {
    "Runtime": {"engine_host_code_allowed", "logger"},
    "ICudaEngine": set(),
    "IExecutionContext": {"engine", "active_optimization_profile", "profiler"},
}
# Where C++ has another name than Python's in camel case.
IN_CPP = {
    "execute_async_v3": "enqueueV3",
    "get_tensor_profile_shape": "getProfileShape",
    "get_tensor_name": "getIOTensorName",
    "get_tensor_mode": "getTensorIOMode",
    "get_tensor_dtype": "getTensorDataType",
    "num_io_tensors": "getNbIOTensors",
    "num_optimization_profiles": "getNbOptimizationProfiles",
    "is_shape_inference_io": "isShapeInferenceIO",
    "device_memory_size": "getDeviceMemorySize",
    "device_memory_size_v2": "getDeviceMemorySizeV2",
    "engine_host_code_allowed": "setEngineHostCodeAllowed",
    "active_optimization_profile": "getOptimizationProfile",
    "engine": "getEngine",
    "profiler": "setProfiler",
    "logger": "getLogger",
}
ATTRIBUTES = """
import json, sys
sys.path.insert(0, sys.argv[1])
import tensorrt_lean_bindings as trt
print(json.dumps({name: dir(getattr(trt, name)) for name in sys.argv[2:]}))
"""


def asked(trt: Any) -> dict[str, set[str]]:
    """All that the stand-in has, by class: what the code and polygraphy ask, and no more."""
    return {
        name: {one for one in vars(getattr(trt, name)) if not one.startswith("_")}
        | OF_OBJECTS[name]
        for name in CLASSES
    }


def in_cpp(name: str) -> str:
    words = name.split("_")
    return IN_CPP.get(name, words[0] + "".join(word.capitalize() for word in words[1:]))


@pytest.mark.parametrize("version", headers.VERSIONS)
def test_names_are_in_the_headers(version: str) -> None:
    text = headers.text(version)
    trt = compute_module(version, ctypes.CDLL(None))
    for names in asked(trt).values():
        for name in names:
            assert re.search(rf"\b{in_cpp(name)}\(", text), name


@pytest.mark.parametrize("version", headers.VERSIONS)
def test_what_only_some_versions_have(version: str) -> None:
    text = headers.text(version)
    trt = compute_module(version, ctypes.CDLL(None))
    found = set().union(*asked(trt).values())
    for name in (*SINCE, *UNTIL):
        assert (name in found) == bool(re.search(rf"\b{in_cpp(name)}\(", text)), name


@pytest.mark.parametrize("version", REGISTRIES)
def test_names_are_those_of_python(version: str) -> None:
    folder = ROOT / "build" / f"tensorrt-lean-{version}"
    if not folder.is_dir():
        pytest.skip(f"tensorrt-lean {version}: tests/plugins/test_tensorrt.py installs it")
    done = subprocess.run(
        [sys.executable, "-c", ATTRIBUTES, folder, *CLASSES, "IProfiler"],
        capture_output=True,
        text=True,
        check=True,
    )
    real = json.loads(done.stdout)
    near = "10.16" if version.startswith("10") else "11.1"
    for name, attributes in asked(compute_module(near, ctypes.CDLL(None))).items():
        assert attributes <= set(real[name]), name
    assert "report_layer_time" in real["IProfiler"]
