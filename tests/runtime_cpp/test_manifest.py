"""Manifests in C++ against d2export.bundle: what is accepted, what is refused, and why."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2export.bundle.folder import file_entries
from d2export.bundle.manifest import Manifest
from d2export.errors import BundleError
from tests.runtime_cpp.internals import canonical, float16, refusal, sha256
from tests.sample_bundle import USED_RANGES, sample_manifest, sign, write_sample

WORDS: list[Any] = [
    None, True, 0, 1, -1, 2, 10**10, 2**53, 0.5, 1e300, "", "x", "../x", "/etc/passwd", "a/./b",
    "a\\b", "a:b", "a\nb", "vlm", "int8", "llm", "text", "sms", [], [1], [0, 4], {}, {"x": 1},
]  # fmt: skip
# Python looks at what the selector's own settings mean; here they are numbers that the graph has.
PYTHON_ALONE = ("selector.settings", "selector.importance", "selector.name", "selector.prior")
# Sizes that make no reader ask for gigabytes, and tables that can be read.
CPP_ALONE = ("model.vision", "model.text", "prompt_embedding.dtype")


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    write_sample(tmp_path)
    return sample_manifest(file_entries(tmp_path, USED_RANGES)).to_json()


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where a document has values, all of them."""
    if at:
        yield at
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*at, key))


def accepted_by_python(document: object) -> bool:
    try:
        Manifest.from_json(document)
    except BundleError:
        return False
    return True


def test_sha256_and_canonical_text_are_pythons() -> None:
    for size in (0, 1, 55, 56, 63, 64, 65, 119, 120, 1000):
        data = bytes(i % 251 for i in range(size))
        assert sha256(data) == hashlib.sha256(data).hexdigest(), size
    draw = random.Random(0)
    numbers = [draw.uniform(-1, 1) * 10 ** draw.randint(-320, 300) for _ in range(2000)]
    numbers += [0.0, -0.0, 1e16, 1e15, 123456789012345680.0, 1e-4, 1e-5, 5e-324, 1.0, 100.0, 0.1]
    texts = ['é\u2028\x7f"\\/\b\f\n\r\t\x01', "日本", "😀", ""]
    value = {"z": numbers, "a": texts, "ä": {"2": None, "10": [True, False, -7]}, "B": {}, "_": []}
    expected = json.dumps(value, sort_keys=True, separators=(",", ":"))
    assert canonical(json.dumps(value)) == expected
    assert canonical(json.dumps(value, ensure_ascii=False, indent=3)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1,]", "nul", "NaN", "[NaN]", "[Infinity]", "[1e999]", '{"a": 1, "a": 2}',
     '["\\u0000"]', '["\\ud800"]', '["\ud800"]', "[9007199254740993]", "[18446744073709551617]",
     "[" * 100 + "]" * 100, "[" * 200_000, '{"a":' * 200_000, "[1] 2", "[1" + "0" * 5000 + "]"],
    ids=lambda text: f"{text[:14]!a}",
)  # fmt: skip
def test_json_beyond_its_limits_is_refused(text: str) -> None:
    assert canonical(text) is None


def test_half_precision() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    found = np.array([float16(int(one)) for one in bits], np.float32)
    np.testing.assert_array_equal(found, bits.view(np.float16).astype(np.float32))


def test_a_bundle_of_pythons_is_accepted(document: dict[str, Any]) -> None:
    assert refusal(json.dumps(document)) is None
    assert refusal(json.dumps(document, indent=2, sort_keys=True)) is None


def test_both_versions_are_named(document: dict[str, Any]) -> None:
    newer = sign({**document, "schema": 4, "something": "new"})
    found = refusal(json.dumps(newer))
    assert found is not None
    assert found.startswith("manifest.json: the bundle has schema 4, written by d2export ")
    assert found.endswith("reads schema 3")
    assert "0.1.0" in found


def test_an_edit_is_noticed(document: dict[str, Any]) -> None:
    document["opset"] += 1
    found = refusal(json.dumps(document))
    assert found is not None
    assert "manifest.json was edited after the build: its digest is " in found


def test_every_value_replaced_by_others(document: dict[str, Any]) -> None:
    """What Python refuses is refused, and nothing else is."""
    differ, draw = [], random.Random(0)
    for at in places(document):
        where = ".".join(map(str, at))
        for word in [*draw.sample(WORDS, 5), ...]:
            changed = copy.deepcopy(document)
            inner: Any = changed
            for key in at[:-1]:
                inner = inner[key]
            if word is ...:
                del inner[at[-1]]
            else:
                inner[at[-1]] = word
            changed = sign(changed) if where != "digest" else changed
            here, there = refusal(json.dumps(changed)) is None, accepted_by_python(changed)
            alone = PYTHON_ALONE if here else CPP_ALONE
            if here != there and not where.startswith(alone):
                differ.append((where, word, refusal(json.dumps(changed))))
    assert differ == []


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (("model", "text", "vocab"), 10**15, "model.text.vocab is 1000000000000000"),
        (("model", "vision", "image", "size"), 10**9, "model.vision.image.size is 1000000000"),
        (("model", "vision", "image", "max_tiles"), 10**6, "max_tiles is 1000000"),
        (("prompt_embedding", "shape"), [2**40, 2**40], "the matrix ends behind the file"),
        (("prompt_embedding", "offset"), 2**53 - 1, "the matrix ends behind the file"),
        (("graphs", "vision", "path"), "onnx/../../x", "expected a relative path"),
        (("graphs", "vision", "path"), "onnx/other.onnx", "expected a path that is listed"),
    ],
)
def test_claims_that_nothing_holds(
    document: dict[str, Any], at: tuple[str, ...], value: Any, message: str
) -> None:
    inner: Any = document
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    found = refusal(json.dumps(sign(document)))
    assert found is not None
    assert message in found
