from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from d2export.errors import CheckpointError, OutputError
from d2export.models.safetensors_file import (
    TensorRef,
    TensorToWrite,
    encode,
    float32_to_bfloat16,
    load,
    read_header,
    write,
)


def file_with(tmp_path: Path, header: object, payload: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + payload)
    return path


def entry(begin: int, end: int, dtype: str = "F32", shape: object = (1,)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_header_agrees_with_the_library(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {
        "a": torch.randn(3, 5, dtype=torch.bfloat16),
        "b": torch.arange(7),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "half": torch.randn(2, 3, 4, dtype=torch.float16),
        "flags": torch.tensor([True, False]),
    }
    save_file(tensors, path, {"format": "pt"})
    refs = read_header(path)

    assert refs.keys() == tensors.keys()
    data = path.read_bytes()
    with safe_open(path, "pt") as library:
        for name, ref in refs.items():
            part = library.get_slice(name)
            assert (list(ref.shape), ref.dtype) == (part.get_shape(), part.get_dtype())
            stored = tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes()
            assert data[ref.offset : ref.offset + ref.nbytes] == stored


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_load_gives_the_same_values_as_the_library(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "model.safetensors"
    tensor = torch.randn(5, 7).to(dtype)
    save_file({"other": torch.randn(3), "x": tensor, "none": torch.zeros(0, 3).to(dtype)}, path)
    refs = read_header(path)
    values = load(refs["x"])
    assert values.dtype == np.float32
    assert values.flags.writeable
    np.testing.assert_array_equal(values, tensor.float().numpy())
    assert load(refs["none"]).shape == (0, 3)


def test_load_refuses_quantized_tensors(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"q": torch.zeros(4, dtype=torch.int8)}, path)
    with pytest.raises(CheckpointError, match="has dtype I8; expected F32, F16 or BF16"):
        load(read_header(path)["q"])


def test_rows_are_a_contiguous_part(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"qkv": torch.arange(24.0).reshape(6, 4)}, path)
    qkv = read_header(path)["qkv"]
    middle = qkv.rows(2, 4)
    assert (middle.offset, middle.nbytes, middle.shape) == (qkv.offset + 32, 32, (2, 4))
    np.testing.assert_array_equal(load(middle), [[8, 9, 10, 11], [12, 13, 14, 15]])
    with pytest.raises(ValueError, match="no rows 4:7"):
        qkv.rows(4, 7)
    with pytest.raises(ValueError, match="cannot view"):
        qkv.view((6, 5))


def test_bfloat16_rounds_to_nearest_even() -> None:
    x = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -0.0], np.float32)
    expected = [0x3F80, 0x3F80, 0x3F82, 0x3F81, 0x8000]  # ties go to the even neighbour
    assert float32_to_bfloat16(x).tolist() == expected


def test_bfloat16_equals_torch_on_random_and_special_values() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    x = bits.view(np.float32)
    x[:5] = [np.inf, -np.inf, 3.4e38, -3.4e38, 1e-40]
    theirs = torch.from_numpy(x.copy()).to(torch.bfloat16).float().numpy()
    ours = (float32_to_bfloat16(x).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(ours, theirs)  # NaN equals NaN here
    assert np.isnan(x).any()


def test_a_nan_whose_low_bits_alone_are_set_stays_a_nan() -> None:
    x = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert float32_to_bfloat16(x).tolist() == [0x7FC0, 0xFFFF]


def test_the_library_reads_what_write_writes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((6, 4)).astype(np.float32)
    path = tmp_path / "model.safetensors"
    write(
        path,
        [
            TensorToWrite(
                dtype,
                dtype,
                (6, 4),
                lambda dtype=dtype: (encode(values[i : i + 2], dtype) for i in (0, 2, 4)),
            )
            for dtype in ("F32", "F16", "BF16")
        ],
    )
    stored = load_file(path)
    x = torch.from_numpy(values)
    assert torch.equal(stored["F32"], x)
    assert torch.equal(stored["F16"], x.half())
    assert torch.equal(stored["BF16"], x.bfloat16())
    assert read_header(path)["F32"].offset % 8 == 0
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    short = TensorToWrite("x", "F32", (3,), lambda: [np.zeros(2, np.float32)])
    with pytest.raises(ValueError, match="'x': 8 bytes instead of 12"):
        write(path, [short])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="'x' comes twice"):
        write(path, [short, short])
    with pytest.raises(OutputError, match=r"cannot write .*No such file"):
        write(tmp_path / "nowhere" / "model.safetensors", [])


