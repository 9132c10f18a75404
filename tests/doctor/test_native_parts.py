"""What the doctor says about the native parts of this installation."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from d2export.doctor import report_text
from d2export.doctor.finding import Findings, Fit
from d2export.doctor.native_parts import native_parts
from d2export.pruning import native

AGAIN = "pip install --force-reinstall --no-deps ."


def lines() -> dict[str, str]:
    findings = Findings({}, (), (), native_parts(), Fit(), None, Fit())
    return dict(re.findall(r"^(native \w+) +(.*)$", report_text(findings), re.MULTILINE))


@pytest.mark.skipif(not native.available(), reason="no native core: `d2export doctor` says why")
def test_every_part_is_built_or_has_a_reason_and_a_remedy() -> None:
    assert list(lines()) == ["native core", "native cuda", "native tensorrt", "native onnxruntime"]
    assert re.fullmatch(
        r"(x86-64(-v[34])?|aarch64|portable), \w+ \d+[.\d]*, Release", lines()["native core"]
    )
    for part in native_parts():
        assert bool(part.built) != bool(part.why_not and part.remedy), part


@pytest.mark.skipif(not native.available(), reason="no native core: `d2export doctor` says why")
def test_what_to_type_is_what_cmake_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    from d2export import _native

    parts = {
        "core": {"built": "GNU 12.2.0, Release", "left_out": "", "add": ""},
        "cuda": {"built": "", "left_out": "nvcc is here, but no GPU", "add": "D2EXPORT_CUDA=ON"},
        "other": {"built": "", "left_out": "nvcc is nowhere", "add": "install the CUDA toolkit"},
    }
    monkeypatch.setattr(_native, "build_info", lambda: {"vectors": "aarch64", "parts": parts})
    assert lines() == {
        "native core": "aarch64, GNU 12.2.0, Release",
        "native cuda": (
            f"not built (nvcc is here, but no GPU): CMAKE_ARGS='-DD2EXPORT_CUDA=ON' {AGAIN}"
        ),
        "native other": f"not built (nvcc is nowhere): install the CUDA toolkit, then {AGAIN}",
    }


@pytest.mark.parametrize(
    ("which", "remedy"),
    [
        (lambda name: None, f"apt install g++, then {AGAIN}"),
        (lambda name: f"/usr/bin/{name}", "pip install -v --force-reinstall --no-deps . shows why"),
    ],
    ids=["no compiler", "compiler"],
)
def test_without_the_native_core(
    which: Callable[[str], str | None], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "available", lambda: False)
    monkeypatch.setattr(shutil, "which", which)
    why = "there was no C++ compiler, or it failed; torch selects instead"
    assert lines() == {"native core": f"not built ({why}): {remedy}"}


def test_importing_the_doctor_loads_no_library() -> None:
    program = "import sys, d2export.doctor; print('numpy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr
