from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from d2export.bundle.folder import read_bundle
from d2export.bundle.lock import lock
from d2export.bundle.staging import staged
from d2export.errors import OutputError
from tests.sample_bundle import write_sample

ROOT = Path(__file__).parent.parent
LIMITED_ROOT = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def refused(out: Path, *, force: bool = False, need_bytes: int = 0) -> str:
    with (
        pytest.raises(OutputError) as caught,
        staged(out, force=force, need_bytes=need_bytes) as folder,
    ):
        write_sample(folder)
    assert caught.value.hint
    return caught.value.problem


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def build(out: Path, *, note: str = "", force: bool = False) -> None:
    with staged(out, force=force) as folder:
        write_sample(folder)
        (folder / "build.log").write_text(note)


def build_half(out: Path, *, then: Callable[[], object], force: bool = False) -> None:
    """A build during which something else happens."""
    with staged(out, force=force) as folder:
        write_sample(folder)
        then()


def stop() -> None:
    raise ValueError("stop")


def start(out: Path, body: str) -> subprocess.Popen[str]:
    """Another process that builds `out` and runs `body` half-way; returns when it says a word."""
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from d2export.bundle.staging import staged\n"
        "from tests.sample_bundle import write_sample\n"
        "with staged(Path(sys.argv[1])) as folder:\n"
        "    write_sample(folder)\n"
        "    print('working', flush=True)\n"
        f"    {body}\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, out],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


def test_the_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staged(out) as folder:
        assert folder == tmp_path / ".out.partial"
        assert (folder / ".building").read_text() == str(os.getpid())
        write_sample(folder)
        assert not out.exists()
    read_bundle(out)
    assert names(tmp_path) == ["out"]
    assert ".building" not in names(out)


