"""Calls of the CUDA runtime, on a stand-in whose declarations are CUDA's own."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from d2export.engine import cuda_runtime
from d2export.engine.cuda_runtime import Event, Recorded
from d2export.errors import EnvironmentMismatch
from tests.engine.stand_in_engines import SOURCE, build_cudart

HEADERS = [Path("/usr/local/cuda/include"), Path("/usr/include")]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_cudart(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def gpu(library: Path, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    import polygraphy.cuda.cuda  # noqa: F401 - it is patched

    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    monkeypatch.setattr("polygraphy.cuda.cuda.G_CUDA", None)
    found = ctypes.CDLL(str(library))
    found.stand_in_begin(0)
    return found


def test_declarations_are_those_of_cuda() -> None:
    """A function of the stand-in with other arguments than CUDA's would not compile."""
    folder = next((one for one in HEADERS if (one / "cuda_runtime_api.h").is_file()), None)
    nvcc = shutil.which("nvcc")
    if folder is None and nvcc is not None:
        folder = Path(nvcc).resolve().parents[1] / "include"
    if folder is None or not (folder / "cuda_runtime_api.h").is_file():
        pytest.skip("the CUDA toolkit, for its runtime's headers")
    command = ["c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-DWITH_CUDA_HEADERS"]
    command += ["-isystem", str(folder), "-fsyntax-only", str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_memory_and_card(gpu: ctypes.CDLL) -> None:
    from polygraphy.cuda import DeviceArray

    free, total = cuda_runtime.memory()
    with DeviceArray.raw((1000,)):
        assert cuda_runtime.memory() == (free - 1000, total)
    assert cuda_runtime.memory() == (free, total)
    assert cuda_runtime.card() == "0000:17:00.0"


def test_time_between_events(gpu: ctypes.CDLL) -> None:
    start, end = Event(0), Event(0)
    start.record()
    time.sleep(0.01)
    end.record()
    assert end.since(start) >= 10
    start.close()
    end.close()


def test_work_is_recorded_and_replayed(gpu: ctypes.CDLL) -> None:
    calls = []
    recorded = Recorded(0, lambda: calls.append(gpu.stand_in_records()))
    recorded.replay()
    recorded.replay()
    recorded.close()
    assert calls == [1]
    assert gpu.stand_in_records() == 0
    assert gpu.stand_in_replays() == 2


def test_work_that_cannot_be_recorded_leaves_the_stream_as_it_was(gpu: ctypes.CDLL) -> None:
    def work() -> None:
        raise EnvironmentMismatch("TensorRT cannot run it")

    with pytest.raises(EnvironmentMismatch, match="TensorRT cannot run it"):
        Recorded(0, work)
    assert gpu.stand_in_records() == 0
    gpu.stand_in_begin(1)
    with pytest.raises(EnvironmentMismatch) as raised:
        Recorded(0, work)
    assert raised.value.problem == (
        "the CUDA runtime's cudaStreamBeginCapture failed with 900: operation not permitted when "
        "capturing"
    )
