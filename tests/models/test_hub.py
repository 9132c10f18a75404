"""huggingface_hub itself downloads from a small hub on this machine, in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.small_checkpoints import write_small_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "some-org/InternVL-small"
PICKLED = "some-org/llava-pickled"
GATED = "some-org/gated"
INDEX = "model.safetensors.index.json"
LLM_SHARD = "model-00004-of-00003.safetensors"

NEVER = {
    "modeling_internvl_chat.py": "import os",
    "pytorch_model.bin": "pickle",
    "pytorch_model.bin.index.json": "{}",
    "training_args.pt": "pickle",
    "README.md": "# model",
    "examples/image1.json": "{}",
    LLM_SHARD: "the language model",
}
SMALL = {
    "generation_config.json": "{}",
    "tokenizer.json": "{}",
    "tokenizer.model": "sentencepiece",
    "tokenizer_config.json": "{}",
    "merges.txt": "a b",
}

CLIENT = """
import json, sys
import huggingface_hub.constants
from d2export.errors import D2ExportError
from d2export.models.checkpoint import find_checkpoint
# The default, 10 MB, would lose all of a small file when the connection drops in the middle.
huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 4096
try:
    model, revision, scope = sys.argv[1:]
    found = find_checkpoint(model, print, revision=revision or None, scope=scope)
except D2ExportError as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(json.dumps([str(found.folder), found.spec.name, found.spec.hub_id, found.revision,
                  len(found.tensors)]))
