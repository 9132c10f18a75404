"""A plugin library that cannot be loaded is refused by looking at it."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

import d2export
from d2export.engine.plugin import LIBRARY, MACHINES, find_library, misfit
from d2export.engine.tensorrt_api import api_of

HERE = {machine: number for number, machine in MACHINES.items()}[platform.machine()]
OTHER = next(number for number in MACHINES if number != HERE)
TENSORRT_8, TENSORRT_10 = api_of((8, 6)), api_of((10, 3))


def library(folder: Path, machine: int = HERE, symbol: bytes = b"getCreators") -> Path:
    """The bytes that are looked at of a library."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LIBRARY
    header = b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little")
    path.write_bytes(header + bytes(40) + b"\0" + symbol + b"\0")
    return path


def test_one_that_fits(tmp_path: Path) -> None:
    assert misfit(library(tmp_path), TENSORRT_10) is None
    assert misfit(library(tmp_path, symbol=b"getPluginCreators"), TENSORRT_8) is None


def test_none() -> None:
    found = misfit(None, TENSORRT_10)
    assert found is not None
    assert found.problem == "the plugin libd2export_plugin.so is not there"
    assert "--plugin FILE" in found.remedy


def test_one_of_another_machine(tmp_path: Path) -> None:
    path = library(tmp_path, machine=OTHER)
    found = misfit(path, TENSORRT_10)
    assert found is not None
    here = f"this machine is {platform.machine()}"
    assert found.problem == f"the plugin {path} is for {MACHINES[OTHER]}, {here}"
    unknown = misfit(library(tmp_path, machine=8), TENSORRT_10)
    assert unknown is not None
    assert "is for machine 8" in unknown.problem


def test_one_of_another_tensorrt(tmp_path: Path) -> None:
    found = misfit(library(tmp_path, symbol=b"getPluginCreators"), TENSORRT_10)
    assert found is not None
    assert "does not export getCreators, which TensorRT 10 calls" in found.problem


@pytest.mark.parametrize("content", [b"", b"\x7fEL", b"not a library"])
def test_no_library(content: bytes, tmp_path: Path) -> None:
    (tmp_path / LIBRARY).write_bytes(content)
    found = misfit(tmp_path / LIBRARY, TENSORRT_10)
    assert found is not None
    assert found.problem.endswith("is no library")


def test_one_that_cannot_be_read(tmp_path: Path) -> None:
    found = misfit(tmp_path, TENSORRT_10)
    assert found is not None
    assert found.problem.endswith("cannot be read: Is a directory")


def test_it_is_the_installations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(d2export, "__path__", [str(tmp_path / "package")])
    assert find_library() is None
    installed = library(tmp_path / "package" / "lib")
    assert find_library() == installed
