"""Read a device profile: TOML, strict about keys, types and values."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from d2export.engine.target import (
    LEAST_COMPUTE_CAPABILITY,
    MIB,
    Target,
    TensorRTRange,
    Version,
    version_text,
)
from d2export.errors import UsageError
from d2export.export.choices import OPSETS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OLDEST_TENSORRT = (8, 6)
OLDEST_GPU = min(LEAST_COMPUTE_CAPABILITY.values())
SEE = "docs/targets.md lists the keys; engines/targets has examples."

Value = TypeVar("Value")


def read_target(path: Path) -> Target:
    """The target in a file, named as the file.

    Raises:
        UsageError: the file cannot be read, or is no device profile: the key is named.
    """
    try:
        top = _Table(path, "", tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"cannot read the target {path}: {error.strerror}", SEE) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the target {path} is not TOML: {error}", SEE) from None
    capability = _capability(top)
    precisions = _precisions(top, capability)
    memory, shared, reserved = _memory(top.table("memory"))
    tensorrt, opset = _tensorrt(top.table("tensorrt"))
    names, between = _recognised_by(top.table("recognised_by", {}), memory)
    workspace = MIB * top.positive("workspace_mib")
    if memory is not None and workspace > memory:
        top.refuse("workspace_mib", workspace // MIB, f"at most the memory, {memory // MIB}")
    description = top.get("description", str)
    top.refuse_rest()
    return Target(
        path.stem,
        description,
        capability,
        memory,
        shared,
        reserved,
        precisions,
        workspace,
        tensorrt,
        opset,
        names,
        between,
    )


class _Table:
    """A table of the file, whose keys are taken out one by one."""

    def __init__(self, path: Path, prefix: str, values: dict[str, Any]) -> None:
        self._path, self._prefix, self._values = path, prefix, dict(values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def refuse(self, key: str, found: object, expected: str) -> NoReturn:
        """Raise a UsageError about a key's value."""
        raise UsageError(
            f"the target {self._path}: {self._prefix}{key} is {found!r}, expected {expected}", SEE
        )

    def get(self, key: str, kind: type[Value], default: Value | None = None) -> Value:
        """The value of a key, of exactly this type: true is no number."""
        value = self._values.pop(key, default)
        if value is None:
            raise UsageError(f"the target {self._path}: {self._prefix}{key} is missing", SEE)
        if type(value) is not kind:
            self.refuse(key, value, f"{NOUNS[kind]}, not {NOUNS.get(type(value), 'that')}")
        found: Value = value
        return found

    def table(self, key: str, default: dict[str, Any] | None = None) -> _Table:
        """A table in this one."""
        return _Table(self._path, f"{self._prefix}{key}.", self.get(key, dict, default))

    def positive(self, key: str) -> int:
        """A number above 0."""
        value = self.get(key, int)
        if value <= 0:
            self.refuse(key, value, "a number above 0")
        return value

    def version(self, key: str) -> Version:
        """`10.3` as numbers."""
        text = self.get(key, str)
        if not re.fullmatch(r"\d+(\.\d+)*", text):
            self.refuse(key, text, "a version such as 10.3")
        return tuple(map(int, text.split(".")))

    def refuse_rest(self) -> None:
        """Raise a UsageError if a key is left over: it would have no effect."""
        for key in self._values:
            raise UsageError(
                f"the target {self._path}: {self._prefix}{key} is no key of a target", SEE
            )


NOUNS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    float: "a number with a point",
    list: "a list",
    dict: "a table",
}


def _capability(top: _Table) -> tuple[int, int] | None:
    if "compute_capability" not in top:
        return None
    found = top.version("compute_capability")
    if len(found) != 2 or found < OLDEST_GPU:
        expected = f"major and minor such as 8.7, at least {version_text(OLDEST_GPU)}"
        top.refuse("compute_capability", version_text(found), expected)
    return found[0], found[1]


def _precisions(top: _Table, capability: tuple[int, int] | None) -> tuple[str, ...]:
    found = top.get("precisions", list)
    for precision in found:
        if not isinstance(precision, str) or precision not in LEAST_COMPUTE_CAPABILITY:
            expected = f"some of {', '.join(LEAST_COMPUTE_CAPABILITY)}"
            top.refuse("precisions", precision, expected)
        least = LEAST_COMPUTE_CAPABILITY[precision]
        if capability is not None and capability < least:
            expected = f"what {version_text(capability)} has: this needs {version_text(least)}"
            top.refuse("precisions", precision, expected)
    if not found or len(set(found)) < len(found):
        top.refuse("precisions", found, "each once, and at least one")
    return tuple(found)


def _memory(table: _Table) -> tuple[int | None, bool, int]:
    """Total, whether it is shared, what is reserved."""
    total = MIB * table.positive("total_mib") if "total_mib" in table else None
    shared, reserved = table.get("shared", bool), MIB * table.get("reserved_mib", int, 0)
    if reserved < 0 or (total is not None and reserved >= total):
        table.refuse("reserved_mib", reserved // MIB, "0 or more, and less than total_mib")
    table.refuse_rest()
    return total, shared, reserved


def _tensorrt(table: _Table) -> tuple[TensorRTRange, int]:
    oldest, expected, newest = map(table.version, ("oldest", "expected", "newest"))
    if oldest < OLDEST_TENSORRT:
        table.refuse("oldest", version_text(oldest), f"{version_text(OLDEST_TENSORRT)} or newer")
    found = TensorRTRange(oldest, expected, newest)
    if expected not in found:
        table.refuse("expected", version_text(expected), "a version from oldest to newest")
    opset = table.get("opset", int)
    if opset not in OPSETS:
        table.refuse("opset", opset, f"{OPSETS.start} to {OPSETS.stop - 1}")
    table.refuse_rest()
    return found, opset


def _recognised_by(
    table: _Table, memory: int | None
) -> tuple[tuple[str, ...], tuple[int, int] | None]:
    """Names, and the range of memory."""
    names = table.get("names", list, [])
    if not all(isinstance(name, str) and name.strip() for name in names):
        table.refuse("names", names, "names of GPUs")
    between = table.get("memory_mib", list, []) if "memory_mib" in table else None
    table.refuse_rest()
    if between is None:
        return tuple(names), None
    low, high = between if len(between) == 2 else (0, 0)
    if not (type(low) is type(high) is int and 0 < low < high):
        table.refuse("memory_mib", between, "a smaller and a larger number of MiB")
    if memory is not None and not low * MIB <= memory <= high * MIB:
        table.refuse("memory_mib", between, f"a range with total_mib in it, {memory // MIB}")
    return tuple(names), (low * MIB, high * MIB)
