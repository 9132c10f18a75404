from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from d2export.bundle.disk import refuse_full_disk, writable
from d2export.bundle.mark import delete
from d2export.errors import OutputError

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
FILL = (
    "import sys; from pathlib import Path; from d2export.bundle.staging import staged\n"
    "with staged(Path(sys.argv[1])) as folder:\n"
    "    with open(folder / 'weights', 'wb') as file:\n"
    "        for _ in range(64): file.write(bytes(2**16))\n"
)


def small_disk(options: str, command: str) -> str:
    """Standard error of `command` where /mnt is a small tmpfs in a mount namespace of its own."""
    mount = f"mount -t tmpfs -o size=1m tmpfs /mnt && {options} {command}"
    arguments = ["sh", "-c", mount, "sh", sys.executable, FILL]
    result = subprocess.run(
        ["unshare", "-rm", *arguments], env=ENVIRONMENT, capture_output=True, text=True
    )
    return result.stderr + result.stdout


@pytest.fixture
def needs_mount() -> None:
    try:
        probe = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
        subprocess.run(probe, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no unprivileged mount namespaces here (unshare -rm; mount): {error}")


@pytest.mark.usefixtures("needs_mount")
def test_a_disk_that_fills_up_during_the_build() -> None:
    output = small_disk("", '"$1" -c "$2" /mnt/a/out; ls -A /mnt; df --output=used /mnt | tail -1')
    assert (
        "d2export.errors.OutputError: no space left for /mnt/a/.out.partial: "
        "No space left on device; 0.0 MB free on its disk" in output
    )
    assert "Free some space, or choose a path on another disk." in output
    assert output.splitlines()[-1].strip() == "0"  # all of it given back, and `ls` printed nothing


@pytest.mark.usefixtures("needs_mount")
def test_a_folder_on_a_read_only_file_system_is_not_writable() -> None:
    program = (
        "import sys; from pathlib import Path; from d2export.bundle.disk import writable\n"
        "with writable(Path('/mnt')): print('asked for nothing')\n"
    )
    output = small_disk(f'mount -o remount,ro /mnt && "$1" -c "{program}"', "#")
    assert "OutputError: cannot write /mnt: Read-only file system" in output
    assert "asked" not in output


def fill_half(folder: Path, *files: str) -> None:
    with writable(folder):
        for name in files:
            (folder / name).touch()
        raise ValueError("stop")


def test_a_folder_is_made_and_stays_only_for_files(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with pytest.raises(ValueError, match="stop"):
        fill_half(folder)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="stop"):
        fill_half(folder, "half")
    assert list(folder.iterdir()) == [folder / "half"]


@pytest.mark.usefixtures("needs_mount")
def test_a_read_only_file_system() -> None:
    output = small_disk("mount -o remount,ro /mnt &&", '"$1" -c "$2" /mnt/out')
    assert "OutputError: cannot write /mnt/out: Read-only file system" in output


@pytest.mark.usefixtures("needs_mount")
def test_a_mount_point_is_refused_before_the_work() -> None:
    output = small_disk("", '"$1" -c "$2" /mnt')
    assert "OutputError: output /mnt is a mount point" in output
    assert "Choose a folder in it: /mnt/bundle" in output


def test_a_file_too_large_for_its_file_system(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    result = subprocess.run(
        [sys.executable, "-c", FILL, tmp_path / "out"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )
    full = f"OutputError: no space left for {tmp_path}/.out.partial: File too large; "
    assert full in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_seen_behind_another_exception() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/elsewhere/cache")
    failure = RuntimeError("cannot save the model")
    failure.__cause__ = full
    with pytest.raises(OutputError) as caught:
        refuse_full_disk(failure, Path("out"))
    assert caught.value.problem.startswith("no space left for /elsewhere/cache: No space left")
    refuse_full_disk(RuntimeError("something else"), Path("out"))  # raises nothing


def test_deleting_a_build_does_not_touch_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(b"weights")
    folder = tmp_path / "out"
    folder.mkdir()
    os.link(tmp_path / "shard", folder / "shard")
    delete(folder)
    assert (tmp_path / "shard").read_bytes() == b"weights"