def test_missing_parents_are_made(tmp_path: Path) -> None:
    build(tmp_path / "a" / "b" / "out")
    read_bundle(tmp_path / "a/b/out")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_nothing_is_left_when_the_block_raises(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    (tmp_path / "kept").mkdir()
    with pytest.raises(error):
        build_half(tmp_path / "kept" / "a" / "b" / "out", then=fail)
    assert names(tmp_path / "kept") == []


def test_a_parent_that_somebody_else_uses_stays(tmp_path: Path) -> None:
    def use_parent() -> None:
        (tmp_path / "a" / "other").touch()
        stop()

    with pytest.raises(ValueError, match="stop"):
        build_half(tmp_path / "a" / "out", then=use_parent)
    assert names(tmp_path / "a") == ["other"]


def test_an_os_error_of_the_block_is_not_about_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        build_half(tmp_path / "out", then=(tmp_path / "no such file").read_text)


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    build(tmp_path / "out")
    read_bundle(tmp_path / "out")


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "out")
    build(tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    read_bundle(tmp_path / "disk" / "out")


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    assert refused(tmp_path / "out", force=True).endswith("exists and is no folder")
    assert (tmp_path / "out").read_text() == "mine"
    assert names(tmp_path) == ["out"]


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    problem = refused(tmp_path / "out", force=True)
    assert problem.endswith("is not empty and not a bundle, so it will not be deleted")
    assert names(tmp_path / "out") == ["thesis.tex"]


def test_a_bundle_is_replaced_only_by_force(tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(out, note="first")
    (out / "engines").mkdir()
    assert refused(out).endswith("already holds a bundle")
    assert (out / "build.log").read_text() == "first"
    build(out, note="second", force=True)
    assert (out / "build.log").read_text() == "second"
    assert "engines" not in names(out)
    assert names(tmp_path) == ["out"]


def test_the_old_bundle_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    def read_and_stop() -> None:
        read_bundle(tmp_path / "out")
        stop()

    build(tmp_path / "out", note="first")
    with pytest.raises(ValueError, match="stop"):
        build_half(tmp_path / "out", then=read_and_stop, force=True)
    assert (tmp_path / "out" / "build.log").read_text() == "first"
    assert names(tmp_path) == ["out"]


def test_what_appeared_during_the_build_is_not_replaced(tmp_path: Path) -> None:
    def occupy() -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").touch()

    with pytest.raises(OutputError, match="is not empty and not a bundle"):
        build_half(tmp_path / "out", then=occupy, force=True)
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["mine"]


def test_a_replacement_that_fails_half_way_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    build(out, note="first")
    rename = Path.rename

    def broken(self: Path, target: Path) -> Path:
        if self.name == ".out.partial":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", broken)
    assert refused(out, force=True) == f"cannot write {out}: Permission denied"
    assert (out / "build.log").read_text() == "first"
    assert names(tmp_path) == ["out"]


def test_a_replacement_killed_between_its_renames_is_undone_by_the_next_build(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    build(out, note="first")
    out.rename(tmp_path / ".out.replaced")
    assert refused(out).endswith("already holds a bundle")
    assert (out / "build.log").read_text() == "first"
    assert names(tmp_path) == ["out"]


def test_while_the_old_bundle_is_being_deleted_no_other_build_starts(tmp_path: Path) -> None:
    old = write_sample(tmp_path / ".out.replaced")
    descriptor = lock(old, tmp_path / "out")
    assert descriptor is not None
    assert refused(tmp_path / "out") == f"another build is writing to {tmp_path}/out"
    os.close(descriptor)
    assert names(tmp_path) == [".out.replaced"]


def test_a_replacement_killed_while_deleting_is_ended_by_the_next_build(tmp_path: Path) -> None:
    old = write_sample(tmp_path / ".out.replaced")
    (old / ".building").touch()
    (old / "onnx" / "vision.onnx").unlink()  # half deleted, so it must not come back
    build(tmp_path / "out", note="new")
    assert names(tmp_path) == ["out"]
    read_bundle(tmp_path / "out")


def test_the_current_folder_its_parents_and_the_root_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out in (".", "..", "/", "", "../here", str(tmp_path)):
        assert refused(Path(out), force=True).endswith("is the current folder or one above it")


@pytest.mark.parametrize(
    ("out", "problem"),
    [
        ("/proc/out", "cannot write /proc/out: No such file or directory"),
        ("/proc", "output /proc is a mount point"),
        ("/dev/null/out", "/dev/null is a file, expected a folder"),
        ("a\0b", "output a\0b is no path: "),
        ("x" * 256, "File name too long"),
        ("x" * 250, "File name too long"),  # with `.partial`
        ("y/" * 3000 + "out", "File name too long"),
    ],
)
def test_paths_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert problem in refused(Path(out))
    assert names(tmp_path) == []


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    problem = refused(tmp_path / "file" / "a" / "out")
    assert problem == f"{tmp_path}/file is a file, expected a folder"


def test_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "out")
    assert "out" in refused(tmp_path / "out")
    assert names(tmp_path) == ["out"]


def test_a_parent_without_write_permission(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir(mode=0o500)
    program = (
        "import sys; from pathlib import Path; from d2export.bundle.staging import staged\n"
        "with staged(Path(sys.argv[1])): pass"
    )
    user = LIMITED_ROOT if os.geteuid() == 0 else []  # root would not be stopped by the mode
    result = subprocess.run(
        [*user, sys.executable, "-c", program, parent / "out"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert f"OutputError: cannot write {parent}/out: Permission denied" in result.stderr
    assert names(parent) == []


def test_too_little_space_is_refused_at_once(tmp_path: Path) -> None:
    problem = refused(tmp_path / "a" / "out", need_bytes=10**18)
    assert problem.startswith(f"no space for {tmp_path}/a/out: 1000000000.00 GB needed, ")
    assert problem.endswith(" free")
    assert names(tmp_path) == []


def test_a_second_build_to_the_same_path_fails_at_once(tmp_path: Path) -> None:
    first = start(tmp_path / "out", "time.sleep(60)")
    try:
        before = time.monotonic()
        problem = refused(tmp_path / "out")
        assert time.monotonic() - before < 1
        assert problem == f"another build is writing to {tmp_path}/out (pid {first.pid})"
        assert (tmp_path / ".out.partial" / "manifest.json").exists()
    finally:
        first.kill()
        first.communicate()


def test_a_folder_renamed_while_it_is_being_locked_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    flock = fcntl.flock

    def too_late(descriptor: int, operation: int) -> None:
        folder.rename(tmp_path / "renamed")
        folder.mkdir()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", too_late)
    assert lock(folder, tmp_path / "out") is None


def test_an_interrupted_process_leaves_nothing(tmp_path: Path) -> None:
    process = start(tmp_path / "a" / "out", "time.sleep(60)")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert names(tmp_path) == []


def test_a_killed_process_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    process = start(tmp_path / "out", "time.sleep(60)")
    process.kill()
    process.communicate()
    assert names(tmp_path) == [".out.partial"]
    (tmp_path / ".out.partial" / "stale").touch()
    build(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert "stale" not in names(tmp_path / "out")
    read_bundle(tmp_path / "out")


def test_a_build_killed_just_before_the_rename_is_done_again(tmp_path: Path) -> None:
    write_sample(tmp_path / ".out.partial")  # complete, and its mark removed
    build(tmp_path / "out", note="again")
    assert (tmp_path / "out" / "build.log").read_text() == "again"


def test_a_folder_of_that_name_that_no_build_left_stays(tmp_path: Path) -> None:
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "mine").touch()
    assert refused(tmp_path / "out").endswith("is in the way, and no build of d2export left it")
    assert names(tmp_path / ".out.partial") == ["mine"]


def test_many_processes_on_one_path_never_mix(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from d2export.errors import OutputError; from d2export.bundle.staging import staged\n"
        "from tests.sample_bundle import write_sample\n"
        "done = 0\n"
        "while done < 15:\n"
        "    try:\n"
        "        with staged(Path(sys.argv[1]), force=True) as folder:\n"
        "            write_sample(folder)\n"
        "            assert len(list(folder.rglob('*'))) == 13\n"
        "        done += 1\n"
        "    except OutputError as error:\n"
        "        assert 'another build is writing' in str(error), error\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, tmp_path / "out"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for _ in range(3)
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert names(tmp_path) == ["out"]
    read_bundle(tmp_path / "out")


def test_kills_at_random_moments_leave_a_bundle_or_none(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from d2export.bundle.staging import staged\n"
        "from tests.sample_bundle import write_sample\n"
        "print('working', flush=True)\n"
        "while True:\n"
        "    with staged(Path(sys.argv[1]), force=True) as folder: write_sample(folder)\n"
    )
    rng = random.Random(0)
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", program, tmp_path / "out"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.random() * 0.1)
        process.kill()
        process.communicate()
        if (tmp_path / "out").exists():
            read_bundle(tmp_path / "out")
    build(tmp_path / "out", force=True)
    assert names(tmp_path) == ["out"]
