"""TensorRT's headers, several versions side by side, to compile the plugin against.

    python scripts/tensorrt_headers.py list                  # which sets are there
    python scripts/tensorrt_headers.py check [VERSION ...]   # are they whole, what they claim to be
    python scripts/tensorrt_headers.py get VERSION           # download a set
    python scripts/tensorrt_headers.py get VERSION --from CLONE   # or take it from a git clone
    python scripts/tensorrt_headers.py parser VERSION        # add NvOnnxParser.h, for engines/tool

A set is the folder include/ of the public repository NVIDIA/TensorRT at a tag. It lies in
~/.cache/d2export/tensorrt/<version>/include (or --cache FOLDER), where CMake and the tests look.
A download is the archive of the whole repository, of which only the headers are written. Before
10.16 the parser's header is not among them but in onnx/onnx-tensorrt; that of 10.1 is written for
10.3 and 10.13, too.

Exit code 0: done; 1: a set is missing or damaged; 2: a wrong argument; 3: the source cannot be
read, or the cache not written.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO

TAGS = {
    "8.6.1": "v8.6.1",
    "10.3": "v10.3.0",
    "10.13": "v10.13.0",
    "10.16": "v10.16",
    "11.0": "v11.0",
    "11.1": "v11.1",
}
PARSER_TAGS = {
    "8.6.1": "release/8.6-GA",
    "10.3": "release/10.1-GA",
    "10.13": "release/10.1-GA",
}
CACHE = Path.home() / ".cache" / "d2export" / "tensorrt"
ARCHIVES = "https://codeload.github.com/NVIDIA/TensorRT/tar.gz/refs/tags"
PARSER_ARCHIVES = "https://codeload.github.com/onnx/onnx-tensorrt/tar.gz/refs/tags"
PARSER = "NvOnnxParser.h"
ENTRY = "NvInferRuntime.h"  # all that the plugin includes
LARGEST = 8 << 20  # bytes of one header; the largest known has 0.4 MB
SECONDS = 60  # without an answer


class Problem(Exception):
    """What is wrong and what to do, and the exit code that says so."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def include_folder(version: str, cache: Path = CACHE) -> Path:
    """Where the headers of a version belong."""
    return cache / version / "include"


def known_versions(cache: Path = CACHE) -> list[str]:
    """The versions that d2export is tested with, and what else is in the cache."""
    found = {folder.parent.name for folder in cache.glob("[0-9]*/include")}
    return [*TAGS, *sorted(found - TAGS.keys())]


def declared_version(include: Path) -> str | None:
    """What NvInferVersion.h says, such as 10.3.0."""
    header = include / "NvInferVersion.h"
    if not header.is_file():
        return None
    text = header.read_text(encoding="utf-8", errors="replace")
    numbers = []
    for place in ("MAJOR", "MINOR", "PATCH"):
        # A number after NV_TENSORRT_MAJOR, or after the name which that refers to from 10.13 on.
        define = rf"#define (?:NV_TENSORRT_{place}|TRT_{place}_ENTERPRISE)\s+(\d+)"
        match = re.search(define, text)
        if match is None:
            return None
        numbers.append(match[1])
    return ".".join(numbers)


def missing_headers(include: Path) -> list[str]:
    """What the headers that the plugin includes include in turn, and is not there."""
    seen: set[str] = set()
    waiting = [ENTRY]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if (include / name).is_file():
            text = (include / name).read_text(encoding="utf-8", errors="replace")
            waiting += re.findall(r'^\s*#\s*include\s+"(Nv\w+\.h)"', text, re.MULTILINE)
    return sorted(name for name in seen if not (include / name).is_file())


def fault(version: str, include: Path) -> str | None:
    """What is wrong with a set of headers that claims to be of this version."""
    if not include.is_dir():
        return f"missing: run python scripts/tensorrt_headers.py get {version}"
    declared = declared_version(include)
    if declared is None:
        return f"{include}/NvInferVersion.h is missing or declares no version"
    if f"{declared}.".startswith(f"{version}."):
        missing = missing_headers(include)
        return f"{include} lacks {', '.join(missing)}" if missing else None
    return f"{include} holds the headers of TensorRT {declared}, expected {version}"


def get(version: str, cache: Path, archives: str, clone: Path | None) -> Path:
    """Puts a set of headers into the cache: whole, checked, or not at all."""
    if version not in TAGS:
        known = ", ".join(TAGS)
        raise Problem(f"TensorRT {version} is not among the versions known here: {known}", 2)
    target = include_folder(version, cache)
    if target.exists():
        wrong = fault(version, target)
        if wrong is None:
            return target
        raise Problem(f"{wrong}\n  remove {target}, then get {version} again", 1)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent) as partial:
        include = Path(partial) / "include"
        archive = cloned(clone, TAGS[version]) if clone else downloaded(archives, TAGS[version])
        with archive as stream:
            extract(stream, include)
        wrong = fault(version, include)
        if wrong is not None:
            raise Problem(f"what was read is not what was asked for: {wrong}", 3)
        include.rename(target)
    return target


