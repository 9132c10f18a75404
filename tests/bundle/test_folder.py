from __future__ import annotations

import copy
import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from d2export.bundle.folder import (
    MAX_MANIFEST_BYTES,
    file_entries,
    file_entry,
    is_bundle,
    read_bundle,
    write_manifest,
)
from d2export.bundle.records import FileEntry
from d2export.errors import BundleError
from tests.sample_bundle import CONTENT, USED_RANGES, edit, sample_manifest, sign, write_sample


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "out")


def refused(folder: Path, *, verify: bool = True) -> str:
    with pytest.raises(BundleError) as caught:
        read_bundle(folder, verify=verify)
    assert caught.value.hint
    return caught.value.problem


def test_a_bundle_reads_back(folder: Path) -> None:
    bundle = read_bundle(folder)
    assert bundle.root == folder.resolve()
    assert bundle.manifest == sample_manifest(file_entries(folder, USED_RANGES))
    assert bundle.path("onnx/vision.onnx").read_bytes() == CONTENT["onnx/vision.onnx"]


def test_every_file_but_manifest_reports_and_log_is_listed(folder: Path) -> None:
    (folder / "report.json").write_text("{}")
    (folder / ".building").write_text("1")  # while it is being built
    assert set(file_entries(folder, {})) == set(CONTENT)


def test_an_entry_is_size_and_sha256(folder: Path) -> None:
    graph = CONTENT["onnx/vision.onnx"]
    expected = FileEntry(len(graph), hashlib.sha256(graph).hexdigest())
    assert file_entry(folder / "onnx/vision.onnx") == expected


def test_of_a_linked_shard_only_the_used_ranges_count(folder: Path) -> None:
    path = folder / "onnx/model.safetensors"
    data = path.read_bytes()
    entry = file_entry(path, [(150, 200), (16, 40), (100, 160), (105, 110), (40, 48), (60, 60)])
    used = data[16:48] + data[100:200]
    assert entry == FileEntry(200, hashlib.sha256(used).hexdigest(), ((16, 48), (100, 200)))

    path.write_bytes(data[:50] + b"?" + data[51:])
    read_bundle(folder)
    path.write_bytes(data[:16] + b"?" + data[17:])
    assert "model.safetensors was changed after the build: its sha256 is" in refused(folder)


def test_files_beyond_one_chunk_are_hashed_whole(tmp_path: Path) -> None:
    data = os.urandom(2**20 + 17)
    (tmp_path / "large").write_bytes(data)
    assert file_entry(tmp_path / "large").sha256 == hashlib.sha256(data).hexdigest()
    part = file_entry(tmp_path / "large", [(5, 2**20 + 9)])
    assert part.sha256 == hashlib.sha256(data[5 : 2**20 + 9]).hexdigest()


def test_damage_is_found_unless_verification_is_off(folder: Path) -> None:
    path = folder / "onnx/vision.onnx"
    path.write_bytes(b"the vision grapH")
    assert "onnx/vision.onnx was changed after the build: its sha256 is" in refused(folder)
    path.write_bytes(b"the vision")
    assert refused(folder).endswith("has 10 bytes, expected 16 as manifest.json says")
    path.unlink()
    assert refused(folder).endswith("onnx/vision.onnx is missing")
    read_bundle(folder, verify=False)


def test_a_fifo_or_folder_in_place_of_a_file_is_missing(folder: Path) -> None:
    path = folder / "onnx/vision.onnx"
    path.unlink()
    os.mkfifo(path)  # opening it would wait for ever
    assert refused(folder).endswith("onnx/vision.onnx is missing")


def test_no_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        read_bundle(tmp_path)
    assert "is not a bundle: it has no manifest.json" in caught.value.problem
    assert "A build that was interrupted never leaves a bundle." in str(caught.value.hint)


def test_a_path_that_is_no_folder(folder: Path, tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere").endswith("is not there, expected the folder of a bundle")
    assert "is a file, expected the folder" in refused(folder / "manifest.json")
    assert "is not readable" in refused(Path("a\0b"))
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "expected the folder of a bundle" in refused(loop)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is damaged: it is not JSON"),
        (b'{"schema": 1,', "is damaged: it is not JSON"),
        (b"\xff\xfe{}", "is damaged: not UTF-8"),
        (b"[" * 1_000_000, "is damaged: it is nested too deep"),
        (b'{"a":' * 1_000_000, "is damaged: it is nested too deep"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "has more than 16777216 bytes"),
        (b'{"schema": 1, "schema": 1}', 'is an object with the key "schema" twice'),
        (b'{"schema": NaN}', "schema is NaN, expected 3"),
    ],
)
def test_a_damaged_manifest_is_refused(folder: Path, content: bytes, problem: str) -> None:
    (folder / "manifest.json").write_bytes(content)
    assert problem in refused(folder, verify=False)


