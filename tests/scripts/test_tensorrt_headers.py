"""scripts/tensorrt_headers.py on made-up headers, from a server on this machine or a clone."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "tensorrt_headers.py"

OLD_VERSION = "#define NV_TENSORRT_MAJOR 10 //!< major\n#define NV_TENSORRT_MINOR 3\n"
OLD_VERSION += "#define NV_TENSORRT_PATCH 0\n"
NEW_VERSION = "".join(
    f"#define TRT_{place}_ENTERPRISE {number}\n#define NV_TENSORRT_{place} TRT_{place}_ENTERPRISE\n"
    for place, number in (("MAJOR", 11), ("MINOR", 1), ("PATCH", 0))
)
RUNTIME = '#include <cstdint>\n#include "NvInferImpl.h" // IWYU pragma: export\n'
HEADERS = {
    "NvInferRuntime.h": RUNTIME,
    "NvInferImpl.h": '#include "NvInferVersion.h"\n',
    "NvInferVersion.h": OLD_VERSION,
}

Files = dict[str, str]


def archive(files: Files) -> bytes:
    """A tar.gz of these paths."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for path, text in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return content.getvalue()


def repository(headers: Files) -> Files:
    """Headers where GitHub's archives have them, among other files."""
    around = {"TensorRT-10.3.0/demo/a.py": "x", "TensorRT-10.3.0/samples/include/other.h": "x"}
    return around | {f"TensorRT-10.3.0/include/{name}": text for name, text in headers.items()}


