"""`build` about engines: a plan and the command for the device, and there the engines."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from d2export.bundle.engine_records import PLAN, read_built, read_planned
from d2export.bundle.folder import read_bundle
from d2export.engine import cuda_driver
from d2export.engine.cuda_driver import Device
from d2export.engine.plugin import LIBRARY, MACHINES
from d2export.errors import EnvironmentMismatch
from d2export.pipeline import ExportOptions, export
from tests.command import Answer, Caller, message_of
from tests.engine.stand_in_tensorrt import module
from tests.small_checkpoints import write_small_checkpoint

AGX = "jetson-orin-agx-64gb"
ORIN = Device("Orin", (8, 7), 62841 * 2**20, True)
H100 = Device("NVIDIA H100 80GB HBM3", (9, 0), 81000 * 2**20, False)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without TensorRT, GPU and plugin, and with a cache of its own."""

    def no_driver() -> tuple[Device, ...]:
        raise EnvironmentMismatch("this machine has no CUDA driver", "Install it.")

    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(cuda_driver, "devices", no_driver)
    monkeypatch.setattr("d2export.engine.plugin.find_library", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def bundle(small_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_bundle, tmp_path / "bundle")


@pytest.fixture(scope="module")
def vlm_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vlm")
    checkpoint = write_small_checkpoint(folder / "checkpoint", "internvl", backbone="qwen2")
    options = ExportOptions(str(checkpoint), scope="vlm", keep="3", precision="fp16")
    export(options, folder / "bundle")
    return folder / "bundle"


def device(monkeypatch: pytest.MonkeyPatch, version: str = "10.3", gpu: Device = ORIN) -> Any:
    """This machine becomes one with TensorRT and a GPU; what TensorRT is told."""
    trt = module(version)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr(cuda_driver, "devices", lambda: (gpu,))
    return trt.told


def installed(
    monkeypatch: pytest.MonkeyPatch, folder: Path, symbol: bytes = b"getCreators"
) -> Path:
    """This installation has the plugin."""
    library = plugin(folder, symbol)
    monkeypatch.setattr("d2export.engine.plugin.find_library", lambda: library)
    return library


def plugin(folder: Path, symbol: bytes = b"getCreators") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    number = {name: number for number, name in MACHINES.items()}[platform.machine()]
    header = b"\x7fELF" + bytes(14) + number.to_bytes(2, "little")
    (folder / LIBRARY).write_bytes(header + b"\0" + symbol + b"\0")
    return folder / LIBRARY


def why_not(answer: Answer) -> str:
    """Why there is a plan, on standard output, and no engine."""
    assert answer.code == 3, answer
    assert "\nThe plan: " in answer.out
    assert "Traceback" not in answer.err
    return answer.err[answer.err.index("error: ") + len("error: ") :].rstrip("\n")


def planned_for(d2: Caller, bundle: Path) -> None:
    assert d2("build", bundle, "--target", AGX).code == 3


# Without TensorRT


def test_from_a_checkpoint(d2: Caller, small_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = d2("build", "-m", small_checkpoint, "--keep", 3, "--target", AGX, "-o", out)
    message = why_not(answer)
    assert message.startswith(f"no engine was built for {AGX}\n    TensorRT ")
    assert "\n    this machine has no CUDA driver\n      Install it.\n" in message
    assert message.endswith(f"Copy it to the device and run there: d2export build {out.name}")
    assert "PASSED" in answer.out.splitlines()
    assert f"Engines for {AGX}, TensorRT 10.3:" in answer.out
    assert "trtexec --onnx=onnx/vision.tensorrt.onnx " in answer.out
    opened = read_bundle(out)
    planned = read_planned(opened)
    assert planned is not None
    assert [one.plan.graph for one in planned.engines] == ["vision"]
    assert planned.target.name == AGX
    assert (out / "onnx" / "vision.tensorrt.onnx").is_file()
    assert read_built(opened) is None


def test_from_a_bundle_made_elsewhere(d2: Caller, bundle: Path) -> None:
    options = ("--workspace", "1G", "--opt-level", 0, "--timing-cache", "timings")
    answer = d2("build", bundle, "--target", "h100", "--hw-compat", *options, "--json")
    assert answer.code == 3
    found = json.loads(answer.out)
    (planned,) = found["planned"]
    assert found["target"] == "h100"
    assert found["built"] is None
    assert planned["plan"]["memory_pools"] == {"WORKSPACE": 2**30}
    assert planned["plan"]["optimization_level"] == 0
    assert planned["plan"]["timing_cache"] == "timings"
    assert planned["plan"]["hardware_compatibility"] == "AMPERE_PLUS"
    assert d2("inspect", bundle).code == 0
    assert d2("check", bundle).last_line == "PASSED"


def test_a_plan_is_kept_and_changed_where_told_to(d2: Caller, bundle: Path) -> None:
    d2("build", bundle, "--target", "h100", "--workspace", "1G", "--version-compatible")
    answer = d2("build", bundle, "--opt-level", 4)
    assert why_not(answer).startswith("no engine was built for h100\n")
    planned = read_planned(read_bundle(bundle))
    assert planned is not None
    assert planned.options.workspace == 2**30
    assert planned.options.version_compatible
    assert planned.options.optimization_level == 4


def test_a_bundle_names_no_file_to_write_and_no_library_to_load(
    d2: Caller, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come from anywhere."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    d2("build", bundle, "--target", AGX, "--timing-cache", precious)
    plugin(bundle / "plugins")
    told = device(monkeypatch)
    assert f"the plugin {LIBRARY} is not there" in why_not(d2("build", bundle))
    assert told.plugins == set()
    installed(monkeypatch, tmp_path / "installed")
    assert d2("build", bundle).code == 0
    assert told.timing_cache is None
    assert precious.read_text() == "mine"


def test_a_language_model_has_two_profiles_in_one_engine(
    d2: Caller, vlm_bundle: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(vlm_bundle, tmp_path / "bundle")
    answer = d2("build", bundle, "--target", AGX, "--quiet")
    assert "warning" not in answer.err
    planned = read_planned(read_bundle(bundle))
    assert planned is not None
    vision, decoder = (one.plan for one in planned.engines)
    assert (vision.plugin, vision.precision) == (None, "fp16")
    assert decoder.plugin is not None
    assert decoder.plugin.ops == ("D2PrunePositions",)
    assert [profile.name for profile in decoder.profiles] == ["prefill", "decode"]
    assert decoder.profiles[0].shapes["past_key_values.0.key"].max == (1, 2, 0, 12)
    inputs = {value.name for value in read_bundle(bundle).manifest.graphs.decoder.inputs}  # type: ignore[union-attr]
    assert set(decoder.profiles[1].shapes) == inputs


def test_a_graph_without_plugins_needs_none(
    d2: Caller, small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ExportOptions(str(small_checkpoint), selector="dart", keep="3")
    export(options, tmp_path / "bundle")
    told = device(monkeypatch)
    answer = d2("build", tmp_path / "bundle", "--target", "auto")
    assert answer.code == 0, answer.err
    assert "DartPrune of the vision graph has no plugin" in answer.err
    installed(monkeypatch, tmp_path / "installed")
    assert d2("build", tmp_path / "bundle", "--opt-level", 2).code == 0
    built = read_built(read_bundle(tmp_path / "bundle"))
    assert built is not None
    assert built.plugin is None
    assert told.plugins == set()


def test_a_plan_for_another_tensorrt(
    d2: Caller, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For d2export-engine, which needs the libraries alone."""
    answer = d2("build", bundle, "--target", AGX, "--tensorrt", "8.6", "--json")
    assert answer.code == 3
    (planned,) = json.loads(answer.out)["planned"]
    assert planned["plan"]["tensorrt"] == "8.6"
    assert planned["plan"]["network_flags"] == ["EXPLICIT_BATCH"]
    message = message_of(d2("build", bundle, "--target", AGX, "--tensorrt", "12.0"), code=3)
    assert message.startswith(f"TensorRT 12.0 is not one that {AGX} can have: 8.6 to 11\n")
    device(monkeypatch)
    installed(monkeypatch, bundle.with_name("installed"))
    answer = d2("build", bundle, "--target", AGX, "--tensorrt", "11.1")
    message = why_not(answer)
    assert "\n    --tensorrt is 11.1, Python has TensorRT 10.3\n" in message
    assert f"Engines for {AGX}, TensorRT 11.1:" in answer.out
    assert read_built(read_bundle(bundle)) is None
    answer = d2("build", bundle, "--target", AGX, "--tensorrt", "10.3")
    assert answer.code == 0, answer.err


def test_what_cannot_be_is_said_before_exporting(d2: Caller, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = d2("build", "-m", "pocket", "--target", AGX, "--opset", 22, "-o", out)
    assert message_of(answer, code=3) == (
        "the export has opset 22, TensorRT 10.3 reads up to 20\n  Export again with --opset 20."
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workspace", "1G"], "--workspace has no effect with no --target\n"),
        (["--hw-compat"], "--hw-compat has no effect with no --target\n"),
        (["--target", "orin"], "unknown target 'orin': "),
        (["--target", "h100", "--opt-level", "6"], "--opt-level is 6, expected 0 to 5\n"),
        (["--target", "h100", "--workspace", "much"], "--workspace is 'much', expected a size"),
        (["--tensorrt", "10.16"], "--tensorrt has no effect with no --target\n"),
        (["--target", "h100", "--tensorrt", "10"], "--tensorrt is '10', expected two or three"),
        (["--target", "h100", "--tensorrt", "v10.3"], "--tensorrt is 'v10.3', expected two or"),
        (["--target", "h100", "--threads", "2"], "--threads has no effect with a build of engines"),
        (["--target", "h100", "--keep", "2"], "--keep has no effect with the bundle "),
    ],
)
def test_what_was_typed_wrongly(
    d2: Caller, bundle: Path, arguments: list[str], message: str
) -> None:
    assert message_of(d2("build", bundle, *arguments), code=2).startswith(message)


def test_a_damaged_plan_is_refused(d2: Caller, bundle: Path) -> None:
    planned_for(d2, bundle)
    text = (bundle / PLAN).read_text()
    (bundle / PLAN).write_text(text.replace('"workspace": 8589934592', '"workspace": "much"'))
    assert 'plan.json: target.workspace is "much", expected' in message_of(
        d2("build", bundle), code=2
    )


# On the device


@pytest.mark.parametrize("version", ["8.6.1", "10.3", "10.16", "11.1"])
def test_the_command_on_the_device(
    d2: Caller, bundle: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_for(d2, bundle)
    told = device(monkeypatch, version)
    entries = b"getPluginCreators\0getCreators"  # no library is for both; this file is no library
    library = installed(monkeypatch, bundle.with_name("installed"), entries)
    answer = d2("build", bundle)
    assert answer.code == 0, answer.err
    assert (bundle / "engines" / "vision.plan").read_bytes() == b"engine of " + version.encode()
    assert told.parsed == bundle / "onnx" / "vision.tensorrt.onnx"
    assert f"Engines for {AGX}, TensorRT {version}:" in answer.out
    assert f"--dynamicPlugins={library}" in answer.out
    built = read_built(read_bundle(bundle))
    assert built is not None
    assert (built.tensorrt, built.gpu.name, built.target) == (version, "Orin", AGX)
    assert built.plugin == f"plugins/{LIBRARY}"
    assert (bundle / built.plugin).read_bytes() == library.read_bytes()
    assert "building engines/vision.plan, fp32" in (bundle / "engines" / "build.log").read_text()


def test_an_unchanged_build_builds_nothing(
    d2: Caller, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_for(d2, bundle)
    installed(monkeypatch, bundle.with_name("installed"))
    device(monkeypatch)
    assert d2("build", bundle).code == 0
    again = device(monkeypatch)
    answer = d2("build", bundle)
    assert answer.code == 0
    assert "engines/vision.plan: nothing changed since it was built" in answer.err
    assert again.parsed is None
    # A copy of the bundle without its engines gets them from the cache.
    other = shutil.copytree(bundle, bundle.with_name("other"))
    shutil.rmtree(other / "engines")
    assert d2("build", other, "--target", AGX).code == 0
    assert again.parsed is None
    assert (other / "engines" / "vision.plan").read_bytes() == b"engine of 10.3"


@pytest.mark.parametrize("change", ["options", "tensorrt", "plugin", "gpu", "engine"])
def test_what_changed_is_built_again(
    d2: Caller, bundle: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_for(d2, bundle)
    library = installed(monkeypatch, bundle.with_name("installed"))
    device(monkeypatch)
    assert d2("build", bundle).code == 0
    options: list[str] = []
    again = device(monkeypatch)
    if change == "options":
        options = ["--opt-level", "4"]
    elif change == "tensorrt":
        again = device(monkeypatch, "10.16")
    elif change == "plugin":
        library.write_bytes(library.read_bytes() + b"\0")
    elif change == "gpu":
        again = device(monkeypatch, gpu=Device("Orin", (8, 7), 62000 * 2**20, True))
    else:  # the file in the bundle and in the cache is one
        (bundle / "engines" / "vision.plan").write_bytes(b"damaged")
    assert d2("build", bundle, *options).code == 0
    assert again.parsed is not None


def test_weights_that_changed_are_not_built(
    d2: Caller, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_for(d2, bundle)
    installed(monkeypatch, bundle.with_name("installed"))
    told = device(monkeypatch)
    (weights,) = (bundle / "onnx").glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.unlink()  # it may be one with the checkpoint's
    weights.write_bytes(content)
    assert "was changed after the build" in message_of(d2("build", bundle), code=2)
    assert told.parsed is None


def test_each_misfit_is_named_with_its_remedy(
    d2: Caller, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert d2("build", bundle, "--target", "jetson-thor").code == 3
    library = installed(monkeypatch, bundle.with_name("installed"), b"getPluginCreators")
    device(monkeypatch, "10.3", H100)
    message = why_not(d2("build", bundle))
    assert message == (
        "no engine was built for jetson-thor\n"
        "    the engines are for jetson-thor, this machine has a GPU NVIDIA H100 80GB HBM3 of "
        "compute capability 9.0 and 84.9 GB\n"
        f"      For this machine, run: d2export build {bundle} --target auto\n"
        "    TensorRT 10.3 is not one that jetson-thor can have: 10.13 to 11\n"
        "      Install one of these, or pass --target auto on the device itself.\n"
        f"    the plugin {library} does not export getCreators, which "
        "TensorRT 10 calls\n"
        "      It was built for another TensorRT. Where TensorRT and the CUDA toolkit are, run: "
        "cd plugins && cmake --preset jetson-orin && cmake --build --preset jetson-orin "
        "(elsewhere: datacenter), then pass --plugin FILE.\n"
        f"  The ONNX graphs and the plan are in {bundle}. Copy it to the device and run there: "
        f"d2export build {bundle.name}"
    )


def test_another_module_of_the_same_name_is_seen_by_its_memory(
    d2: Caller, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_for(d2, bundle)
    installed(monkeypatch, bundle.with_name("installed"))
    device(monkeypatch, gpu=Device("Orin", (8, 7), 7620 * 2**20, True))
    assert f"the engines are for {AGX}, this machine has a GPU Orin" in why_not(d2("build", bundle))
    assert d2("build", bundle, "--target", "auto").code == 0


def test_an_opset_that_its_parser_does_not_read(
    d2: Caller, small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "bundle"
    export(ExportOptions(str(small_checkpoint), keep="3", opset=20), out)
    planned_for(d2, out)
    installed(monkeypatch, tmp_path / "installed", b"getPluginCreators\0getCreators")
    device(monkeypatch, "8.6.1")
    message = why_not(d2("build", out))
    assert "vision.tensorrt.onnx has opset 20, TensorRT 8.6.1 reads up to 17\n" in message
    assert "Export again with --opset 17." in message
    device(monkeypatch, "10.3")
    assert d2("build", out).code == 0


def test_a_plugin_that_is_named(
    d2: Caller, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device(monkeypatch)
    missing = d2("build", bundle, "--target", "auto", "--plugin", tmp_path / "none.so")
    assert f"the plugin {tmp_path / 'none.so'} cannot be read" in why_not(missing)
    answer = d2("build", bundle, "--target", "auto", "--plugin", plugin(tmp_path / "elsewhere"))
    assert answer.code == 0, answer.err
    assert (bundle / "plugins" / LIBRARY).is_file()