"""


@dataclass
class Hub:
    """What a server on 127.0.0.1 offers, and what was asked of it."""

    repos: dict[str, dict[str, bytes]]
    url: str = ""
    drop_once: str | None = None  # the connection drops in the middle of this file, once
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    def downloaded(self) -> set[str]:
        return {
            path.split(f"/{COMMIT}/")[-1].split("/main/")[-1]
            for method, path, _ in self.requests
            if method == "GET" and "/resolve/" in path
        }


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        hub, path = self.hub, self.path.split("?")[0]
        hub.requests.append((self.command, path, self.headers.get("Range")))
        found = re.fullmatch(r"/api/models/(.+?/.+?)(?:/revision/(.+))?", path) or re.fullmatch(
            r"/(.+?/.+?)/resolve/([^/]+)/(.+)", path
        )
        repo = found[1] if found else ""
        if found is None or repo not in hub.repos:
            return self.send(404, {"X-Error-Code": "RepoNotFound"})
        if repo == GATED:
            return self.send(403, {"X-Error-Code": "GatedRepo"})
        if found[2] not in (None, "main", COMMIT):
            return self.send(404, {"X-Error-Code": "RevisionNotFound"})
        files = hub.repos[repo]
        if path.startswith("/api/"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
            info = {"id": repo, "sha": COMMIT, "siblings": siblings}
            return self.send(200, {"Content-Type": "application/json"}, json.dumps(info).encode())
        name = found[3]
        if name not in files:
            return self.send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        data = files[name]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(asked[1]) if asked else 0
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        drop = self.command == "GET" and hub.drop_once == name
        if drop:
            hub.drop_once = None
        return self.send(206 if asked else 200, headers, data[start:], drop=drop)

    def send(
        self, status: int, headers: dict[str, str], body: bytes = b"", *, drop: bool = False
    ) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 2] if drop else body)
        if drop:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    folder = write_small_checkpoint(tmp_path / "repo", "internvl", sharded=True)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["language_model.model.layers.0.mlp.up_proj.weight"] = LLM_SHARD
    (folder / INDEX).write_text(json.dumps(index))
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    # equal contents would be downloaded once: the library knows files by their hash
    files |= {name: f"{text} {name}".encode() for name, text in (NEVER | SMALL).items()}
    pickled = {"config.json": b"{}", "pytorch_model-00001-of-00002.bin": b"pickle"}
    hub = Hub({REPO: files, PICKLED: pickled, GATED: {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield hub
    server.shutdown()
    thread.join()
    server.server_close()


def find(
    model: str, tmp_path: Path, url: str, revision: str = "", scope: str = "vision", **env: str
) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", CLIENT, model, revision, scope],
        env={
            **inherited,
            "HF_ENDPOINT": url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
            **env,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_only_what_is_needed_is_fetched(tmp_path: Path, hub: Hub) -> None:
    run = find(REPO, tmp_path, hub.url)
    assert run.returncode == 0, run.stderr
    *lines, last = run.stdout.splitlines()
    folder, name, hub_id, revision, tensors = json.loads(last)
    assert (name, hub_id, revision) == (REPO, REPO, COMMIT)
    assert Path(folder).name == COMMIT
    assert tensors == len(json.loads(hub.repos[REPO][INDEX])["weight_map"]) - 1

    shards = {f"model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)}
    assert hub.downloaded() == {"config.json", INDEX, *shards, *SMALL}
    asked_for = {path for _, path, _ in hub.requests}
    assert not [path for path in asked_for if path.endswith((".py", ".bin", ".pt", LLM_SHARD))]
    assert {path.name for path in Path(folder).iterdir()} == hub.downloaded()
    # plain lines, and no bars, because standard error is no terminal
    assert lines[0] == f"looking for {REPO} on the hub"
    assert re.fullmatch(r"file 1 of 10: .+, \d+\.\d MB", lines[1])
    assert "%|" not in run.stderr


def test_scope_vlm_fetches_the_shards_of_the_language_model_too(tmp_path: Path, hub: Hub) -> None:
    run = find(REPO, tmp_path, hub.url, scope="vlm")
    shards = {f"model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)}
    assert hub.downloaded() == {"config.json", INDEX, *shards, *SMALL, LLM_SHARD}
    # It was read, and is not what it says: here it is a line of text.
    assert re.search(rf"CheckpointError: '.*/{LLM_SHARD}' is not a valid safetensors", run.stderr)


def test_an_interrupted_download_resumes_where_it_stopped(tmp_path: Path, hub: Hub) -> None:
    name = "model-00001-of-00003.safetensors"
    hub.drop_once = name
    run = find(REPO, tmp_path, hub.url)
    assert run.returncode == 0, run.stderr
    ranges = [r for method, path, r in hub.requests if method == "GET" and path.endswith(name)]
    assert ranges[0] is None
    assert len(ranges) == 2
    start = int(str(ranges[1]).removeprefix("bytes=").removesuffix("-"))
    size = len(hub.repos[REPO][name])
    assert 0 < start <= size // 2
    folder = json.loads(run.stdout.splitlines()[-1])[0]
    assert (Path(folder) / name).read_bytes() == hub.repos[REPO][name]


def test_a_second_call_downloads_nothing_and_works_offline(tmp_path: Path, hub: Hub) -> None:
    first = find(REPO, tmp_path, hub.url)
    hub.requests.clear()
    second = find(REPO, tmp_path, hub.url)
    assert hub.downloaded() == set()
    offline = find(REPO, tmp_path, hub.url, HF_HUB_OFFLINE="1")
    for run in (second, offline):
        assert run.returncode == 0, run.stderr
        assert run.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    assert "no connection to the hub" in offline.stdout
    assert "no connection" not in second.stdout


@pytest.mark.parametrize(
    ("repo", "revision", "problem"),
    [
        ("some-org/nothing", "", "CheckpointError: there is no repository 'some-org/nothing'"),
        (REPO, "v9", f"CheckpointError: {REPO} at revision v9 does not exist"),
        (GATED, "", f"CheckpointError: access to {GATED} has to be granted"),
        (PICKLED, "", f"CheckpointError: '{PICKLED}' has its weights only as pickles"),
    ],
)
def test_what_is_not_there_is_named(
    tmp_path: Path, hub: Hub, repo: str, revision: str, problem: str
) -> None:
    run = find(repo, tmp_path, hub.url, revision)
    assert run.returncode == 1
    assert run.stderr.startswith(problem), run.stderr
    assert "Traceback" not in run.stderr
    assert not any(path.endswith(".bin") for _, path, _ in hub.requests)


@pytest.mark.parametrize("offline", ["0", "1"])
def test_without_a_connection_the_next_step_is_given(tmp_path: Path, offline: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    run = find(REPO, tmp_path, url, HF_HUB_OFFLINE=offline)
    message = run.stderr.strip().splitlines()
    assert message[-2].startswith(f"EnvironmentMismatch: cannot download {REPO} from {url}: ")
    assert "pass the folder as --model" in message[-1]
    assert "Traceback" not in run.stderr