class Server:
    """Answers a path with bytes, everything else with 404."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                answer = server.answers.get(self.path)
                self.send_response(404 if answer is None else 200)
                self.send_header("Content-Length", str(len(answer or b"")))
                self.end_headers()
                self.wfile.write(answer or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    Thread(target=running.http.serve_forever, daemon=True).start()
    yield running
    running.http.shutdown()
    running.http.server_close()


def call(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--cache", str(cache), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write(cache: Path, version: str, headers: Files) -> Path:
    include = cache / version / "include"
    include.mkdir(parents=True)
    for name, text in headers.items():
        (include / name).write_text(text)
    return include


def contents(folder: Path) -> Files:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_get_downloads_the_headers_and_nothing_else(tmp_path, server):
    deeper = HEADERS | {"impl/NvInferPythonPlugin.h": "// deeper\n"}
    server.answers["/v10.3.0"] = archive(repository(deeper | {"README.md": "no header"}))
    done = call(tmp_path, "get", "10.3", "--url", server.url)
    assert done.returncode == 0, done.stderr
    assert server.asked == ["/v10.3.0"]
    assert contents(tmp_path) == {f"10.3/include/{name}": text for name, text in deeper.items()}
    assert done.stdout == f"TensorRT 10.3.0 in {tmp_path}/10.3/include\n"


def test_get_leaves_a_good_set_alone(tmp_path, server):
    write(tmp_path, "10.3", HEADERS)
    assert call(tmp_path, "get", "10.3", "--url", server.url).returncode == 0
    assert server.asked == []


def test_get_does_not_replace_a_damaged_set(tmp_path, server):
    include = write(tmp_path, "10.3", {"NvInferRuntime.h": RUNTIME})
    done = call(tmp_path, "get", "10.3", "--url", server.url)
    assert done.returncode == 1
    assert f"remove {include}" in done.stderr
    assert contents(include) == {"NvInferRuntime.h": RUNTIME}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "404"),
        (b"<html>not an archive</html>", "damaged or cut short"),
        (archive(repository(HEADERS))[:-60], "damaged or cut short"),
        (archive({"TensorRT/README.md": "x"}), "missing"),
        (archive(repository(HEADERS | {"NvInferVersion.h": NEW_VERSION})), "TensorRT 11.1.0"),
        (archive(repository({"NvInferVersion.h": OLD_VERSION})), "lacks NvInferRuntime.h"),
        (archive(repository(HEADERS | {"Big.h": "x" * (8 << 20) + "x"})), "8388609 bytes"),
    ],
    ids=["no tag", "no archive", "cut short", "no headers", "other version", "no entry", "large"],
)
def test_a_bad_download_leaves_nothing(tmp_path, server, answer, says):
    if answer is not None:
        server.answers["/v10.3.0"] = answer
    done = call(tmp_path, "get", "10.3", "--url", server.url)
    assert done.returncode == 3
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(tmp_path) == {}
    assert list((tmp_path / "10.3").iterdir()) == []


@pytest.mark.parametrize(
    "path", ["TensorRT/include/../../../../out.h", "TensorRT/include/a/../b.h"]
)
def test_an_archive_cannot_write_elsewhere(tmp_path, server, path):
    server.answers["/v10.3.0"] = archive(repository(HEADERS) | {path: "x"})
    cache = tmp_path / "deep" / "er" / "cache"
    assert call(cache, "get", "10.3", "--url", server.url).returncode == 0
    assert sorted(contents(tmp_path)) == [
        f"deep/er/cache/10.3/include/{name}" for name in sorted(HEADERS)
    ]


def test_links_in_an_archive_are_left_out(tmp_path, server):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        link = tarfile.TarInfo("TensorRT-10.3.0/include/link.h")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
        for path, text in repository(HEADERS).items():
            member = tarfile.TarInfo(path)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    server.answers["/v10.3.0"] = content.getvalue()
    assert call(tmp_path, "get", "10.3", "--url", server.url).returncode == 0
    assert contents(tmp_path / "10.3" / "include") == HEADERS


def test_a_server_that_is_not_there(tmp_path):
    done = call(tmp_path, "get", "10.3", "--url", "http://127.0.0.1:1")
    assert done.returncode == 3
    assert "Connection refused" in done.stderr
    assert "--from CLONE" in done.stderr


def test_get_takes_the_headers_from_a_clone(tmp_path):
    clone, cache = tmp_path / "clone", tmp_path / "cache"
    write(clone, ".", HEADERS)
    git = ["git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"], ["tag", "v10.3.0"]):
        subprocess.run([*git, *command], check=True)
    assert call(cache, "get", "10.3", "--from", str(clone)).returncode == 0
    assert contents(cache / "10.3" / "include") == HEADERS
    done = call(cache, "get", "10.13", "--from", str(clone))
    assert done.returncode == 3
    assert f"{clone} has no include at the tag v10.13.0" in done.stderr


def test_get_refuses_a_version_it_does_not_know(tmp_path):
    done = call(tmp_path, "get", "9.9")
    assert done.returncode == 2
    assert "TensorRT 9.9" in done.stderr
    assert "8.6.1, 10.3, 10.13, 10.16, 11.0, 11.1" in done.stderr


def test_list_names_what_is_missing_and_what_else_is_there(tmp_path):
    write(tmp_path, "11.1", HEADERS | {"NvInferVersion.h": NEW_VERSION})
    write(tmp_path, "10.3.0", HEADERS)
    done = call(tmp_path, "list")
    assert done.returncode == 0
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert list(lines) == ["8.6.1", "10.3", "10.13", "10.16", "11.0", "11.1", "10.3.0"]
    assert lines["10.13"] == "missing: run python scripts/tensorrt_headers.py get 10.13"
    assert lines["11.1"] == f"TensorRT 11.1.0 in {tmp_path}/11.1/include"
    assert lines["10.3.0"] == f"TensorRT 10.3.0 in {tmp_path}/10.3.0/include"


@pytest.mark.parametrize(
    ("version", "headers", "says"),
    [
        ("10.13", HEADERS, "TensorRT 10.3.0, expected 10.13"),
        ("10.30", HEADERS, "TensorRT 10.3.0, expected 10.30"),
        ("1", HEADERS, "TensorRT 10.3.0, expected 1\n"),
        ("10.3", {}, "declares no version"),
        ("10.3", HEADERS | {"NvInferVersion.h": "#define NV_TENSORRT_MAJOR 10\n"}, "no version"),
        ("10.3", {"NvInferVersion.h": OLD_VERSION, "NvInferRuntime.h": RUNTIME}, "NvInferImpl.h"),
    ],
)
def test_check_finds_a_set_that_is_not_what_it_claims(tmp_path, version, headers, says):
    write(tmp_path, version, headers)
    done = call(tmp_path, "check", version)
    assert done.returncode == 1
    assert says in done.stdout


def test_check_passes_what_is_whole(tmp_path):
    write(tmp_path, "10.3", HEADERS)
    assert call(tmp_path, "check", "10.3").returncode == 0
    assert call(tmp_path, "check").returncode == 1  # the others are missing


PARSER_HEADER = "class IParser;\n"


def test_the_parsers_header_joins_a_set(tmp_path, server):
    include = write(tmp_path, "10.3", HEADERS)
    files = {"onnx-tensorrt-x/NvOnnxParser.h": PARSER_HEADER, "onnx-tensorrt-x/other.h": "x"}
    server.answers["/release/10.1-GA"] = archive(
        files | {"onnx-tensorrt-x/deep/NvOnnxParser.h": "x"}
    )
    for _ in range(2):
        done = call(tmp_path, "parser", "10.3", "--url", server.url)
        assert (done.returncode, done.stdout) == (0, f"{include}/NvOnnxParser.h\n"), done.stderr
    assert server.asked == ["/release/10.1-GA"]
    assert contents(include) == HEADERS | {"NvOnnxParser.h": PARSER_HEADER}


def test_the_parsers_header_from_a_clone(tmp_path):
    clone, cache = tmp_path / "clone", tmp_path / "cache"
    include = write(cache, "10.3", HEADERS)
    clone.mkdir()
    (clone / "NvOnnxParser.h").write_text(PARSER_HEADER)
    git = ["git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=a@b"]
    tag = ["tag", "release/10.1-GA"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"], tag):
        subprocess.run([*git, *command], check=True)
    assert call(cache, "parser", "10.3", "--from", str(clone)).returncode == 0
    assert (include / "NvOnnxParser.h").read_text() == PARSER_HEADER
    (include / "NvOnnxParser.h").unlink()
    subprocess.run([*git, "tag", "-d", "release/10.1-GA"], check=True, capture_output=True)
    done = call(cache, "parser", "10.3", "--from", str(clone))
    assert done.returncode == 3
    assert "has no NvOnnxParser.h at the tag release/10.1-GA" in done.stderr
    assert "expected a clone of onnx/onnx-tensorrt" in done.stderr
    assert contents(include) == HEADERS


def test_no_set_to_add_the_parsers_header_to(tmp_path, server):
    done = call(tmp_path, "parser", "10.3", "--url", server.url)
    assert done.returncode == 1
    assert "run python scripts/tensorrt_headers.py get 10.3" in done.stderr
    write(tmp_path, "11.1", HEADERS | {"NvInferVersion.h": NEW_VERSION})
    done = call(tmp_path, "parser", "11.1", "--url", server.url)
    assert done.returncode == 1
    assert "lacks NvOnnxParser.h, which TensorRT 11.1 brings" in done.stderr
    write(tmp_path, "10.3", HEADERS)
    server.answers["/release/10.1-GA"] = archive({"onnx-tensorrt-x/other.h": "x"})
    done = call(tmp_path, "parser", "10.3", "--url", server.url)
    assert done.returncode == 3
    assert "what was read has no NvOnnxParser.h" in done.stderr
    assert server.asked == ["/release/10.1-GA"]
