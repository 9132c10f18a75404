"""Targets by name, and recognised from what a GPU says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2export.engine import cuda_driver
from d2export.engine.cuda_driver import Device
from d2export.engine.target import MIB, TensorRTRange
from d2export.engine.targets import FOLDERS, GENERIC, recognise, target, targets
from d2export.errors import EnvironmentMismatch, UsageError
from d2export.export.choices import OPSETS

NAMES = [
    "jetson-orin-nano-8gb",
    "jetson-orin-nx-16gb",
    "jetson-orin-agx-32gb",
    "jetson-orin-agx-64gb",
    "jetson-thor",
    "l4",
    "rtx-4090",
    "a100",
    "h100",
    "h200",
    "generic",
]
# Names and MiB as CUDA reported them on such machines.
SEEN = [
    ("jetson-orin-nano-8gb", "Orin", (8, 7), 7618),
    ("jetson-orin-nano-8gb", "Orin", (8, 7), 7336),  # under JetPack 5
    ("jetson-orin-nx-16gb", "Orin", (8, 7), 15388),
    ("jetson-orin-nx-16gb", "Orin", (8, 7), 15657),
    ("jetson-orin-agx-32gb", "Orin", (8, 7), 30623),
    ("jetson-orin-agx-64gb", "Orin", (8, 7), 62841),
    ("jetson-thor", "NVIDIA Thor", (11, 0), 125772),
    ("l4", "NVIDIA L4", (8, 9), 22558),
    ("rtx-4090", "NVIDIA GeForce RTX 4090", (8, 9), 24563),
    ("a100", "A100-SXM4-40GB", (8, 0), 40536),
    ("a100", "NVIDIA A100-SXM4-80GB", (8, 0), 81920),
    ("a100", "NVIDIA A100 80GB PCIe MIG 1g.10gb", (8, 0), 9856),
    ("h100", "NVIDIA H100 80GB HBM3", (9, 0), 81089),
    ("h200", "NVIDIA H200", (9, 0), 143156),
]


def device(name: str, capability: tuple[int, int], mib: int, *, integrated: bool = False) -> Device:
    return Device(name, capability, mib * MIB, integrated)


def test_all_targets_in_order() -> None:
    assert list(targets()) == NAMES
    assert {path.stem for path in FOLDERS[1].glob("*.toml")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES[:-1])
def test_a_target_recognises_itself(name: str) -> None:
    found = target(name)
    assert found.memory is not None
    assert found.compute_capability is not None
    assert found.opset in OPSETS
    for gpu in found.names:
        assert recognise([Device(gpu, found.compute_capability, found.memory, False)]) == found


def test_memory_of_a_jetson_is_shared() -> None:
    for name, found in targets().items():
        assert found.shared == name.startswith("jetson-")
        if found.shared:
            assert found.memory is not None
            assert found.usable == found.memory - 1536 * MIB
        else:
            assert found.usable == found.memory


@pytest.mark.parametrize(("name", "gpu", "capability", "mib"), SEEN)
def test_machines_that_were_seen(
    name: str, gpu: str, capability: tuple[int, int], mib: int
) -> None:
    found = recognise([device(gpu, capability, mib)])
    assert found.name == name
    assert found.memory == mib * MIB  # this machine's, not the profile's


@pytest.mark.parametrize(
    ("gpu", "capability", "mib"),
    [
        ("NVIDIA L40S", (8, 9), 45488),
        ("NVIDIA GH200 480GB", (9, 0), 97280),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", (8, 9), 16376),
        ("NVIDIA A100X", (8, 0), 81920),
        ("NVIDIA Thor", (10, 1), 125772),  # as CUDA 12 called it: no toolkit for 11.0
        ("Orin", (8, 7), 3500),
    ],
)
def test_what_only_looks_alike_is_generic(gpu: str, capability: tuple[int, int], mib: int) -> None:
    found = recognise([device(gpu, capability, mib)])
    assert found.name == GENERIC
    assert (found.description, found.compute_capability) == (gpu, capability)
    assert found.memory == found.usable == mib * MIB
    assert found.precisions == ("fp32", "fp16", "bf16", "int8")


def test_generic_is_filled_with_what_was_seen() -> None:
    assert recognise([device("Tesla T4", (7, 5), 14930)]).precisions == ("fp32", "fp16", "int8")
    shared = recognise([device("NVIDIA GB10", (12, 1), 122570, integrated=True)])
    assert shared.shared
    assert shared.usable == (122570 - 1536) * MIB
    assert targets()[GENERIC].memory is None  # the profile is as it was


def test_the_first_gpu_counts() -> None:
    h200, l4 = device("NVIDIA H200", (9, 0), 143156), device("NVIDIA L4", (8, 9), 22558)
    assert recognise([h200, l4]).name == "h200"
    assert recognise([l4, h200]).name == "l4"


def test_no_gpu_and_one_that_is_too_old() -> None:
    with pytest.raises(EnvironmentMismatch) as raised:
        recognise([])
    assert raised.value.problem == "this machine has no NVIDIA GPU that CUDA sees"
    assert raised.value.hint == "Pass --target NAME; `d2export targets` lists the names."
    with pytest.raises(EnvironmentMismatch) as raised:
        recognise([device("Xavier", (7, 2), 31000)])
    assert raised.value.problem == (
        "the GPU Xavier has compute capability 7.2, expected 7.5 or newer"
    )


def test_auto_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "devices", lambda: ())
    with pytest.raises(EnvironmentMismatch) as raised:
        target("auto")
    assert raised.value.problem == "--target auto: this machine has no NVIDIA GPU that CUDA sees"
    assert raised.value.hint == "Pass --target NAME; `d2export targets` lists the names."


def test_auto_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    found = cuda_driver.devices
    monkeypatch.setattr(cuda_driver, "devices", lambda: found("libcuda.absent"))
    with pytest.raises(EnvironmentMismatch) as raised:
        target("auto")
    assert raised.value.problem.startswith("--target auto: this machine has no CUDA driver: ")
    assert raised.value.hint == "Pass --target NAME; `d2export targets` lists the names."


def test_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "devices", lambda: (device("NVIDIA L4", (8, 9), 22558),))
    assert target("auto").name == "l4"


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("jetson-nano", "jetson-orin-nano-8gb"),
        ("agx-64gb", "jetson-orin-agx-64gb"),
        ("4090", "rtx-4090"),
        ("h20", "h200"),
        ("jetsonthor", "jetson-thor"),
    ],
)
def test_a_misspelt_name_gets_a_suggestion(asked: str, meant: str) -> None:
    with pytest.raises(UsageError) as raised:
        target(asked)
    assert raised.value.problem == (
        f"unknown target '{asked}': neither a device, a .toml file, nor 'auto'"
    )
    assert raised.value.hint == f"Did you mean '{meant}'? Targets: {', '.join(NAMES)}."


def test_a_name_like_no_other() -> None:
    with pytest.raises(UsageError) as raised:
        target("toaster")
    assert raised.value.hint == f"Targets: {', '.join(NAMES)}."


def test_names_in_capitals() -> None:
    assert target("H200").name == "h200"


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "my-board.toml"
    path.write_text((FOLDERS[1] / "l4.toml").read_text().replace("NVIDIA L4", "my board"))
    found = target(str(path))
    assert (found.name, found.description) == ("my-board", "my board")
    assert "my-board" not in targets()


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ((8, 5, 2), False),
        ((8, 6), True),
        ((8, 6, 1), True),
        ((10, 3, 0), True),
        ((11,), True),
        ((11, 4, 1), True),
        ((12, 0), False),
    ],
)
def test_a_range_of_versions(version: tuple[int, ...], fits: bool) -> None:
    assert (version in TensorRTRange((8, 6), (10, 3), (11,))) == fits


def test_a_range_with_a_minor_end() -> None:
    narrow = TensorRTRange((10, 13), (10, 13), (10, 16))
    assert (10, 16, 1) in narrow
    assert (10, 17) not in narrow
    assert (10, 3) not in narrow
