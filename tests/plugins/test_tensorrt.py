"""The TensorRT plugin: every header set, a host harness that calls it, and real registries.

Nothing here needs a GPU. Header sets come from the cache that `scripts/tensorrt_headers.py` fills.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from d2export.engine.plugin import misfit
from d2export.engine.plugin_build import build_of
from d2export.engine.tensorrt_api import api_of
from tests.plugins.drivers import ROOT

# The library of the last one is what the other tests load.
VERSIONS = ("8.6.1", "10.13", "10.16", "11.0", "11.1", "10.3")
HEADERS = Path.home() / ".cache" / "d2export" / "tensorrt"
BUILD = ROOT / "build" / "native-tensorrt"
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
OPS = ("D2Prune", "MaxMinPrune", "DppPrune", "DeduplicatePrune", "D2PrunePositions")
REGISTRIES = ("10.16.1.11", "11.4.0.106")  # TensorRT's lean runtime, as wheels

IN_A_REGISTRY = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy
import tensorrt_lean_bindings as trt

registry = trt.get_plugin_registry()
ops = sys.argv[3:]
for op in ops:
    assert registry.get_creator(op, "1", "d2export") is None
registry.load_library(sys.argv[2])


def create(creator, name, values=(64,)):
    value = numpy.array(values, numpy.int32)
    fields = [trt.PluginField(name, value, trt.PluginFieldType.INT32)]
    phase = trt.TensorRTPhase.BUILD
    return creator.create_plugin("node", trt.PluginFieldCollection(fields), phase)


for op in ops:
    assert registry.get_creator(op, "1", "") is None
    assert registry.get_creator(op, "2", "d2export") is None
    creator = registry.get_creator(op, "1", "d2export")
    assert create(creator, "keep") is not None
    assert create(creator, "kep") is None
    assert create(creator, "keep", ()) is None
    print(op, "created by", trt.__version__)
"""


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


def build(version: str, folder: Path = BUILD, *options: str) -> Path:
    """Plugin and harness with the headers of `version`; CUDA code is compiled once a folder."""
    if NVCC is None:
        pytest.skip("nvcc: install the CUDA toolkit")
    headers = HEADERS / version / "include"
    if not headers.is_dir():
        pytest.skip(
            f"headers of TensorRT {version}: python scripts/tensorrt_headers.py get {version}"
        )
    settings = (
        "-DD2EXPORT_TESTS=ON",
        "-DD2EXPORT_CUDA=ON",
        f"-DCMAKE_CUDA_COMPILER={NVCC}",
        "-DCMAKE_CUDA_ARCHITECTURES=87;90",
        "-DCMAKE_CXX_FLAGS=-Werror",
        "-DCMAKE_CUDA_FLAGS=-Werror all-warnings",
        f"-DTENSORRT_INCLUDE_DIR={headers}",
        *options,
    )
    run("cmake", "-S", ROOT / "plugins", "-B", folder, *settings)
    targets = ("d2export_plugin", "d2export_plugin_register", "tensorrt_harness")
    run("cmake", "--build", folder, "--target", *targets, "--parallel", "2")
    return folder / "tensorrt" / "libd2export_plugin.so"


def symbols(library: Path, which: str) -> set[str]:
    """Dynamic symbols, with the versions of those that come from other libraries."""
    lines = run("nm", "-D", which, library).splitlines()
    return {line.split()[-1] for line in lines if "no symbols" not in line}


@pytest.mark.parametrize("version", VERSIONS)
def test_compiles_and_answers_the_host_harness(version: str) -> None:
    plugin = build(version)
    major, minor = version.split(".")[:2]
    assert f"PASSED with the headers of TensorRT {major}.{minor}" in run(
        BUILD / "tests" / "tensorrt_harness", plugin, BUILD / "tests" / "libacted_plugin.so"
    )


@pytest.mark.parametrize("version", ["8.6.1", "10.3"])
def test_answers_the_host_harness_under_sanitizers(version: str) -> None:
    """Both plugin interfaces: no bytes, fields or shapes make it read outside its memory."""
    folder = BUILD.with_name("native-tensorrt-asan")
    # The kernel runs nowhere here: its PTX is enough, without machine code of two architectures.
    plugin = build(
        version,
        folder,
        "-DD2EXPORT_SANITIZE=address;undefined",
        "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -g1",
        "-DCMAKE_CUDA_ARCHITECTURES=87-virtual",
    )
    tests = folder / "tests"
    assert "PASSED" in run(tests / "tensorrt_harness", plugin, tests / "libacted_plugin.so")


def test_it_says_what_it_was_compiled_for() -> None:
    found = build_of(build("10.3"))
    assert found is not None
    assert found.tensorrt[:2] == (10, 3)
    assert found.compute_capabilities == ((8, 7), (9, 0))


@pytest.mark.parametrize(
    ("library", "entry_points"),
    [
        ("libd2export_plugin.so", {"getCreators", "setLoggerFinder"}),
        ("libd2export_plugin_register.so", set()),
    ],
)
def test_it_exports_its_entry_points_and_needs_no_tensorrt(
    library: str, entry_points: set[str]
) -> None:
    path = build("10.3").with_name(library)
    assert symbols(path, "--defined-only") == entry_points
    # All that is needed has a version: it is of libc or of the C++ library, not of TensorRT.
    needed = symbols(path, "--undefined-only")
    assert {name for name in needed if "@" not in name} <= {
        "__gmon_start__",
        "_ITM_deregisterTMCloneTable",
        "_ITM_registerTMCloneTable",
    }


def test_builds_of_engines_see_which_tensorrt_it_is_for() -> None:
    plugin = build("10.3")
    assert misfit(plugin, api_of((10, 3))) is None
    assert misfit(plugin, api_of((11, 4))) is None
    assert misfit(plugin, api_of((8, 6))) is not None


def test_the_registering_library_says_what_is_missing() -> None:
    build("10.3")
    script = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    library = BUILD / "tensorrt" / "libd2export_plugin_register.so"
    assert "no TensorRT 10 is loaded" in run(sys.executable, "-c", script, library)


@pytest.mark.parametrize("version", REGISTRIES)
def test_a_real_registry_finds_the_creators(version: str) -> None:
    """One library, with the headers of 10.3, in a registry of 10.16 and in one of 11.4."""
    plugin = build("10.3")
    folder = ROOT / "build" / f"tensorrt-lean-{version}"
    if not folder.is_dir():
        packages = [f"tensorrt-lean-cu13-{part}=={version}" for part in ("libs", "bindings")]
        pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder)
        done = subprocess.run([*pip, *packages], capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            pytest.skip(f"{' and '.join(packages)} from PyPI: {done.stderr.strip()[-200:]}")
    answer = run(sys.executable, "-c", IN_A_REGISTRY, folder, plugin, *OPS)
    for op in OPS:
        assert f"{op} created by {version}" in answer
        assert f"{op}: there is no attribute 'kep'" in answer
        assert f"{op}: attribute keep has 0 values" in answer
