"""Device profiles: read as written, refused with the key where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2export.engine.target import MIB, Target, TensorRTRange
from d2export.engine.target_file import read_target
from d2export.errors import UsageError

PROFILE = """\
description = "a board"
compute_capability = "8.7"
precisions = ["fp16", "int8"]
workspace_mib = 512

[memory]
total_mib = 4000
shared = true
reserved_mib = 1000

[tensorrt]
oldest = "8.6"
expected = "10.3"
newest = "11"
opset = 20

[recognised_by]
names = ["Orin"]
memory_mib = [3000, 5000]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "board.toml"
    path.write_text(text)
    return path


def test_a_profile(tmp_path: Path) -> None:
    found = read_target(write(tmp_path, PROFILE))
    assert found == Target(
        name="board",
        description="a board",
        compute_capability=(8, 7),
        memory=4000 * MIB,
        shared=True,
        reserved=1000 * MIB,
        precisions=("fp16", "int8"),
        workspace=512 * MIB,
        tensorrt=TensorRTRange((8, 6), (10, 3), (11,)),
        opset=20,
        names=("Orin",),
        memory_between=(3000 * MIB, 5000 * MIB),
    )
    assert found.usable == 3000 * MIB


def test_what_is_not_known_may_be_left_out(tmp_path: Path) -> None:
    text = PROFILE.split("[recognised_by]")[0]
    for line in ('compute_capability = "8.7"\n', "total_mib = 4000\n", "reserved_mib = 1000\n"):
        text = text.replace(line, "")
    found = read_target(write(tmp_path, text))
    assert found.compute_capability is None
    assert found.memory is None
    assert found.usable is None
    assert found.reserved == 0
    assert found.names == ()
    assert found.memory_between is None


def test_memory_that_is_not_shared_is_usable(tmp_path: Path) -> None:
    text = PROFILE.replace("shared = true", "shared = false")
    assert read_target(write(tmp_path, text)).usable == 4000 * MIB


# A line of the profile, what stands there instead, and what the message says behind the path.
WRONG = [
    ("workspace_mib = 512", "workspace = 512", "workspace_mib is missing"),
    ("workspace_mib = 512", "workspace_mib = 512\nclock = 1", "clock is no key of a target"),
    (
        "workspace_mib = 512",
        'workspace_mib = "512"',
        "workspace_mib is '512', expected a whole number, not text",
    ),
    ("workspace_mib = 512", "workspace_mib = 0", "workspace_mib is 0, expected a number above 0"),
    (
        "workspace_mib = 512",
        "workspace_mib = 4001",
        "workspace_mib is 4001, expected at most the memory, 4000",
    ),
    ('"a board"', "7", "description is 7, expected text, not a whole number"),
    (
        '"8.7"',
        '"8"',
        "compute_capability is '8', expected major and minor such as 8.7, at least 7.5",
    ),
    (
        '"8.7"',
        '"7.2"',
        "compute_capability is '7.2', expected major and minor such as 8.7, at least 7.5",
    ),
    ('"8.7"', '"sm_87"', "compute_capability is 'sm_87', expected a version such as 10.3"),
    (
        '["fp16", "int8"]',
        '["fp8"]',
        "precisions is 'fp8', expected some of fp32, fp16, bf16, int8",
    ),
    ('["fp16", "int8"]', "[7]", "precisions is 7, expected some of fp32, fp16, bf16, int8"),
    ('["fp16", "int8"]', "[[]]", "precisions is [], expected some of fp32, fp16, bf16, int8"),
    ('["fp16", "int8"]', "[]", "precisions is [], expected each once, and at least one"),
    (
        '["fp16", "int8"]',
        '["fp16", "fp16"]',
        "precisions is ['fp16', 'fp16'], expected each once, and at least one",
    ),
    (
        '"8.7"\nprecisions = ["fp16", "int8"]',
        '"7.5"\nprecisions = ["bf16"]',
        "precisions is 'bf16', expected what 7.5 has: this needs 8.0",
    ),
    ("total_mib = 4000", "total_mib = -1", "memory.total_mib is -1, expected a number above 0"),
    (
        "shared = true",
        "shared = 1",
        "memory.shared is 1, expected true or false, not a whole number",
    ),
    ("shared = true", "", "memory.shared is missing"),
    (
        "total_mib = 4000",
        "total_mib = true",
        "memory.total_mib is True, expected a whole number, not true or false",
    ),
    (
        "reserved_mib = 1000",
        "reserved_mib = 4000",
        "memory.reserved_mib is 4000, expected 0 or more, and less than total_mib",
    ),
    (
        "reserved_mib = 1000",
        "reserved_mib = -1",
        "memory.reserved_mib is -1, expected 0 or more, and less than total_mib",
    ),
    ("[memory]", "[memory]\nswap_mib = 1", "memory.swap_mib is no key of a target"),
    ("[tensorrt]", "[tensorrt]\nlatest = '11'", "tensorrt.latest is no key of a target"),
    ('oldest = "8.6"', 'oldest = "8.5"', "tensorrt.oldest is '8.5', expected 8.6 or newer"),
    ('oldest = "8.6"', "oldest = 8.6", "tensorrt.oldest is 8.6, expected text, not a number"),
    (
        'expected = "10.3"',
        'expected = "12.0"',
        "tensorrt.expected is '12.0', expected a version from oldest to newest",
    ),
    (
        'expected = "10.3"',
        'expected = "8.5"',
        "tensorrt.expected is '8.5', expected a version from oldest to newest",
    ),
    (
        'expected = "10.3"',
        'expected = "10.3-GA"',
        "tensorrt.expected is '10.3-GA', expected a version such as 10.3",
    ),
    ("opset = 20", "opset = 25", "tensorrt.opset is 25, expected 17 to 24"),
    ("opset = 20", "opset = 16", "tensorrt.opset is 16, expected 17 to 24"),
    (
        'names = ["Orin"]',
        'names = [" "]',
        "recognised_by.names is [' '], expected names of GPUs",
    ),
    ('names = ["Orin"]', "gpu = 1", "recognised_by.gpu is no key of a target"),
    *(
        (
            "[3000, 5000]",
            wrong,
            f"recognised_by.memory_mib is {wrong}, expected a smaller and a larger number of MiB",
        )
        for wrong in ("[5000, 3000]", "[3000]", "[0, 5000]", "['a', 'b']")
    ),
    (
        "[3000, 5000]",
        "[4001, 5000]",
        "recognised_by.memory_mib is [4001, 5000], expected a range with total_mib in it, 4000",
    ),
]


@pytest.mark.parametrize(("line", "instead", "message"), WRONG)
def test_a_wrong_profile_is_refused(line: str, instead: str, message: str, tmp_path: Path) -> None:
    assert line in PROFILE
    path = write(tmp_path, PROFILE.replace(line, instead))
    with pytest.raises(UsageError) as raised:
        read_target(path)
    assert raised.value.problem.startswith(f"the target {path}: {message}")


def test_a_table_that_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path, PROFILE.split("[tensorrt]")[0])
    with pytest.raises(UsageError, match=r"board\.toml: tensorrt is missing"):
        read_target(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the target .*none\.toml: No such file"):
        read_target(tmp_path / "none.toml")


@pytest.mark.parametrize("content", [b"[memory", b"name = '\xff'"])
def test_no_toml(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"board\.toml is not TOML: "):
        read_target(path)
