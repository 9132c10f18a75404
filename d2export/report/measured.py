"""`report.json` as a report needs it: what is there is checked, what is not was not measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from d2export.bundle.strict_json import JsonError, decode, parse
from d2export.errors import BundleError
from d2export.report.data import Case, Check
from d2export.verify.latency import Latency

FILE = "report.json"
MOST_BYTES = 16 * 2**20
T = TypeVar("T")


@dataclass(frozen=True)
class Timed:
    """One input size: medians and the like of every stage that was timed."""

    tiles: int
    kept: int
    vision: Latency
    selection: Latency
    selection_implementation: str
    prefill: Latency | None = None
    decode: Latency | None = None


@dataclass(frozen=True)
class Measured:
    """All that `report.json` says; None and empty for what it does not."""

    check: Check | None = None
    timed: tuple[Timed, ...] = ()
    environment: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class _Tolerances:
    embeddings: float
    indices: float
    logits: float


@dataclass(frozen=True)
class _Accuracy:
    backend: str
    selection_implementation: str
    precision: str
    agreement: float
    passed: bool


def read_measured(folder: Path) -> Measured:
    """From `report.json` of a bundle; without that file, nothing was measured.

    Raises:
        BundleError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return Measured()
    try:
        if path.stat().st_size > MOST_BYTES:
            raise JsonError("", "a file of that size", f"at most {MOST_BYTES} bytes")
        value = _object(parse(path.read_text(encoding="utf-8")), "")
        stages = value.get("latency_ms", [])
        if not isinstance(stages, list):
            raise JsonError("latency_ms", "no array", "an array")
        return Measured(
            _check(value),
            tuple(_record(Timed, stage, f"latency_ms[{i}]") for i, stage in enumerate(stages)),
            decode(dict[str, str], value.get("environment", {}), "environment"),
        )
    except (OSError, UnicodeDecodeError, JsonError) as error:
        raise BundleError(
            f"{path} cannot be read: {error}", f"Measure again: d2export build {folder}"
        ) from None


def _check(value: dict[str, Any]) -> Check | None:
    if "accuracy" not in value:
        return None
    accuracy = _object(value["accuracy"], "accuracy")
    found = _record(_Accuracy, accuracy, "accuracy")
    asked = _record(_Tolerances, accuracy.get("tolerances"), "accuracy.tolerances")
    cases = accuracy.get("cases")
    if not isinstance(cases, list):
        raise JsonError("accuracy.cases", "no array", "an array")
    return Check(
        found.passed,
        found.backend,
        found.precision,
        found.selection_implementation,
        found.agreement,
        asked.indices,
        asked.embeddings,
        asked.logits,
        tuple(_case(case, f"accuracy.cases[{i}]") for i, case in enumerate(cases)),
        decode(dict[str, float], value.get("pytorch_seconds", {}), "pytorch_seconds"),
    )


def _case(value: Any, at: str) -> Case:
    """A case of either scope; only in scope `vlm` are `tokens` those of an answer."""
    fields = dict(_object(value, at))
    if "equal_tokens" not in fields:
        fields.pop("tokens", None)
    return _record(Case, fields, at)


def _record(kind: type[T], value: Any, at: str) -> T:
    """Those keys of an object that are fields of `kind`."""
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return decode(kind, {k: v for k, v in _object(value, at).items() if k in known}, at)


def _object(value: Any, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise JsonError(at, "no object", "an object")
    return value
