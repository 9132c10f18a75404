"""A real Triton server, on this machine's CPU: the one in the wheel of `nvidia-pytriton`.

It has Triton's core, its HTTP and gRPC front ends, ensembles, the dynamic batcher and the Python
backend; no ONNX Runtime or TensorRT backend. The wheel is unpacked under `build/`, never installed:
its interpreter is not this one, and wants NumPy 1.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.command import PIP, ROOT

WHEEL, NUMPY = "nvidia-pytriton==0.7.0", "numpy==1.26.4"
HOME = ROOT / "build" / WHEEL.replace("==", "-")
SERVER = Path("pytriton", "tritonserver")
STARTS_WITHIN = 120  # seconds, on a machine that is busy


def require_server() -> None:
    """Unpack the server, or skip and say what is missing."""
    library = Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME"))
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip(f"{WHEEL} is for Linux on x86-64")
    if not library.name.startswith("libpython") or ".so" not in library.name:
        pytest.skip(f"Triton's Python backend needs libpython{version}.so, this one is static")
    if not library.is_file():
        pytest.skip(f"Triton's Python backend needs {library}: apt install libpython{version}")
    if sys.version_info[:2] > (3, 12):
        pytest.skip(f"{NUMPY}, which {WHEEL} needs, is not for Python {version}")
    if not HOME.is_dir():
        _unpack(version)


def _unpack(version: str) -> None:
    part = HOME.with_name(f"{HOME.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    download = [*PIP, "download", "-q", "--no-deps", "-d", part, WHEEL]
    install = [*PIP, "install", "-q", "--no-deps", "--target", part / "numpy1", NUMPY]
    for command in (download, install):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(part)
            pytest.skip(f"{WHEEL} and {NUMPY} from PyPI: {done.stderr.strip()[-200:]}")
    for wheel in part.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(part)
        wheel.unlink()
    stub = part / SERVER / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, part / SERVER / "backends" / "python" / stub.name)
    for program in (part / SERVER / "bin" / "tritonserver", *part.rglob(stub.name)):
        program.chmod(0o755)
    try:
        part.rename(HOME)
    except OSError:  # another process was first
        shutil.rmtree(part)


@contextmanager
def serving(models: Iterable[Path], folder: Path) -> Iterator[str]:
    """Triton over model repositories; its URL.

    Args:
        folder: empty, for what it writes and imports. Its Python looks for packages in the current
            folder and nowhere else of ours.
    """
    for package in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if package.suffix != ".pth" and not package.name.startswith(("numpy", "d2export")):
            (folder / package.name).symlink_to(package)
    for package in (*(HOME / "numpy1").iterdir(), ROOT / "d2export"):
        if package.name != "bin":
            (folder / package.name).symlink_to(package)
    http, grpc = _free_port(), _free_port()
    command = [
        HOME / SERVER / "bin" / "tritonserver",
        *(f"--model-repository={folder}" for folder in models),
        f"--backend-directory={HOME / SERVER / 'backends'}",
        "--http-address=127.0.0.1",
        f"--http-port={http}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc}",
        "--allow-metrics=false",
    ]
    libraries = f"{HOME / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries, "OMP_NUM_THREADS": "1"}
    with (folder / "server.log").open("w+") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{http}"
            _wait(url, server, folder / "server.log")
            yield url
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def ask(url: str, model: str, **inputs: Any) -> list[dict[str, Any]]:
    """The responses of a model to one request, as they come; an error has the key `error`."""
    request = urllib.request.Request(
        f"{url}/v2/models/{model}/generate_stream", json.dumps(inputs).encode()
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            text = response.read().decode()
    except urllib.error.HTTPError as error:
        text = error.read().decode()
    lines = [line for line in text.splitlines() if line]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def statistics(url: str, model: str) -> dict[str, Any]:
    """What Triton counted of a model."""
    with urllib.request.urlopen(f"{url}/v2/models/{model}/stats", timeout=20) as response:
        found: dict[str, Any] = json.load(response)["model_stats"][0]
    return found


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"Triton did not start: {log.read_text()[-3000:]}")
