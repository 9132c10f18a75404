"""The native code under sanitizers: any bytes in, nothing outside its memory.

`make fuzz` looks for worse bytes, guided by coverage.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.plugins.drivers import ROOT

BUILD = ROOT / "build"


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=BUILD)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


def fuzz_targets(name: str, *settings: str) -> list[Path]:
    """Of the selection and of the plugin's deserialiser, built with these settings."""
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    # What sanitizers advise: less optimised, less is compiled away before they look at it.
    optimised = ("-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -g1")
    fixed = ("-DD2EXPORT_TESTS=ON", "-DD2EXPORT_CUDA=OFF", *optimised)
    run("cmake", "-S", ROOT / "plugins", "-B", folder, *fixed, *settings)
    names = ("fuzz_select", "fuzz_rules", "fuzz_positions", "fuzz_deserialize")
    run("cmake", "--build", folder, "--target", *names, "--parallel", "2")
    return [folder / "tests" / target for target in names]


@pytest.mark.parametrize(
    ("name", "sanitizers"), [("native-asan", "address;undefined"), ("native-tsan", "thread")]
)
def test_random_bytes_under_sanitizers(name: str, sanitizers: str) -> None:
    """Blocks of the grid are threads here, so the thread sanitizer sees races between them."""
    for target in fuzz_targets(name, f"-DD2EXPORT_SANITIZE={sanitizers}"):
        assert "nothing found" in run(target, "300")
