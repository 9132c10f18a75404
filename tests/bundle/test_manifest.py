from __future__ import annotations

import copy
import dataclasses
import json
import math
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import jsonschema
import pytest

import d2export
from d2export.bundle.manifest import Manifest
from d2export.bundle.records import FileEntry, Selector
from d2export.bundle.strict_json import Range
from d2export.errors import BundleError
from d2export.models.presets import POCKET_VIT
from d2export.pruning.selector import SOURCES
from d2export.pruning.selectors import SELECTORS
from tests.sample_bundle import sample_manifest, sign

SCHEMA_FILE = Path(d2export.__file__).parent / "bundle" / "manifest.schema.json"
SHA = "0" * 64
FILES = {
    "onnx/vision.onnx": FileEntry(10, SHA),
    "onnx/prune.onnx": FileEntry(10, SHA),
    "onnx/model.safetensors": FileEntry(200, SHA, ((16, 48), (100, 200))),
    "reference/photo.npz": FileEntry(7, SHA),
    "pictures/photo.png": FileEntry(9, SHA),
}


@pytest.fixture
def document() -> dict[str, Any]:
    return sample_manifest(FILES).to_json()


def refused(document: object) -> str:
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(document)
    return caught.value.problem


def test_round_trip_through_json(document: dict[str, Any]) -> None:
    manifest = Manifest.from_json(json.loads(json.dumps(document)))
    assert manifest == sample_manifest(FILES)
    assert manifest.model.vision == POCKET_VIT
    assert manifest.graphs.vision.inputs[0].shape == (1, "tokens", 192)
    assert "ranges" not in document["files"]["onnx/vision.onnx"]


def test_the_digest_covers_everything_else_in_canonical_form(document: dict[str, Any]) -> None:
    assert sign(document) == document
    document["selector"]["settings"]["alpha"] = 1.0
    assert "manifest.json was edited after the build: its digest is" in refused(document)
    assert Manifest.from_json(sign(document)).selector.settings["alpha"] == 1.0


def test_every_selector_can_be_in_a_manifest() -> None:
    names, sources = (get_type_hints(Selector)[name] for name in ("name", "importance"))
    assert set(get_args(names)) == set(SELECTORS)
    assert set(get_args(get_args(sources)[0])) == set(SOURCES)


def test_layout_and_key_order_are_no_edit(document: dict[str, Any]) -> None:
    text = json.dumps(document, indent=7, sort_keys=True)
    assert Manifest.from_json(json.loads(text)) == sample_manifest(FILES)


def test_a_newer_schema_is_refused_before_anything_else() -> None:
    with pytest.raises(BundleError) as caught:
        Manifest.from_json({"schema": 4, "graphs": "something new"}, "out/manifest.json")
    assert caught.value.problem == (
        "out/manifest.json: the bundle has schema 4, this d2export reads 3"
    )
    assert caught.value.hint == "Upgrade d2export: pip install --upgrade d2export"


def test_an_older_schema_is_refused() -> None:
    assert refused({"schema": 2}) == "manifest.json: the bundle has schema 2, this d2export reads 3"


@pytest.mark.parametrize("schema", ["3", True, None, 3.0, [3]])
def test_a_schema_that_never_was_is_refused(document: dict[str, Any], schema: object) -> None:
    document["schema"] = schema
    assert refused(document).startswith("manifest.json: schema is ")


