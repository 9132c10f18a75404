"""Which implementation of the op a session gets. The library: tests/plugins/test_onnxruntime.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from onnx import TensorProto

import d2export
from d2export.engine.custom_op import LIBRARY, library, selection_implementation
from d2export.engine.onnxruntime import open_session
from d2export.errors import EnvironmentMismatch
from d2export.export.onnx_function import prune_model
from d2export.pruning import native
from d2export.pruning.parameters import PruneParameters


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an installation without native parts."""
    monkeypatch.setattr(d2export, "__path__", [str(tmp_path)])
    monkeypatch.setattr(native, "available", lambda: False)
    return tmp_path


def put_library(package: Path) -> Path:
    file = package / LIBRARY
    file.parent.mkdir()
    file.write_bytes(b"not a library")
    return file


def built_with(cuda: str, monkeypatch: pytest.MonkeyPatch) -> None:
    info = {"parts": {"cuda": {"built": cuda, "left_out": "", "add": ""}}}
    monkeypatch.setattr(native, "available", lambda: True)
    monkeypatch.setattr(
        d2export, "_native", SimpleNamespace(build_info=lambda: info), raising=False
    )


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_without_the_library_it_is_the_function(package: Path, provider: str) -> None:
    assert library(provider) is None
    assert selection_implementation(provider) == "ONNX function"


def test_with_the_library_it_is_native_on_the_cpu(package: Path) -> None:
    file = put_library(package)
    assert library("cpu") == file
    assert selection_implementation("cpu") == "native"


@pytest.mark.parametrize(
    ("cuda", "expected"), [("", "ONNX function"), ("CUDA 12.6 for sm 87", "native")]
)
def test_on_a_gpu_it_is_native_where_that_was_built_with_cuda(
    cuda: str, expected: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_library(package)
    assert selection_implementation("cuda") == "ONNX function"  # nobody says that it has CUDA
    built_with(cuda, monkeypatch)
    assert selection_implementation("cuda") == expected


def test_a_library_that_cannot_be_loaded_is_named(package: Path, tmp_path: Path) -> None:
    file = put_library(package)
    graph = tmp_path / "prune.onnx"
    onnx.save(prune_model(PruneParameters(keep=2), 17, TensorProto.FLOAT), graph)
    with pytest.raises(EnvironmentMismatch, match=f"cannot load {file}: .*(invalid|short)") as info:
        open_session(graph)
    assert "onnxruntime 1.20 or newer" in str(info.value.hint)
