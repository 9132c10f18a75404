"""A small bundle with every kind of entry, for tests about the format. Its graphs are no ONNX."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from d2export.bundle.folder import file_entries, file_entry, read_bundle, write_manifest
from d2export.bundle.manifest import Manifest
from d2export.bundle.records import (
    FileEntry,
    Graph,
    Graphs,
    Model,
    Prior,
    PromptEmbedding,
    Reference,
    Selector,
    Tolerances,
    Tool,
    Value,
    Weights,
)
from d2export.models.presets import POCKET_VIT, preset

POCKET_TEXT = preset("pocket").text
CONTENT = {
    "onnx/vision.onnx": b"the vision graph",
    "onnx/prune.onnx": b"the op alone",
    "onnx/model.safetensors": bytes(range(200)),
    "processor/tokenizer.json": b"{}",
    "reference/photo.npz": b"numbers",
    "pictures/photo.png": b"a picture",
}
USED_RANGES = {"onnx/model.safetensors": [(16, 48), (100, 200)]}


def sample_manifest(files: dict[str, FileEntry]) -> Manifest:
    features = Value("features", "float32", (1, "tokens", 192))
    indices = Value("kept_indices", "int32", ("kept",))
    return Manifest(
        schema=3,
        tool=Tool("d2export", "0.1.0"),
        scope="vision",
        model=Model("pocket", "internvl", "random", None, None, 7, False, POCKET_VIT, POCKET_TEXT),
        selector=Selector(
            name="d2",
            importance="text",
            keep=64,
            keep_permille=None,
            min_keep=None,
            max_keep=None,
            budget="image",
            settings={
                "pivot_ratio": 0.7,
                "alpha": 0.5,
                "theta": 0.8,
                "eps": 1e-7,
                "pivots_block": False,
            },
            importance_layer=None,
            prune_layer=None,
            position_ids="original",
            prior=Prior(
                "file", None, "ab" * 32, {"images": 1000, "prompt": "Describe the picture."}
            ),
        ),
        precision="fp16",
        opset=17,
        graphs=Graphs(
            vision=Graph("onnx/vision.onnx", (features,), (indices,)),
            decoder=None,
            prune=Graph("onnx/prune.onnx", (features,), (indices,)),
        ),
        layers=("layers.0.output", "layers.1.output"),
        weights=Weights("linked", "/models/pocket"),
        prompt_embedding=PromptEmbedding("onnx/model.safetensors", 16, "float16", (4, 8)),
        references=(Reference("photo", "reference/photo.npz", 3, 768, "pictures/photo.png"),),
        tolerances=Tolerances(1e-3, 1e-3, 0.99),
        versions={"python": "3.11.2", "torch": "2.13.0"},
        files=files,
    )


def write_sample(folder: Path) -> Path:
    """Fill `folder`; the result reads without an error."""
    for relative, content in CONTENT.items():
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "build.log").write_text("not listed in the manifest\n")
    write_manifest(folder, sample_manifest(file_entries(folder, USED_RANGES)))
    return folder


def edit(folder: Path, keys: tuple[str | int, ...], value: object) -> None:
    """Set one value deep in manifest.json and renew the digest, as somebody who means it would."""
    path = folder / "manifest.json"
    document: Any = json.loads(path.read_text())
    inner = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(sign(document)))


def renew(bundle: Path, changed: str) -> None:
    """Let the manifest say what a file holds now, as somebody who means it would."""
    manifest = read_bundle(bundle, verify=False).manifest
    entry = file_entry(bundle / changed, manifest.files[changed].ranges)
    write_manifest(bundle, replace(manifest, files={**manifest.files, changed: entry}))


def sign(document: dict[str, Any]) -> dict[str, Any]:
    """`document` with the digest that its other keys have."""
    content = {key: value for key, value in document.items() if key != "digest"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return {**content, "digest": hashlib.sha256(canonical.encode()).hexdigest()}