def test_an_edited_manifest_is_noticed(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"keep": 64', '"keep": 65'))
    assert "manifest.json was edited after the build" in refused(folder, verify=False)


@pytest.mark.parametrize(
    "path",
    ["../secret", "/etc/passwd", "a/../../b", "a\\b", "a//b", "./a", "", "..", "a\0b", "a\n"],
)
def test_no_path_may_be_written_to_leave_the_bundle(folder: Path, path: str) -> None:
    with pytest.raises(BundleError, match="expected a"):
        read_bundle(folder).path(path)
    edit(folder, ("files", path), {"bytes": 1, "sha256": "0" * 64})
    assert "expected a" in refused(folder, verify=False)


def test_no_path_may_be_linked_out_of_the_bundle(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "vision.onnx").write_bytes(CONTENT["onnx/vision.onnx"])
    graph = folder / "onnx/vision.onnx"
    graph.unlink()
    graph.symlink_to(tmp_path / "elsewhere/vision.onnx")
    assert "onnx/vision.onnx leads out of the bundle, to " in refused(folder, verify=False)
    graph.unlink()
    graph.symlink_to(graph)
    assert "onnx/vision.onnx" in refused(folder)
    graph.unlink()
    (folder / "graph").write_bytes(CONTENT["onnx/vision.onnx"])
    graph.symlink_to("../graph")  # a link that stays inside is fine
    read_bundle(folder)


def test_not_even_the_manifest_may_be_linked_out(folder: Path, tmp_path: Path) -> None:
    (folder / "manifest.json").rename(tmp_path / "manifest.json")
    (folder / "manifest.json").symlink_to(tmp_path / "manifest.json")
    assert "leads out of the bundle" in refused(folder)


def test_the_bundle_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(folder)
    assert read_bundle(tmp_path / "latest").root == folder.resolve()


def test_is_bundle_asks_only_who_wrote_the_manifest(folder: Path, tmp_path: Path) -> None:
    assert is_bundle(folder)
    edit(folder, ("schema",), 99)
    assert is_bundle(folder)
    edit(folder, ("tool", "name"), "other")
    assert not is_bundle(folder)
    (folder / "manifest.json").write_text('["d2export"]')
    assert not is_bundle(folder)
    assert not is_bundle(tmp_path)
    assert not is_bundle(tmp_path / "nowhere")


def test_a_manifest_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"graphs.vision.path is .* listed in files"):
        write_manifest(tmp_path, sample_manifest({}))
    assert list(tmp_path.iterdir()) == []


def test_fuzz_bytes(folder: Path) -> None:
    """Bit flips, cuts and splices of the file: a bundle as before, or a BundleError."""
    path = folder / "manifest.json"
    valid = path.read_bytes()
    unchanged = read_bundle(folder).manifest
    rng = random.Random(0)
    refusals = 0
    for _ in range(2000):
        data = bytearray(valid)
        for _ in range(rng.choice((1, 1, 1, 8))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        if rng.random() < 0.2:
            start, stop = sorted(rng.randrange(len(data) + 1) for _ in range(2))
            data[start:stop] = valid[stop : stop + rng.randrange(50)]
        path.write_bytes(data)
        try:
            assert read_bundle(folder, verify=False).manifest == unchanged
        except BundleError:
            refusals += 1
    assert refusals > 1900


ODD_VALUES: list[Any] = [
    *(None, True, 0, -1, 1, 2**31, 2**63, 10**400, 0.0, -0.0, 1e308, float("nan"), float("-inf")),
    *("", "x", "../x", "/etc/passwd", "a\0b", "\ud800", "\u202e", "0" * 64, "y" * 5000, "1"),
    *([], [None], [[]], [-1, -1], {}, {"": 0}, {"path": "x"}, [{}] * 3),
]


def test_fuzz_values(folder: Path) -> None:
    """Any value anywhere replaced by any other, with a valid digest."""
    path = folder / "manifest.json"
    valid = json.loads(path.read_text())
    rng = random.Random(0)
    refusals = 0
    for _ in range(2500):
        document = copy.deepcopy(valid)
        for _ in range(rng.choice((1, 1, 3))):
            inner, key = rng.choice(list(places(document)))
            action = rng.random()
            if action < 0.1 and isinstance(inner, dict):
                inner[rng.choice(["new", "..", "", "a/b", "\ud800"])] = inner.pop(key)
            elif action < 0.2:
                del inner[key]
            else:
                inner[key] = copy.deepcopy(rng.choice(ODD_VALUES))
        path.write_text(json.dumps(sign(document)))
        try:
            read_bundle(folder)
        except BundleError:
            refusals += 1
    assert 2000 < refusals < 2500  # a version may be any string, a shape any name


def places(document: Any) -> list[tuple[Any, Any]]:
    """All (container, key) of a JSON value."""
    keys: list[Any] = []
    if isinstance(document, dict):
        keys = list(document)
    elif isinstance(document, list):
        keys = list(range(len(document)))
    found = [(document, key) for key in keys]
    for key in keys:
        found += places(document[key])
    return found
