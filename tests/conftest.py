"""Bundles that many tests read. Nobody writes to them: a test that does takes a `copytree`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import PIP, Caller, build_wheel
from tests.small_checkpoints import write_small_checkpoint, write_tokenizer

# Processes that test side by side share the cores; torch reads this when it is first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ignored where tests run in the background; processes started from here would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def remembered_traces(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Once torch is there, all processes of a run trace each module but once."""
    if "d2export.export.tracing" in sys.modules:
        from tests import traces

        base = tmp_path_factory.getbasetemp()
        shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
        traces.remember(shared / "traces")


@pytest.fixture
def d2(capsys: pytest.CaptureFixture[str]) -> Caller:
    """`d2("inspect", bundle)` is `d2export inspect BUNDLE`."""
    return Caller(capsys)


@pytest.fixture(scope="session")
def package_index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where pip can download nothing: a build downloads its tools."""
    folder = tmp_path_factory.mktemp("probe")
    command = [*PIP, "download", "-q", "--no-deps", "-d", folder, "typer"]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        pytest.skip(f"pip reaches no package index: {answer.stderr.strip().splitlines()[-1]}")


@pytest.fixture(scope="session")
def wheel(package_index: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built as this machine can."""
    return build_wheel(tmp_path_factory.mktemp("wheel"), dict(os.environ))


@pytest.fixture(scope="session")
def pocket_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The preset `pocket` with random weights, keep 64, as `build` leaves it."""
    import d2export

    out = tmp_path_factory.mktemp("pocket") / "bundle"
    d2export.build(d2export.ExportOptions("pocket", random_weights=True), out)
    return out


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """InternVL in miniature, 4 tokens per tile, with a tokenizer."""
    folder = write_small_checkpoint(tmp_path_factory.mktemp("checkpoint") / "small", "internvl")
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def small_bundle(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the small checkpoint, keep 3, importance `cls`, weights linked."""
    import d2export
    from d2export.pipeline import export

    out = tmp_path_factory.mktemp("small") / "bundle"
    export(d2export.ExportOptions(str(small_checkpoint), keep="3"), out)
    return out


@pytest.fixture(scope="session")
def text_bundle(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the small checkpoint, keep 3, importance `text`."""
    import d2export
    from d2export.pipeline import export

    out = tmp_path_factory.mktemp("text") / "bundle"
    options = d2export.ExportOptions(str(small_checkpoint), keep="3", importance="text")
    export(options, out)
    return out
