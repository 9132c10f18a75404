"""A bundle as a model repository of NVIDIA's Triton Inference Server.

    OUT/
      models/NAME/config.pbtxt, 1/model.py, 1/bundle/     what clients ask
      models/NAME_vision/config.pbtxt, 1/model.onnx or model.plan, and weights beside model.onnx
      models/NAME_decoder/...                              scope vlm; one for each GPU
      plugins/                                             of TensorRT
      README.md                                            the commands that serve and ask it

Weights are hard links to the bundle's, copies where the file system has none.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2export.bundle.disk import check_space
from d2export.bundle.engine_records import BuiltEngines, read_built, read_planned
from d2export.bundle.folder import MANIFEST, Bundle
from d2export.bundle.staging import staged
from d2export.errors import BundleError
from d2export.packaging.contents import open_whole
from d2export.packaging.onnx_edits import tile_by_tile, weight_files
from d2export.packaging.tar import refuse_taken, size
from d2export.packaging.text_format import text_format
from d2export.packaging.triton_choices import BACKENDS, Choices, Settled
from d2export.packaging.triton_configs import served_models
from d2export.packaging.triton_fields import ServedModel
from d2export.packaging.triton_readme import readme
from d2export.progress import Progress

MODELS, PLUGINS, VERSION, CONFIG = "models", "plugins", "1", "config.pbtxt"
INSIDE = "bundle"  # in the Python models' version folder: what they read of the bundle
MODEL_PY = '''"""For Triton's Python backend, whose Python needs d2export[{extras}]."""

from d2export.serving.{module} import {name} as TritonPythonModel

__all__ = ["TritonPythonModel"]
'''
CLASSES = {
    "answer": ("text", "answer", "AnswerModel"),
    "preprocess": ("text", "preprocess", "PreprocessModel"),
    "vision": ("ort", "graph", "GraphModel"),
    "decoder": ("ort", "graph", "GraphModel"),
}


@dataclass(frozen=True)
class Repository:
    """A model repository: its models, and the bytes of its files, links counted once."""

    path: str
    backend: str
    models: tuple[str, ...]
    bytes: int
    readme: str

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "path": self.path,
            "backend": self.backend,
            "models": list(self.models),
            "bytes": self.bytes,
        }

    def text(self) -> str:
        """In words, with the commands."""
        return (
            f"{self.path}: {', '.join(self.models)}; {size(self.bytes)}\n"
            f"How to serve and ask it: {self.path}/README.md"
        )


def write_repository(
    bundle_path: Path, out: Path, choices: Choices, progress: Progress
) -> Repository:
    """Write the repository of the bundle at `bundle_path` to the folder `out`, whole or not at all.

    Raises:
        BundleError: the bundle is not what its manifest says.
        UsageError: the bundle cannot be served as chosen.
        OutputError: `out` is taken or cannot be written.
    """
    if not (out.is_dir() and not any(out.iterdir())):
        refuse_taken(out)
    with progress.stage("comparing every file with its SHA-256"):
        bundle = open_whole(bundle_path)
    built = read_built(bundle)
    chosen = choices.settled(bundle, [one.graph for one in built.engines] if built else [])
    profiles = _profiles(bundle) if chosen.backend == "tensorrt" else {}
    models = served_models(bundle.manifest, chosen, profiles, built.tensorrt if built else None)
    with progress.stage(f"writing {out}"), staged(out) as folder:
        for model in models:
            progress.detail(model.name)
            _write_model(bundle, built, chosen, model, folder / MODELS / model.name)
        plugin = _write_plugin(bundle, built, chosen, folder)
        text = readme(bundle.manifest, chosen, built.tensorrt if built else None, plugin)
        (folder / "README.md").write_text(text, encoding="utf-8")
        total = _bytes(folder)
    names = tuple(model.name for model in models)
    return Repository(str(out), chosen.backend, names, total, text)


def _profiles(bundle: Bundle) -> dict[str, int]:
    """How many profiles each engine has, as its plan says."""
    planned = read_planned(bundle)
    if planned is None:
        raise BundleError(
            f"{bundle.root} has engines and no engines/plan.json that says how they were built",
            f"Build them again: d2export build {bundle.root} --target auto",
        )
    return {one.plan.graph: len(one.plan.profiles) for one in planned.engines}


def _write_model(
    bundle: Bundle, built: BuiltEngines | None, chosen: Settled, model: ServedModel, folder: Path
) -> None:
    version = folder / VERSION
    version.mkdir(parents=True)
    (folder / CONFIG).write_text(text_format(model.config), encoding="utf-8")
    if model.graph is not None:
        if chosen.backend == "tensorrt":
            assert built is not None, "it was chosen because there are engines"
            (engine,) = (one.path for one in built.engines if one.graph == model.role)
            _link(bundle.path(engine), version / BACKENDS["tensorrt"].file)
        else:
            tiles = chosen.batch_tiles if model.role == "vision" else 0
            _write_onnx(bundle, model, tiles, version)
    elif model.role != "ensemble":
        _write_inside(bundle, version / INSIDE)
    if model.config.get("backend") == "python":
        extras, module, name = CLASSES[model.role]
        text = MODEL_PY.format(extras=extras, module=module, name=name)
        (version / "model.py").write_text(text, encoding="utf-8")


def _write_onnx(bundle: Bundle, model: ServedModel, tiles: int, version: Path) -> None:
    """`model.onnx` and the files of its weights, under the names it has for them."""
    assert model.graph is not None
    source = bundle.path(model.graph.path)
    target = version / BACKENDS["onnxruntime"].file
    if tiles:
        spec = bundle.manifest.model
        per_tile, hidden = spec.vision.tokens_per_tile, spec.text.hidden
        try:
            target.write_bytes(tile_by_tile(source.read_bytes(), per_tile, hidden))
        except ValueError as error:
            raise BundleError(f"{source}: {error}", "Build the bundle again.") from None
    else:
        shutil.copyfile(source, target)
    folder = Path(model.graph.path).parent
    for name in weight_files(source):
        _link(bundle.path((folder / name).as_posix()), version / name)


def _write_inside(bundle: Bundle, folder: Path) -> None:
    """What the Python models read: the manifest, the tokenizer, the prior, the table of words."""
    manifest = bundle.manifest
    table = manifest.prompt_embedding
    needed = {path for path in manifest.files if path.startswith("processor/")}
    needed |= {path for path in (manifest.selector.prior.path,) if path is not None}
    if table is not None and manifest.plan.importance == "text":
        needed.add(table.path)
    for path in sorted({MANIFEST, *needed}):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.startswith("onnx/"):
            _link(bundle.path(path), target)
        else:
            shutil.copyfile(bundle.path(path), target)


def _write_plugin(
    bundle: Bundle, built: BuiltEngines | None, chosen: Settled, folder: Path
) -> str | None:
    """The plugin of the engines, from the bundle; its path in the repository."""
    if chosen.backend != "tensorrt" or built is None or built.plugin is None:
        return None
    source = bundle.path(built.plugin)
    (folder / PLUGINS).mkdir()
    shutil.copyfile(source, folder / PLUGINS / source.name)
    return f"{PLUGINS}/{source.name}"


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy on another file system."""
    try:
        target.hardlink_to(source)
    except OSError:
        check_space(target, source.stat().st_size)
        shutil.copyfile(source, target)


def _bytes(folder: Path) -> int:
    """Of all files, each once however many names it has."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            status = path.stat()
            found[status.st_dev, status.st_ino] = status.st_size
    return sum(found.values())
