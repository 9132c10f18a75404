"""The native code, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugins.custom_op import CACHE, ROOT, configure, header_sets, run
from tests.plugins.drivers import Drivers, build


@pytest.fixture(scope="session")
def drivers() -> Drivers:
    """The CPU core and the phases of the CUDA kernel, in this process."""
    return Drivers(build())


@pytest.fixture(
    scope="module",
    params=header_sets() or [None],
    ids=lambda folder: folder.parent.name if folder else "none",
)
def library(request: pytest.FixtureRequest) -> Path:
    """The library, compiled against a set of ONNX Runtime's headers."""
    include: Path | None = request.param
    if include is None:
        pytest.skip(
            f"no onnxruntime_c_api.h in {CACHE}/<version>/include: copy the folder include of a "
            "release archive of ONNX Runtime for C there, of 1.20 or newer"
        )
    build = ROOT / "build" / f"onnxruntime-{include.parent.name}-tests"
    done = configure(build, f"-DORT_INCLUDE_DIR={include}")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run("cmake", "--build", build, "--parallel", "2", "--target", "d2export_onnxruntime")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout + done.stderr
    return build / "onnxruntime" / "libd2export_onnxruntime.so"