def get_parser(version: str, cache: Path, archives: str, clone: Path | None) -> Path:
    """Adds the parser's header to a set that has none."""
    include = include_folder(version, cache)
    wrong = fault(version, include)
    if wrong is not None:
        raise Problem(wrong, 1)
    target = include / PARSER
    if target.is_file():
        return target
    if version not in PARSER_TAGS:
        raise Problem(f"{include} lacks {PARSER}, which TensorRT {version} brings", 1)
    tag = PARSER_TAGS[version]
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=include) as partial:
        archive = cloned(clone, tag, PARSER) if clone else downloaded(archives, tag)
        with archive as stream:
            extract(stream, Path(partial), ())
        found = Path(partial) / PARSER
        if not found.is_file():
            raise Problem(f"what was read has no {PARSER} at the tag {tag}", 3)
        found.rename(target)
    return target


@contextmanager
def downloaded(archives: str, tag: str) -> Iterator[IO[bytes]]:
    """A repository at a tag, as a stream of tar.gz."""
    url = f"{archives.rstrip('/')}/{tag}"
    print(f"reading {url} ...", file=sys.stderr, flush=True)
    advice = "check the network, or clone NVIDIA/TensorRT elsewhere and use --from CLONE"
    try:
        response = urllib.request.urlopen(url, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        answer = f"{error.code} {error.reason}"
        raise Problem(f"{url} answered {answer}, expected an archive\n  {advice}", 3) from error
    except (OSError, ValueError) as error:
        raise Problem(f"{url} cannot be read: {error}\n  {advice}", 3) from error
    with response:
        yield response


@contextmanager
def cloned(clone: Path, tag: str, what: str = "include") -> Iterator[IO[bytes]]:
    """The headers at a tag of a local clone, laid out as in the download."""
    command = ["git", "-C", str(clone), "archive", "--format=tar", "--prefix=TensorRT/"]
    done = subprocess.run([*command, f"refs/tags/{tag}", what], capture_output=True, check=False)
    if done.returncode != 0:
        repository = "NVIDIA/TensorRT" if what == "include" else "onnx/onnx-tensorrt"
        said = done.stderr.decode(errors="replace").strip()
        raise Problem(
            f"{clone} has no {what} at the tag {tag}: git says '{said}'\n"
            f"  expected a clone of {repository}; git -C {clone} fetch --tags may help",
            3,
        )
    yield io.BytesIO(done.stdout)


def extract(stream: IO[bytes], include: Path, below: tuple[str, ...] = ("include",)) -> None:
    """Writes the headers of an archive to `include`, and nothing else of it, nowhere else.

    Args:
        below: the folder of the repository that holds them; nothing: the parser's lies at its top.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                inside = path.parts[1:]
                if below:
                    wanted = path.suffix == ".h" and inside[: len(below)] == below
                else:
                    wanted = inside == (PARSER,)
                if not wanted or not member.isreg() or ".." in path.parts:
                    continue
                if member.size > LARGEST:
                    size = f"{member.size} bytes, expected at most {LARGEST}"
                    raise Problem(f"the archive's {member.name} has {size}", 3)
                content = archive.extractfile(member)
                if content is not None:
                    file = include.joinpath(*inside[len(below) :])
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(content.read())
    except (tarfile.TarError, EOFError, HTTPException, ConnectionError, TimeoutError) as error:
        raise Problem(f"the archive is damaged or cut short: {error}\n  try again", 3) from error


def describe(version: str, cache: Path) -> tuple[str, bool]:
    """A line about a set, and whether it is good."""
    include = include_folder(version, cache)
    wrong = fault(version, include)
    good = f"TensorRT {declared_version(include)} in {include}"
    return f"{version:<7} {wrong or good}", wrong is None


def run(arguments: argparse.Namespace) -> int:
    if arguments.command == "get":
        url = arguments.url or ARCHIVES
        target = get(arguments.version, arguments.cache, url, arguments.clone)
        print(f"TensorRT {declared_version(target)} in {target}")
        return 0
    if arguments.command == "parser":
        url = arguments.url or PARSER_ARCHIVES
        print(get_parser(arguments.version, arguments.cache, url, arguments.clone))
        return 0
    versions = getattr(arguments, "versions", None) or known_versions(arguments.cache)
    lines = [describe(version, arguments.cache) for version in versions]
    print("\n".join(line for line, _ in lines))
    return int(arguments.command == "check" and not all(good for _, good in lines))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    top.add_argument("--cache", type=Path, default=CACHE, metavar="FOLDER")
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="which sets are there")
    check = commands.add_parser("check", help="exit 1 where one is missing or damaged")
    check.add_argument("versions", nargs="*", metavar="VERSION")
    for name, what in (("get", "put a set into the cache"), ("parser", f"add {PARSER} to it")):
        getting = commands.add_parser(name, help=what)
        getting.add_argument("version", metavar="VERSION", help=", ".join(TAGS))
        getting.add_argument("--from", dest="clone", type=Path, metavar="CLONE", help="a git clone")
        getting.add_argument("--url", help="where <URL>/<tag> is a tar.gz")
    return top


def main() -> int:
    try:
        return run(parser().parse_args())
    except Problem as problem:
        print(f"tensorrt_headers: {problem}", file=sys.stderr)
        return problem.code
    except OSError as error:
        print(f"tensorrt_headers: the cache cannot be written: {error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
