"""The native code under sanitizers and a fuzzer: any bytes in, nothing outside its memory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.plugins.drivers import ROOT

BUILD = ROOT / "build"
SECONDS = 30  # of coverage-guided fuzzing, both targets together


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=BUILD)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


def fuzz_targets(name: str, *settings: str) -> list[Path]:
    """Of the selection and of the plugin's deserialiser, built with these settings."""
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    fixed = ("-DD2EXPORT_TESTS=ON", "-DD2EXPORT_CUDA=OFF", "-DCMAKE_BUILD_TYPE=RelWithDebInfo")
    run("cmake", "-S", ROOT / "plugins", "-B", folder, *fixed, *settings)
    names = ("fuzz_select", "fuzz_deserialize")
    run("cmake", "--build", folder, "--target", *names, "--parallel", "2")
    return [folder / "tests" / target for target in names]


@pytest.mark.parametrize(
    ("name", "sanitizers"), [("native-asan", "address;undefined"), ("native-tsan", "thread")]
)
def test_random_bytes_under_sanitizers(name: str, sanitizers: str) -> None:
    """Blocks of the grid are threads here, so the thread sanitizer sees races between them."""
    for target in fuzz_targets(name, f"-DD2EXPORT_SANITIZE={sanitizers}"):
        assert "nothing found" in run(target, "300")


def test_coverage_guided_fuzzing(tmp_path: Path) -> None:
    clang = shutil.which("clang++") or shutil.which("clang++-14")
    if clang is None:
        pytest.skip("clang++ with libFuzzer: apt install clang libclang-rt-14-dev")
    targets = fuzz_targets(
        "native-fuzz",
        f"-DCMAKE_CXX_COMPILER={clang}",
        "-DD2EXPORT_FUZZ=ON",
        "-DD2EXPORT_SANITIZE=address;undefined",
    )
    (tmp_path / "corpus").mkdir()
    limits = (f"-max_total_time={SECONDS // 2}", "-max_len=4096", "-len_control=0")
    for target in targets:
        assert "DONE" in run(target, tmp_path / "corpus", f"-artifact_prefix={tmp_path}/", *limits)