def test_a_truncated_file_is_named_with_both_sizes(tmp_path: Path) -> None:
    path = file_with(tmp_path, {"x": entry(0, 16, shape=[4])}, bytes(16))
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-3])
    problem = f"is truncated: {whole - 3} bytes found, {whole} expected"
    with pytest.raises(CheckpointError, match=problem):
        read_header(path)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(CheckpointError, match=r"is truncated: 30 bytes found, at least \d+"):
        read_header(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a git-lfs pointer"),
        (b"\n<!DOCTYPE html><html>404</html>", "an HTML page"),
        (b"<html><body>Sign in</body></html>", "an HTML page"),
        (b"PK\x03\x04\x14\x00\x08\x00" + bytes(90), "most likely a pickle"),
        (b"", "it has 0 bytes"),
        (b"\x02\0\0", "it has 3 bytes"),
        ((10**9).to_bytes(8, "little") + b"{}", "over 100 MB"),
    ],
)
def test_other_files_under_the_name_are_recognised(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=problem):
        read_header(path)


@pytest.mark.parametrize(
    ("header", "payload", "problem"),
    [
        (b"{", 0, "header is not JSON"),
        (b"\xff\xfe{}", 0, "header is not JSON"),
        (b"[" * 100_000, 0, "header is not JSON"),
        (b"[]", 0, "not a JSON object"),
        (b'{"x":{}, "x":{}}', 0, "a key comes twice"),
        ({"x": {"dtype": "F32"}}, 0, "does not have dtype, shape, data_offsets"),
        ({"x": entry(0, 4, shape=[-1])}, 4, "is malformed"),
        ({"x": entry(0, 4, shape=[True])}, 4, "is malformed"),
        ({"x": entry(4, 0)}, 4, "is malformed"),
        ({"x": entry(0, 4, dtype="F33")}, 4, "unknown dtype 'F33'"),
        ({"x": entry(0, 8)}, 8, r"'x' \(F32 \[1\]\) needs 4 bytes, its range 0..8 has 8"),
        ({"x": entry(0, 4, shape=[2**62, 2**62])}, 4, "needs .* bytes"),
        ({"x": entry(0, 4), "y": entry(2, 6)}, 6, "'y' at 2..6 overlaps"),
        ({"x": entry(0, 4), "y": entry(0, 4)}, 4, "'y' at 0..4 overlaps"),
        ({"x": entry(0, 4), "y": entry(8, 12)}, 12, "'y' at 8..12 leaves a hole"),
        ({"x": entry(0, 4)}, 5, "its header describes"),
        ({"x": entry(2**60, 2**60 + 4)}, 4, "leaves a hole"),
    ],
)
def test_a_header_that_lies_is_refused(
    tmp_path: Path, header: object, payload: int, problem: str
) -> None:
    with pytest.raises(CheckpointError, match=problem):
        read_header(file_with(tmp_path, header, bytes(payload)))


def test_a_missing_file_is_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read .*No such file"):
        read_header(tmp_path / "model.safetensors")


def test_metadata_is_not_a_tensor(tmp_path: Path) -> None:
    path = file_with(tmp_path, {"__metadata__": {"format": "pt"}, "x": entry(0, 4)}, bytes(4))
    offset = path.stat().st_size - 4
    assert read_header(path) == {"x": TensorRef(path, offset, 4, "F32", (1,))}
