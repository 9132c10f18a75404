"""`manifest.json`: what a bundle is.

`manifest.schema.json` beside this file is the same in JSON Schema, for readers in other languages.
`digest` in the file is the SHA-256 of everything else in it (canonical: Python's `json.dumps` with
sorted keys and no spaces), so that an edit by hand is noticed; it is no protection against
somebody who means to deceive.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from d2export.bundle.records import (
    FileEntry,
    Graphs,
    Model,
    Name,
    Positive,
    PromptEmbedding,
    Quantization,
    Reference,
    RelativePath,
    Selector,
    Tolerances,
    Tool,
    Weights,
)
from d2export.bundle.strict_json import JsonError, decode, describe, encode, member
from d2export.errors import BundleError, UsageError
from d2export.pruning.plan import Plan
from d2export.pruning.selectors import SELECTORS

SCHEMA: Literal[3] = 3
BUILD_AGAIN = "Build the bundle again, or copy it again from where it was built."
ITEM_BYTES = {
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "uint8": 1,
    "bool": 1,
}


@dataclass(frozen=True)
class Manifest:
    """All of `manifest.json`. `layers` names the values inside vision.onnx to compare.

    `files` lists every file of the bundle but manifest.json, report.json, report.html, build.log.
    """

    schema: Literal[3]
    tool: Tool
    scope: Literal["vision", "vlm"]
    model: Model
    selector: Selector
    precision: Literal["fp32", "fp16", "bf16", "int8"]
    opset: Positive
    graphs: Graphs
    layers: tuple[Name, ...]
    weights: Weights
    prompt_embedding: PromptEmbedding | None
    references: tuple[Reference, ...]
    tolerances: Tolerances
    versions: dict[Name, str]
    files: dict[RelativePath, FileEntry]
    quantization: Quantization | None = None

    @cached_property
    def plan(self) -> Plan:
        """How the graphs prune."""
        return self.selector.plan(self.scope)

    def to_json(self) -> dict[str, Any]:
        """The object that `manifest.json` holds, `digest` included."""
        content: dict[str, Any] = encode(self)
        return {**content, "digest": _digest(content)}

    @classmethod
    def from_json(cls, value: object, where: object = "manifest.json") -> Manifest:
        """The manifest in a parsed JSON value; `where` names the file in messages.

        Raises:
            BundleError: written by another d2export, not a manifest, or edited since it was built.
        """
        try:
            content = dict(value) if isinstance(value, dict) else value
            if isinstance(content, dict):
                _refuse_others(content, where)
                digest = content.pop("digest", None)
            manifest = decode(cls, content)
            for mismatch in _contradictions(manifest):
                raise mismatch
        except JsonError as mismatch:
            raise BundleError(f"{where}: {mismatch}", BUILD_AGAIN) from None
        if digest != _digest(encode(manifest)):
            raise BundleError(
                f"{where}: manifest.json was edited after the build: its digest is "
                f"{describe(digest)}, expected {_digest(encode(manifest))}",
                BUILD_AGAIN,
            )
        return manifest


def _digest(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _refuse_others(content: dict[str, Any], where: object) -> None:
    found = content.get("schema")
    if type(found) is int and found > SCHEMA:
        raise BundleError(
            f"{where}: the bundle has schema {describe(found)}, this d2export reads {SCHEMA}",
            "Upgrade d2export: pip install --upgrade d2export",
        )
    if type(found) is int and found < SCHEMA:
        raise BundleError(
            f"{where}: the bundle has schema {describe(found)}, this d2export reads {SCHEMA}",
            "Build the bundle again.",
        )


def _contradictions(manifest: Manifest) -> Iterator[JsonError]:
    """What the types cannot say: fields that depend on each other."""
    model, selector = manifest.model, manifest.selector
    vision = asdict(model.vision)
    numbers = {f"model.vision.{key}": number for key, number in vision.items() if key != "image"}
    numbers |= {f"model.vision.image.{key}": number for key, number in vision["image"].items()}
    numbers |= {f"model.text.{key}": number for key, number in asdict(model.text).items()}
    for at, number in numbers.items():
        if type(number) is int and number < 1:
            yield JsonError(at, str(number), "at least 1")
    for i, deviation in enumerate(model.vision.image.std):
        if deviation <= 0:
            yield JsonError(f"model.vision.image.std[{i}]", str(deviation), "above 0")
    if model.source == "hub" and model.id is None:
        yield JsonError("model.id", "null", 'a hub id, since model.source is "hub"')
    if model.source == "random" and model.random_seed is None:
        yield JsonError("model.random_seed", "null", 'a seed, since model.source is "random"')
    counted = SELECTORS[selector.name].counted
    if ((selector.keep is None) + (selector.keep_permille is None)) != (1 if counted else 2):
        found = f"{describe(selector.keep)} beside keep_permille {describe(selector.keep_permille)}"
        expected = "one of the two, the other null" if counted else "null, as keep_permille"
        yield JsonError("selector.keep", found, expected)
    if counted and (selector.min_keep is not None or selector.max_keep is not None):
        found = f"{describe(selector.min_keep)} beside max_keep {describe(selector.max_keep)}"
        yield JsonError("selector.min_keep", found, f"null both for selector {selector.name}")
    try:
        plan = selector.plan(manifest.scope)
    except UsageError as error:
        yield JsonError("selector", f"contradictory ({error})", "what `d2export build` writes")
        return
    if selector.position_ids != plan.position_ids:
        found, expected = selector.position_ids, plan.position_ids
        yield JsonError("selector.position_ids", describe(found), describe(expected))
    yield from _wrong_scope(manifest, plan)
    if (manifest.quantization is not None) != (manifest.precision == "int8"):
        given = "given" if manifest.quantization is not None else "null"
        yield JsonError("quantization", given, 'a value for precision "int8" alone')
    if (selector.prior.source == "file") != (selector.prior.sha256 is not None):
        found = f"{describe(selector.prior.sha256)} for source {describe(selector.prior.source)}"
        yield JsonError("selector.prior.sha256", found, 'a digest for source "file" alone')
    yield from _bad_ranges(manifest)
    for at, path in _used_paths(manifest):
        if path not in manifest.files:
            yield JsonError(at, describe(path), "a path that is listed in files")
    embedding = manifest.prompt_embedding
    if embedding is not None:
        size = manifest.files[embedding.path].bytes
        stop = embedding.offset + math.prod(embedding.shape) * ITEM_BYTES[embedding.dtype]
        if stop > size:
            found = f"{embedding.offset}, so that the matrix ends at byte {stop}"
            yield JsonError("prompt_embedding.offset", found, f"an end within {size} bytes")


def _wrong_scope(manifest: Manifest, plan: Plan) -> Iterator[JsonError]:
    """Fields that one scope, or one place to prune, has and the other has not."""
    vlm, selector = manifest.scope == "vlm", manifest.selector
    inside = plan.in_decoder
    for at, present, wanted, where in (
        ("graphs.decoder", manifest.graphs.decoder is not None, vlm, f"in scope {manifest.scope}"),
        (
            "selector.prune_layer",
            selector.prune_layer is not None,
            inside,
            f"for selector {selector.name} in scope {manifest.scope}",
        ),
    ):
        if present != wanted:
            given = "given" if present else "null"
            yield JsonError(at, given, f"{'a value' if wanted else 'null'} {where}")
    sources = plan.selector.sources(manifest.scope) or (None,)
    if selector.importance not in sources:
        found = describe(selector.importance)
        expected = " or ".join(describe(source) for source in sources)
        yield JsonError("selector.importance", found, f"{expected} in scope {manifest.scope}")
    if (selector.prior.path is not None) != (inside and selector.prior.source == "file"):
        found = describe(selector.prior.path)
        expected = "a path for a prior file inside the language model alone"
        yield JsonError("selector.prior.path", found, expected)


def _bad_ranges(manifest: Manifest) -> Iterator[JsonError]:
    for path, entry in manifest.files.items():
        before = 0
        for i, (start, stop) in enumerate(entry.ranges or ()):
            if not before <= start < stop <= entry.bytes:
                at = f"{member('files', path)}.ranges[{i}]"
                expected = f"ascending ranges within {entry.bytes} bytes"
                yield JsonError(at, f"[{start}, {stop}]", expected)
            before = stop


def _used_paths(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield "graphs.vision.path", manifest.graphs.vision.path
    yield "graphs.prune.path", manifest.graphs.prune.path
    if manifest.graphs.decoder is not None:
        yield "graphs.decoder.path", manifest.graphs.decoder.path
    if manifest.selector.prior.path is not None:
        yield "selector.prior.path", manifest.selector.prior.path
    if manifest.quantization is not None:
        yield "quantization.path", manifest.quantization.path
    if manifest.prompt_embedding is not None:
        yield "prompt_embedding.path", manifest.prompt_embedding.path
    for i, reference in enumerate(manifest.references):
        yield f"references[{i}].path", reference.path
        if reference.image is not None:
            yield f"references[{i}].image", reference.image