@pytest.mark.parametrize(
    ("keys", "value", "problem"),
    [
        (("new_key",), 1, "new_key is an unknown key, expected one of schema, tool,"),
        (("tool", "name"), "other", 'tool.name is "other", expected "d2export"'),
        (("scope",), "llm", 'scope is "llm", expected "vision" or "vlm"'),
        (("scope",), "vlm", "graphs.decoder is null, expected a value in scope vlm"),
        (("model", "text", "layers"), 0, "model.text.layers is 0, expected at least 1"),
        (("selector", "prune_layer"), 2, "selector.prune_layer is given, expected null for"),
        (
            ("selector", "importance"),
            "llm",
            'selector.importance is "llm", expected "cls" or "text"',
        ),
        (("selector", "importance"), None, 'selector.importance is null, expected "cls" or "text"'),
        (("selector", "settings", "alpha"), 2.0, "selector is contradictory (alpha is 2.0,"),
        (("selector", "settings"), {"beta": 1}, "selector is contradictory (selector 'd2' has no"),
        (
            ("selector", "position_ids"),
            "contiguous",
            'selector.position_ids is "contiguous", expected "original"',
        ),
        (("selector", "max_keep"), 9, "selector.min_keep is null beside max_keep 9, expected"),
        (("selector", "prior", "path"), "prior.json", "selector.prior.path is "),
        (
            ("graphs", "vision", "inputs", 0, "shape"),
            "1x3",
            'graphs.vision.inputs[0].shape is "1x3", expected an array',
        ),
        (
            ("graphs", "vision", "inputs", 0, "shape", 1),
            -1,
            "graphs.vision.inputs[0].shape[1] is -1, expected a number of at least 0 or a string",
        ),
        (("opset",), "17", 'opset is "17", expected an integer'),
        (("precision",), "int4", 'precision is "int4", expected "fp32" or "fp16" or "bf16" or '),
        (("precision",), "int8", "quantization is null, expected a value for precision"),
        (("model", "vision", "patch"), 0, "model.vision.patch is 0, expected at least 1"),
        (("model", "vision", "image", "size"), -448, "model.vision.image.size is -448, expected"),
        (("model", "vision", "image", "std"), [0.5, 0, 0.5], "model.vision.image.std[1] is 0.0,"),
        (("model", "source"), "hub", "model.id is null, expected a hub id"),
        (("model", "random_seed"), None, "model.random_seed is null, expected a seed"),
        (("selector", "keep"), None, "selector.keep is null beside keep_permille null, expected"),
        (("selector", "keep_permille"), 250, "selector.keep is 64 beside keep_permille 250,"),
        (("selector", "keep_permille"), 1001, "selector.keep_permille is 1001, expected a number"),
        (("selector", "prior", "sha256"), None, 'selector.prior.sha256 is null for source "file"'),
        (("prompt_embedding", "offset"), 137, "prompt_embedding.offset is 137, so that the matrix"),
        (("references", 0, "path"), "no.npz", 'references[0].path is "no.npz", expected a path th'),
        (("files", "onnx/vision.onnx", "sha256"), "AB" * 32, 'files["onnx/vision.onnx"].sha256 is'),
        (
            ("files", "onnx/model.safetensors", "ranges"),
            [[0, 50], [40, 60]],
            'files["onnx/model.safetensors"].ranges[1] is [40, 60], expected ascending ranges',
        ),
        (
            ("files", "onnx/model.safetensors", "ranges"),
            [[0, 201]],
            'files["onnx/model.safetensors"].ranges[0] is [0, 201], expected ascending ranges wit',
        ),
        (("files", "../x"), {"bytes": 1, "sha256": SHA}, 'files["../x"] is "../x", expected a rel'),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    document: dict[str, Any], keys: tuple[str | int, ...], value: object, problem: str
) -> None:
    inner: Any = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    assert refused(sign(document)).startswith(f"manifest.json: {problem}")


@pytest.mark.parametrize("document", [None, [], "manifest", 1, {}])
def test_any_other_json_is_refused(document: object) -> None:
    assert refused(document).startswith("manifest.json: ")


def test_the_published_schema_says_what_the_records_say() -> None:
    published = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(published)
    definitions: dict[str, Any] = {}
    expected = record_schema(Manifest, definitions)
    expected["properties"]["digest"] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    expected["required"].append("digest")
    published = without_words(published)
    assert published.pop("$defs") == definitions
    assert published == expected


def test_the_published_schema_accepts_a_manifest_and_refuses_other_things(
    document: dict[str, Any],
) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))
    validator.validate(document)
    for path in ("../x", "/x", "a//b", "a/./b", "a\\b", "C:/x", "a/..", ".", "", "a\nb"):
        wrong = copy.deepcopy(document)
        wrong["graphs"]["vision"]["path"] = path
        assert not validator.is_valid(wrong), path
        assert "graphs.vision.path is" in refused(wrong)


def without_words(schema: Any) -> Any:
    """`schema` without the keys that validate nothing."""
    if isinstance(schema, dict):
        return {
            key: without_words(value)
            for key, value in schema.items()
            if not (key in ("$schema", "title", "description") and isinstance(value, str))
        }
    return [without_words(item) for item in schema] if isinstance(schema, list) else schema


def record_schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a record, from its annotations; records in it go to `definitions`."""
    hints = get_type_hints(kind, include_extras=True)
    fields = dataclasses.fields(kind)
    properties = {}
    for field in fields:
        rule = hints[field.name]
        if field.default is None:  # left out rather than null
            rule = next(option for option in get_args(rule) if option is not type(None))
        properties[field.name] = value_schema(rule, definitions)
    return {
        "type": "object",
        "properties": properties,
        "required": [field.name for field in fields if field.default is not None],
        "additionalProperties": False,
    }


def value_schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        base, rule = arguments
        if not isinstance(rule, Range):
            return {**value_schema(base, definitions), "pattern": f"^{rule.regex}$"}
        upper = {} if rule.high == math.inf else {"maximum": rule.high}
        return {**value_schema(base, definitions), "minimum": rule.low, **upper}
    if origin in (Union, types.UnionType):
        return {"anyOf": [value_schema(option, definitions) for option in arguments]}
    if origin is Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
    if origin is tuple and arguments[-1] is Ellipsis:
        return {"type": "array", "items": value_schema(arguments[0], definitions)}
    if origin is tuple:
        items = [value_schema(item, definitions) for item in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}
    if origin is dict and arguments == (str, object):
        return {"type": "object"}
    if origin is dict:
        names, values = (value_schema(argument, definitions) for argument in arguments)
        names.pop("type")
        return {"type": "object", "propertyNames": names, "additionalProperties": values}
    if dataclasses.is_dataclass(kind):
        name = getattr(kind, "__name__", "")
        definitions[name] = record_schema(kind, definitions)
        return {"$ref": f"#/$defs/{name}"}
    words = {int: "integer", float: "number", bool: "boolean", str: "string", type(None): "null"}
    return {"type": words[kind]}
