"""The core package in an environment of its own: ONNX Runtime is there, PyTorch is not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests.command import ROOT, Answer, message_of, names

ABSENT = ("torch", "onnx", "onnx_ir", "onnxscript", "transformers", "huggingface_hub", "tokenizers")
DATA = (
    "d2export/export/d2prune.onnx.txt",
    "d2export/bundle/manifest.schema.json",
    "d2export/models/pocket/model.safetensors",
    "d2export/report/report.css",
    "d2export/report/report.js",
    "d2export/targets/generic.toml",
    "d2export/py.typed",
)


@pytest.fixture(scope="session")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with `d2export[ort]` and nothing else."""
    folder = tmp_path_factory.mktemp("core") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install = ["install", "-q", "--disable-pip-version-check", f"{wheel}[ort]"]
    subprocess.run([folder / "bin" / "python", "-m", "pip", *install], check=True)
    return folder / "bin"


@pytest.fixture
def bundle(pocket_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that came from elsewhere."""
    return shutil.copytree(pocket_bundle, tmp_path / "bundle")


def run(core: Path, *arguments: object) -> Answer:
    result = subprocess.run(
        [core / "d2export", *map(str, arguments)], capture_output=True, text=True, cwd="/"
    )
    return Answer(result.returncode, result.stdout, result.stderr)


def test_the_wheel_has_its_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
    assert set(DATA) <= set(files)
    assert {name.split("/")[0] for name in files if ".dist-info/" not in name} == {"d2export"}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "d2export").rglob("*.py")}
    assert modules == {name for name in files if name.endswith(".py")}


def test_heavy_packages_are_absent(core: Path) -> None:
    program = (
        "import sys, importlib.util, d2export\n"
        "print(d2export.__file__)\n"
        "print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
    )
    result = subprocess.run(
        [core / "python", "-c", program, *ABSENT, "onnxruntime"],
        capture_output=True,
        text=True,
        cwd="/",
        check=True,
    )
    home, present = result.stdout.splitlines()
    assert Path(home).is_relative_to(core.parent)
    assert present == "onnxruntime"


def test_inspect(core: Path, bundle: Path) -> None:
    answer = run(core, "inspect", bundle)
    assert answer.code == 0, answer.err
    assert "pocket (random weights, seed 0)" in answer.out


def test_check_against_the_stored_answers(core: Path, bundle: Path) -> None:
    answer = run(core, "check", bundle)
    assert answer.code == 0, answer.err
    assert answer.last_line == "PASSED"


def test_bench(core: Path, bundle: Path) -> None:
    answer = run(core, "bench", bundle, "--iterations", "2", "--json")
    assert answer.code == 0, answer.err
    assert [stage["kept"] for stage in json.loads(answer.out)] == [64]


def test_run(core: Path, bundle: Path, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "green").save(tmp_path / "green.png")
    answer = run(core, "run", bundle, "--image", tmp_path / "green.png", "-o", tmp_path / "results")
    assert answer.code == 0, answer.err
    assert names(tmp_path / "results") == ["green.kept.npz", "green.kept.png"]


def test_build_from_a_bundle(core: Path, bundle: Path) -> None:
    (bundle / "report.json").unlink()
    answer = run(core, "build", bundle)
    assert answer.code == 0, answer.err
    assert answer.last_line == "PASSED"
    assert json.loads((bundle / "report.json").read_text())["passed"] is True
    assert "<h1>pocket</h1>" in (bundle / "report.html").read_text()


def test_engines_are_planned(core: Path, bundle: Path) -> None:
    """Without TensorRT, too; what the parser gets is made without onnx."""
    answer = run(core, "build", bundle, "--target", "jetson-orin-agx-64gb", "--json")
    assert answer.code == 3, answer.err
    (planned,) = json.loads(answer.out)["planned"]
    assert planned["plan"]["plugin"]["ops"] == ["D2Prune"]
    assert (bundle / planned["plan"]["onnx"]).is_file()
    assert f"run there: d2export build {bundle.name}" in answer.err


def test_report(core: Path, bundle: Path) -> None:
    (bundle / "report.html").unlink()
    answer = run(core, "report", bundle)
    assert answer.code == 0, answer.err
    assert "<h1>pocket</h1>" in (bundle / "report.html").read_text()


def test_doctor_says_what_is_missing(core: Path, bundle: Path) -> None:
    answer = run(core, "doctor", bundle)
    assert answer.code == 0, answer.err
    lines = dict(line.split(maxsplit=1) for line in answer.out.splitlines() if line)
    assert lines["torch"] == (
        "missing, needed for export, build --model: pip install 'd2export[export]'"
    )
    assert not lines["onnxruntime"].startswith("missing")


def test_targets(core: Path) -> None:
    answer = run(core, "targets", "jetson-orin-nano-8gb")
    assert answer.code == 0, answer.err
    assert "6.4 GB usable" in answer.out
    profiles = {path.stem for path in (ROOT / "engines" / "targets").glob("*.toml")}
    listed = json.loads(run(core, "targets", "--json").out)
    assert {one["name"] for one in listed} == profiles


@pytest.mark.parametrize("command", ["export", "build"])
def test_exporting_says_what_to_install(core: Path, tmp_path: Path, command: str) -> None:
    answer = run(core, command, "-m", "pocket", "-o", tmp_path / "new" / "out")
    message = message_of(answer, code=3)
    assert message.startswith("exporting needs the package onnx_ir, which is not installed\n")
    assert "\n  Run: pip install 'd2export[export]'." in message
    assert names(tmp_path) == []


@pytest.mark.parametrize("option", ["--pytorch", "--per-layer"])
def test_asking_pytorch_says_what_to_install(core: Path, bundle: Path, option: str) -> None:
    message = message_of(run(core, "check", bundle, option), code=3)
    assert message == (
        "asking PyTorch needs the package torch, which is not installed\n"
        "  Run: pip install 'd2export[export]', or check against the stored answers."
    )


def test_a_hub_model_says_what_to_install(core: Path) -> None:
    """The core reads checkpoints too; only the download needs more."""
    program = (
        "from d2export.models.checkpoint import find_checkpoint\n"
        "from d2export.errors import EnvironmentMismatch\n"
        "try:\n"
        "    find_checkpoint('internvl2.5-1b')\n"
        "except EnvironmentMismatch as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run(
        [core / "python", "-c", program], capture_output=True, text=True, cwd="/", check=True
    )
    assert "needs the package huggingface_hub, which is not installed\n  Run: pip " in result.stdout


@pytest.mark.parametrize(
    "module",
    ["cli", "session", "pipeline", "engine_building", "options", "doctor", "inspection"],
)
def test_core_modules_import_neither_torch_nor_onnx(core: Path, module: str) -> None:
    """Also where these are installed: nothing may ask for them while it is imported."""
    subprocess.run([core / "python", "-c", f"import d2export.{module}"], cwd="/", check=True)
