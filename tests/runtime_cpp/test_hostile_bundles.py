"""Bundles that are damaged, edited or lie: the C++ runtime refuses each with the reason."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from d2export.bundle.folder import file_entry
from tests.runtime_cpp.drivers import build
from tests.runtime_cpp.runtime import Model, Refusal, need_backend, onnxruntime_library
from tests.sample_bundle import edit, write_sample

WHY = 4096  # bytes of a reason


def cut(bundle: Path) -> None:
    content = (bundle / "manifest.json").read_bytes()
    (bundle / "manifest.json").write_bytes(content[: len(content) // 2])


def flip_a_byte(bundle: Path) -> None:
    path = bundle / "onnx" / "vision.onnx"
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


def swap(bundle: Path) -> None:
    one, two = bundle / "onnx" / "prune.onnx", bundle / "reference" / "photo.npz"
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)


def link_out(bundle: Path) -> None:
    path = bundle / "onnx" / "vision.onnx"
    outside = bundle.parent / "vision.onnx"
    path.rename(outside)
    path.symlink_to(outside)


def link_in_a_circle(bundle: Path) -> None:
    path = bundle / "onnx" / "vision.onnx"
    path.unlink()
    path.symlink_to(path)


def queue(bundle: Path) -> None:
    path = bundle / "onnx" / "vision.onnx"
    path.unlink()
    os.mkfifo(path)


def huge_manifest(bundle: Path) -> None:
    with (bundle / "manifest.json").open("ab") as file:
        file.truncate(17 * 2**20)


def claim(*keys: str, value: object) -> Callable[[Path], None]:
    return lambda bundle: edit(bundle, keys, value)


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated manifest": (cut, "manifest.json: the document is not JSON"),
    "empty manifest": (lambda b: (b / "manifest.json").write_bytes(b""), "is not JSON"),  # type: ignore[dict-item,return-value]
    "no manifest": (lambda b: (b / "manifest.json").unlink(), "is not a bundle: it has no"),
    "manifest of 17 MB": (huge_manifest, "manifest.json has more than 16777216 bytes"),
    "edited file": (flip_a_byte, "onnx/vision.onnx was changed after the build: its sha256 is"),
    "swapped files": (swap, "bytes, expected "),
    "missing file": (lambda b: (b / "onnx/prune.onnx").unlink(), "onnx/prune.onnx is missing"),
    "link out": (link_out, "onnx/vision.onnx leads out of the bundle, to "),
    "link in a circle": (link_in_a_circle, "onnx/vision.onnx cannot be followed"),
    "a queue": (queue, "onnx/vision.onnx is missing"),
    "10 GB claimed": (
        claim("files", "onnx/vision.onnx", "bytes", value=10 * 2**30),
        "onnx/vision.onnx has 16 bytes, expected 10737418240 as manifest.json says",
    ),
    "path above": (
        claim("graphs", "vision", "path", value="../vision.onnx"),
        'graphs.vision.path is "../vision.onnx", expected a relative path',
    ),
    "absolute path": (
        claim("graphs", "vision", "path", value="/etc/passwd"),
        'graphs.vision.path is "/etc/passwd", expected a relative path',
    ),
    "newer schema": (claim("schema", value=4), "the bundle has schema 4, written by d2export"),
    "older schema": (claim("schema", value=2), "the bundle has schema 2, written by d2export"),
}  # fmt: skip


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "bundle")


def refused(bundle: Path, **options: str | None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        Model(bundle, **options)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused_before_anything_is_loaded(name: str, bundle: Path) -> None:
    damage, message = DAMAGE[name]
    damage(bundle)
    found = refused(bundle, onnx_runtime="/no/such/library.so")
    assert found.status == 2
    assert message in found.problem
    assert found.hint.endswith((".", "COPY", "--help"))


@pytest.mark.parametrize("name", ["none", "file"])
def test_what_is_no_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a bundle")
    found = refused(tmp_path / name, onnx_runtime="none")
    expected = {"none": "is not there", "file": "is a file"}[name]
    assert f"{name} {expected}, expected the folder of a bundle" in found.problem


def test_a_bundle_without_its_checks_still_has_its_sizes(bundle: Path) -> None:
    path = bundle / "onnx" / "vision.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Refusal, match="has 15 bytes, expected 16"):
        Model(bundle, manifest_only=True, onnx_runtime="none")


def test_a_library_that_is_none(bundle: Path) -> None:
    need_backend()
    assert refused(bundle, onnx_runtime="/no/such.so").problem.startswith(
        "cannot open ONNX Runtime: /no/such.so"
    )
    other = str(build("runtime_driver"))
    found = refused(bundle, onnx_runtime=other)
    assert found.problem == f"{other} is not ONNX Runtime: it has no OrtGetApiBase"
    assert found.status == 3


def test_a_graph_that_is_none(bundle: Path) -> None:
    need_backend()
    edit(bundle, ("precision",), "fp32")
    found = refused(bundle, onnx_runtime=onnxruntime_library())
    assert found.status == 2
    assert "cannot open " in found.problem
    assert f"{bundle}/onnx/vision.onnx: " in found.problem


# Engines


def engines_misfit(
    bundle: Path,
    tensorrt: str = "10.3.0",
    gpu: str = "Orin",
    capability: tuple[int, int] = (8, 7),
    memory: int = 64 * 10**9,
    plugin: str = "",
) -> tuple[int, str]:
    why = ctypes.create_string_buffer(WHY)
    driver = ctypes.CDLL(str(build("runtime_driver")))
    told = str(bundle).encode(), tensorrt.encode(), gpu.encode(), *capability
    words = *told, ctypes.c_int64(memory), plugin.encode()
    return driver.driver_engines(*words, why, ctypes.c_size_t(WHY)), why.value.decode()


@pytest.fixture
def with_engines(bundle: Path) -> Path:
    (bundle / "engines").mkdir()
    engine = bundle / "engines" / "vision.plan"
    engine.write_bytes(b"an engine")
    entry = file_entry(engine)
    record = {
        "schema": 1,
        "tool": {"name": "d2export", "version": "0.1.0"},
        "target": "jetson-orin-agx-64gb",
        "tensorrt": "10.3.0",
        "gpu": {"name": "Orin", "compute_capability": [8, 7], "memory": 64 * 10**9},
        "plugin": "plugins/libd2export_plugin.so",
        "engines": [
            {
                "graph": "vision",
                "path": "engines/vision.plan",
                "bytes": entry.bytes,
                "sha256": entry.sha256,
                "key": "ab" * 32,
                "seconds": 12.5,
            }
        ],
    }
    (bundle / "engines" / "engines.json").write_text(json.dumps(record))
    return bundle


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    library = tmp_path / "libd2export_plugin.so"
    library.write_bytes(b"\x7fELF")
    return str(library)


def test_engines_that_fit(with_engines: Path, plugin: str) -> None:
    assert engines_misfit(with_engines, plugin=plugin) == (0, "")


def test_no_engines(bundle: Path) -> None:
    assert engines_misfit(bundle) == (1, "")


def test_engines_of_another_tensorrt_gpu_or_without_their_plugin(with_engines: Path) -> None:
    status, why = engines_misfit(with_engines, tensorrt="10.16.1")
    assert status == 3
    assert "were built with TensorRT 10.3.0, this machine has TensorRT 10.16.1" in why
    status, why = engines_misfit(with_engines, capability=(9, 0))
    assert status == 3
    assert (
        "for a GPU Orin of compute capability 8.7 and 64.0 GB, this machine has a GPU Orin" in why
    )
    assert "of compute capability 9.0 and 64.0 GB" in why
    assert engines_misfit(with_engines, gpu="Thor")[0] == 3
    assert engines_misfit(with_engines, memory=32 * 10**9)[0] == 3  # the other Orin
    status, why = engines_misfit(with_engines, plugin="/no/such/plugin.so")
    assert status == 3
    assert "need the plugin libd2export_plugin.so, and /no/such/plugin.so is not there" in why


def planned(bundle: Path, *flags: str, hardware: str = "NONE") -> None:
    """What `plan.json` says of where the engine is to run; the rest of it is the builder's."""
    plan = {"graph": "vision", "builder_flags": flags, "hardware_compatibility": hardware}
    record = {"schema": 1, "engines": [{"plan": plan, "trtexec": "trtexec"}]}
    (bundle / "engines" / "plan.json").write_text(json.dumps(record))


