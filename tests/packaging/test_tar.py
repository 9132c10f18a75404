"""`package --format tar`: one file, the same for the same bundle, that plain tar unpacks."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from d2export.bundle import disk
from d2export.bundle.folder import read_bundle
from d2export.packaging.sparse_file import BLOCK, StoredFile, regions, sparse_map
from d2export.packaging.tar import SUMS
from tests.command import Caller
from tests.sample_bundle import write_sample

LARGE = "onnx/model.safetensors"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "bundle")


def unpacked(archive: Path, folder: Path) -> Path:
    """What GNU tar makes of it."""
    folder.mkdir()
    subprocess.run(["tar", "xf", archive.absolute()], cwd=folder, check=True)
    return folder


def large(folder: Path) -> tuple[Path, bytes]:
    """A bundle whose graphs read two parts of a shard, and the shard."""
    from d2export.bundle.folder import file_entries, write_manifest
    from tests import sample_bundle

    write_sample(folder)
    content = os.urandom(40 * BLOCK + 7)
    (folder / LARGE).write_bytes(content)
    used = {LARGE: [(700, 1700), (30 * BLOCK, 31 * BLOCK)]}
    write_manifest(folder, sample_bundle.sample_manifest(file_entries(folder, used)))
    return folder, content


def test_plain_tar_restores_the_bundle(d2: Caller, bundle: Path, tmp_path: Path) -> None:
    answer = d2("package", bundle, "--format", "tar", "-o", tmp_path / "a.tar")
    assert answer.code == 0
    copy = unpacked(tmp_path / "a.tar", tmp_path / "device") / "bundle"
    read_bundle(copy)
    files = [path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert (copy / path).read_bytes() == (bundle / path).read_bytes()
    assert d2("inspect", copy).out == d2("inspect", bundle).out.replace(str(bundle), str(copy))


def test_its_sums_are_those_of_the_files(d2: Caller, tmp_path: Path) -> None:
    bundle, _ = large(tmp_path / "bundle")
    d2("package", bundle, "--format", "tar", "-o", tmp_path / "a.tar")
    copy = unpacked(tmp_path / "a.tar", tmp_path / "device") / "bundle"
    subprocess.run(["sha256sum", "--quiet", "-c", SUMS], cwd=copy, check=True)
    listed = {line.split("  ")[1] for line in (copy / SUMS).read_text().splitlines()}
    there = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert listed == there - {SUMS}


def test_the_same_bundle_gives_the_same_bytes(d2: Caller, bundle: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(bundle, tmp_path / "elsewhere" / "bundle")
    for path in elsewhere.rglob("*"):
        path.chmod(0o700)
        os.utime(path, (time.time() - 1e6,) * 2)
    first = d2("package", bundle, "--format", "tar", "-o", tmp_path / "a.tar", "--json")
    d2("package", elsewhere, "--format", "tar", "-o", tmp_path / "b.tar")
    content = (tmp_path / "a.tar").read_bytes()
    assert content == (tmp_path / "b.tar").read_bytes()
    facts = json.loads(first.out)
    assert facts["sha256"] == hashlib.sha256(content).hexdigest()
    assert facts["bytes"] == len(content)
    with tarfile.open(tmp_path / "a.tar") as archive:
        members = archive.getmembers()
    assert facts["files"] == sum(member.isfile() for member in members)
    assert {(one.uid, one.gid, one.uname, one.gname, one.mtime) for one in members} == {
        (0, 0, "", "", 315532800)
    }
    assert [one.name for one in members if one.isfile()][:-1] == sorted(
        one.name for one in members if one.isfile() and not one.name.endswith(SUMS)
    )


def test_what_no_graph_reads_is_a_hole(d2: Caller, tmp_path: Path) -> None:
    bundle, content = large(tmp_path / "bundle")
    answer = d2("package", bundle, "--format", "tar", "-o", tmp_path / "a.tar", "--json")
    facts = json.loads(answer.out)
    assert facts["weights"] == len(content)
    assert facts["holes"] == len(content) - 4 * BLOCK  # blocks 1 to 3, and 30
    copy = unpacked(tmp_path / "a.tar", tmp_path / "device") / "bundle"
    read_bundle(copy)
    restored = (copy / LARGE).read_bytes()
    assert len(restored) == len(content)
    expected = bytearray(len(content))
    for start, stop in ((BLOCK, 4 * BLOCK), (30 * BLOCK, 31 * BLOCK)):
        expected[start:stop] = content[start:stop]
    assert restored == expected
    with tarfile.open(tmp_path / "a.tar") as archive:  # Python's reader agrees with GNU tar
        member = archive.extractfile("bundle/" + LARGE)
        assert member is not None
        assert member.read() == restored


@pytest.mark.parametrize(
    ("used", "stored"),
    [
        (None, [(0, 5000)]),
        ([(0, 5000)], [(0, 5000)]),
        ([(600, 601)], [(512, 1024)]),
        ([(600, 601), (1023, 1030)], [(512, 1536)]),
        ([(4990, 5000)], [(4608, 5000)]),
    ],
)
def test_regions_are_whole_blocks(used: object, stored: object) -> None:
    assert regions(used, 5000) == stored  # type: ignore[arg-type]


def test_a_map_ends_with_the_file() -> None:
    assert sparse_map([(512, 1024)], 5000).rstrip(b"\0") == b"2\n512\n512\n5000\n0\n"
    assert sparse_map([(4608, 5000)], 5000).rstrip(b"\0") == b"1\n4608\n392\n"
    assert len(sparse_map([(512, 1024)], 5000)) == BLOCK


def test_the_digest_is_that_of_the_restored_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes([1]) * 5000)
    stored = StoredFile(path, 5000, [(512, 1024)], b"map")
    assert stored.read(10**6) == b"map" + bytes([1]) * 512
    assert stored.read(1) == b""
    restored = bytes(512) + bytes([1]) * 512 + bytes(5000 - 1024)
    assert stored.sha256 == hashlib.sha256(restored).hexdigest()


def test_nothing_half_written_stays(
    d2: Caller, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out" / "a.tar"

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    message = d2.refused("package", bundle, "--format", "tar", "-o", out)
    assert message == (
        f"cannot write {out}: No space left on device\n  Free some space, or check the path."
    )
    assert list(out.parent.iterdir()) == []


def test_a_full_disk_is_seen_before(
    d2: Caller, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_free_bytes", lambda path: 1000)
    out = tmp_path / "a.tar"
    message = d2.refused("package", bundle, "--format", "tar", "-o", out)
    assert message.startswith(f"no space for {out}: 0.")
    assert message.endswith("Free some space, or choose a path on another disk.")
    assert not out.exists()


def test_what_is_there_stays(d2: Caller, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.tar"
    out.write_text("mine")
    message = d2.refused("package", bundle, "--format", "tar", "-o", out)
    assert message == f"output {out} exists\n  Choose another path, or remove it yourself."
    assert out.read_text() == "mine"
    message = d2.refused("package", bundle, "--format", "tar", "-o", bundle / "onnx" / "a.tar")
    assert message.startswith(f"output {bundle}/onnx/a.tar lies in the bundle {bundle}")


def test_a_damaged_bundle_is_not_packed(d2: Caller, bundle: Path, tmp_path: Path) -> None:
    (bundle / "onnx" / "vision.onnx").write_bytes(b"another file!!!!")
    message = d2.refused("package", bundle, "--format", "tar", "-o", tmp_path / "a.tar")
    assert "was changed after the build" in message
    (bundle / "onnx" / "vision.onnx").unlink()
    message = d2.refused("package", bundle, "--format", "tar", "-o", tmp_path / "a.tar")
    assert message.startswith(f"{bundle}/onnx/vision.onnx is missing")
    assert not (tmp_path / "a.tar").exists()


def test_what_is_no_file_is_not_packed(d2: Caller, bundle: Path, tmp_path: Path) -> None:
    os.mkfifo(bundle / "pipe")
    message = d2.refused("package", bundle, "--format", "tar", "-o", tmp_path / "a.tar")
    assert message.startswith(f"{bundle}/pipe is no file, expected files and folders only")
    (bundle / "pipe").unlink()
    (bundle / "secret").symlink_to("/etc/hostname")
    message = d2.refused("package", bundle, "--format", "tar", "-o", tmp_path / "a.tar")
    assert message.startswith(f"{bundle}/secret leads out of the bundle")


def test_options_of_triton_are_refused(d2: Caller, bundle: Path, tmp_path: Path) -> None:
    options = ("--format", "tar", "-o", tmp_path / "a.tar")
    message = d2.refused("package", bundle, *options, "--gpus", "0")
    assert message == "--gpus has no effect with --format tar\n  Leave it out."
    message = d2.refused("package", bundle, "--format", "zip", "-o", tmp_path / "a.zip")
    assert message.startswith("--format is 'zip', expected one of triton, tar")
