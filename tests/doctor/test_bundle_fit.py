"""`doctor BUNDLE`: what hinders this bundle, and what only engines of it would need."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from d2export.engine import cuda_driver
from d2export.errors import EnvironmentMismatch
from tests.command import Answer, Caller
from tests.engine.test_plugin_build import NOTE
from tests.test_engine_building import AGX, H100, device, installed


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without TensorRT, GPU, driver and plugin, and with a cache of its own."""

    def no_driver() -> tuple[()]:
        raise EnvironmentMismatch("this machine has no CUDA driver", "Install it.")

    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(cuda_driver, "devices", no_driver)
    monkeypatch.setattr("d2export.engine.plugin.find_library", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def bundle(small_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_bundle, tmp_path / "bundle")


def said(answer: Answer, what: str) -> list[str]:
    """Problems of a kind."""
    lines = answer.out.splitlines()
    return [line.removeprefix(f"{what}: ") for line in lines if line.startswith(f"{what}: ")]


def test_onnx_runtime_is_enough(d2: Caller, bundle: Path) -> None:
    answer = d2("doctor", bundle)
    assert answer.code == 0
    assert answer.last_line == f"{bundle} fits"
    assert said(answer, "note") == []


def test_without_onnx_runtime(d2: Caller, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d2export.doctor.packages._version", lambda name: None)
    answer = d2("doctor", bundle)
    assert answer.code == 3
    assert said(answer, f"{bundle} does not fit") == ["it needs onnxruntime"]
    assert answer.last_line == "  Run: pip install 'd2export[ort]'."


def test_engines_that_are_planned_for_another_machine(d2: Caller, bundle: Path) -> None:
    d2("build", bundle, "--target", AGX)
    answer = d2("doctor", bundle)
    assert answer.code == 3
    assert [problem.split(": ")[1] for problem in said(answer, f"{bundle} does not fit")] == [
        "TensorRT is not installed",
        "this machine has no CUDA driver",
    ]


def test_engines_that_are_planned_for_this_machine(
    d2: Caller, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    d2("build", bundle, "--target", AGX)
    device(monkeypatch)
    answer = d2("doctor", bundle)
    (problem,) = said(answer, f"{bundle} does not fit")
    assert problem.endswith("the plugin libd2export_plugin.so is not there")
    installed(monkeypatch, tmp_path / "lib")
    answer = d2("doctor", bundle)
    assert answer.code == 0, answer.out
    assert answer.last_line == f"{bundle} fits"


def test_a_gpu_that_is_not_the_targets(
    d2: Caller, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    d2("build", bundle, "--target", AGX)
    device(monkeypatch, gpu=H100)
    installed(monkeypatch, tmp_path / "lib")
    answer = d2("doctor", bundle)
    assert answer.code == 3
    (problem,) = said(answer, f"{bundle} does not fit")
    assert f"the engines are for {AGX}, this machine has a GPU NVIDIA H100" in problem
    assert answer.last_line == (f"  For this machine, run: d2export build {bundle} --target auto")


def test_engines_that_were_built(
    d2: Caller, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run where they were built; what they do not fit is said before anything reads them."""
    device(monkeypatch)
    installed(monkeypatch, tmp_path / "lib")
    assert d2("build", bundle, "--target", AGX).code == 0
    assert d2("doctor", bundle).code == 0
    engine = bundle / "engines" / "vision.plan"
    whole = engine.read_bytes()
    engine.write_bytes(whole[:-1] + b"?")
    answer = d2("doctor", bundle)
    assert answer.code == 3
    assert said(answer, f"{bundle} does not fit") == [
        f"{engine} was changed after it was built: its SHA-256 is another"
    ]
    engine.write_bytes(whole)
    device(monkeypatch, "10.16", H100)
    answer = d2("doctor", bundle)
    assert answer.code == 3
    assert [problem.split(", this")[0] for problem in said(answer, f"{bundle} does not fit")] == [
        "the engines were built by TensorRT 10.3",
        "the engines were built for a GPU Orin of compute capability 8.7 and 65.9 GB",
    ]


def test_what_engines_would_need(
    d2: Caller, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asked for engines of this bundle: worth a note, no obstacle."""
    device(monkeypatch, "8.6.1")
    installed(monkeypatch, tmp_path / "lib")
    answer = d2("doctor", bundle)
    assert answer.code == 0
    (note,) = said(answer, "note")
    assert note.startswith("engines of it could not be built here: the plugin ")
    assert note.endswith("does not export getPluginCreators, which TensorRT 8 calls")


def test_a_tensorrt_that_is_too_old_for_the_opset(
    d2: Caller, small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = tmp_path / "newer"
    d2("export", "-m", small_checkpoint, "--keep", 3, "--opset", 20, "-o", newer)
    device(monkeypatch, "8.6.1")
    installed(monkeypatch, tmp_path / "lib", b"getPluginCreators")
    answer = d2("doctor", newer)
    assert answer.code == 0
    (note,) = said(answer, "note")
    assert note.endswith("has opset 20, TensorRT 8.6.1 reads up to 17")
    assert "  Export again with --opset 17." in answer.out.splitlines()


def test_what_does_not_fit_each_other_without_a_bundle(
    d2: Caller, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not keep ONNX Runtime from running a bundle."""
    device(monkeypatch)
    library = installed(monkeypatch, tmp_path / "lib")
    assert d2("doctor").code == 0
    library.write_bytes(library.read_bytes() + NOTE.replace(b"10.3.0", b"8.6.1") + b"870\0")
    answer = d2("doctor", "--json")
    assert answer.code == 3
    findings = json.loads(answer.out)
    assert findings["fits"] is False
    (misfit,) = findings["together"]["misfits"]
    assert misfit["problem"].endswith("was compiled for TensorRT 8.6.1, this is 10.3")
    assert d2("doctor", bundle).code == 0
    assert d2("doctor", "--plugin", tmp_path / "absent.so").code == 3