def test_engines_for_later_versions_of_tensorrt(with_engines: Path, plugin: str) -> None:
    planned(with_engines, "VERSION_COMPATIBLE", "FP16")
    assert engines_misfit(with_engines, tensorrt="10.16.1", plugin=plugin) == (0, "")
    assert engines_misfit(with_engines, tensorrt="10.2.9", plugin=plugin)[0] == 3
    assert engines_misfit(with_engines, gpu="Thor", plugin=plugin)[0] == 3
    planned(with_engines, "FP16")
    assert engines_misfit(with_engines, tensorrt="10.16.1", plugin=plugin)[0] == 3


def test_engines_for_other_gpus(with_engines: Path, plugin: str) -> None:
    planned(with_engines, hardware="AMPERE_PLUS")
    assert engines_misfit(with_engines, gpu="H200", capability=(9, 0), plugin=plugin) == (0, "")
    assert engines_misfit(with_engines, gpu="T4", capability=(7, 5), plugin=plugin)[0] == 3
    assert engines_misfit(with_engines, tensorrt="10.16.1", plugin=plugin)[0] == 3


def test_a_damaged_plan(with_engines: Path, plugin: str) -> None:
    (with_engines / "engines" / "plan.json").write_text('{"engines": [{"plan": 7}]}')
    status, why = engines_misfit(with_engines, plugin=plugin)
    assert status == 2
    assert "plan.json: engines[0].plan is 7, expected " in why


def test_another_plugin_than_the_engines_were_built_with(with_engines: Path, plugin: str) -> None:
    kept = with_engines / "plugins" / "libd2export_plugin.so"
    kept.parent.mkdir()
    kept.write_bytes(b"\x7fELF")
    assert engines_misfit(with_engines, plugin=plugin) == (0, "")
    kept.write_bytes(b"\x7fELG")
    status, why = engines_misfit(with_engines, plugin=plugin)
    assert status == 3
    assert f"were built with the plugin {kept} (SHA-256 " in why


def test_an_engine_that_was_exchanged(with_engines: Path, plugin: str) -> None:
    (with_engines / "engines" / "vision.plan").write_bytes(b"an enginE")
    status, why = engines_misfit(with_engines, plugin=plugin)
    assert status == 2
    assert "vision.plan was changed after the build" in why
    record = with_engines / "engines" / "engines.json"
    record.write_text(record.read_text().replace('"schema": 1', '"schema": 2'))
    assert "engines.json: schema is 2, expected " in engines_misfit(with_engines)[1]
