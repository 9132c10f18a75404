"""JSON to frozen records and back, with no slack.

A record is a dataclass whose annotations are the whole rule book: `int`, `float`, `bool`, `str`,
`None`, `object` (any JSON value), `Literal`, unions, `tuple`, `dict`, other records, and
`Annotated` with a `Range` or a `Pattern`. A field whose default is `None` may be absent; every
other field must be there, and no key may be there that is not a field.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

MAX_DEPTH = 32
MAX_INTEGER = 2**53 - 1  # the largest a JSON reader in any language keeps exactly

T = TypeVar("T")


class JsonError(ValueError):
    """A value is not what its place in the document wants.

    Args:
        at: where, such as `graphs.vision.inputs[0].shape`; empty for the document itself.
        found: the value found, in words.
        expected: what belongs there, in words.
    """

    def __init__(self, at: str, found: str, expected: str) -> None:
        super().__init__(f"{at or 'the document'} is {found}, expected {expected}")
        self.at, self.found, self.expected = at, found, expected


@dataclasses.dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included."""

    low: float
    high: float = math.inf

    def admits(self, value: Any) -> bool:
        """Whether the number `value` lies within."""
        return bool(self.low <= value <= self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"a number of at least {self.low:g}"
        return f"a number from {self.low:g} to {self.high:g}"


@dataclasses.dataclass(frozen=True)
class Pattern:
    """A string that `regex` (ECMAScript and Python agree on it) matches as a whole."""

    regex: str
    meaning: str

    def admits(self, value: Any) -> bool:
        """Whether the string `value` matches."""
        return re.fullmatch(self.regex, value) is not None

    def __str__(self) -> str:
        return self.meaning


class _RepeatedKey:
    """Stands where an object had one key twice, until `decode` arrives there and knows the path."""

    def __init__(self, key: str) -> None:
        self.key = key


def parse(text: str) -> object:
    """The JSON value in `text`; keys that appear twice and NaN are left for `decode` to refuse.

    Raises:
        JsonError: not JSON, nested too deep, or a number of thousands of digits.
    """

    def to_dict(pairs: list[tuple[str, object]]) -> object:
        result: dict[str, object] = {}
        for key, value in pairs:
            if key in result:
                return _RepeatedKey(key)
            result[key] = value
        return result

    try:
        parsed: object = json.loads(text, object_pairs_hook=to_dict)
    except RecursionError:
        raise JsonError("", "nested too deep", f"at most {MAX_DEPTH} levels") from None
    except ValueError as error:  # JSONDecodeError, and int() on more than 4,300 digits
        raise JsonError("", f"not JSON ({error})", "a complete JSON object") from None
    return parsed


def decode(kind: type[T], value: object, at: str = "") -> T:
    """`value` as a `kind`.

    Raises:
        JsonError: the first place, in the order of the fields, that does not fit.
    """
    decoded: T = _decode(kind, value, at)
    return decoded


def encode(value: object) -> Any:
    """The JSON value of a record: objects, arrays and scalars that `json.dumps` takes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: encode(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not (field.default is None and getattr(value, field.name) is None)
        }
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return value


def member(at: str, key: str) -> str:
    """The path of `key` inside the object at `at`."""
    if not key.isidentifier():
        return f"{at}[{json.dumps(key if len(key) <= 80 else key[:80] + '...')}]"
    return f"{at}.{key}" if at else key


def describe(value: object) -> str:
    """`value` in a few words for an error message."""
    if isinstance(value, _RepeatedKey):
        return f"an object with the key {describe(value.key)} twice"
    if isinstance(value, dict):
        return f"an object with {len(value)} keys"
    if isinstance(value, (list, tuple)):
        return f"an array of {len(value)}"
    if type(value) is int and abs(value) > MAX_INTEGER:
        return "an integer beyond 2^53"
    words = json.dumps(value) if isinstance(value, (str, int, float)) or value is None else ""
    words = words or f"a {type(value).__name__}"
    return words if len(words) <= 80 else f"{words[:80]}... ({len(words)} characters)"


def _decode(kind: Any, value: object, at: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        base, rule = arguments
        decoded = _decode(base, value, at)
        if not rule.admits(decoded):
            raise JsonError(at, describe(value), str(rule))
        return decoded
    if origin in (Union, types.UnionType):
        return _decode_union(arguments, value, at)
    if origin is Literal:
        if type(value) in (str, int) and value in arguments:
            return value
        raise JsonError(at, describe(value), " or ".join(json.dumps(word) for word in arguments))
    if origin is tuple:
        return _decode_tuple(arguments, value, at)
    if origin is dict:
        items = _object(value, at)
        return {
            _decode(arguments[0], key, member(at, key)): _decode(
                arguments[1], item, member(at, key)
            )
            for key, item in items.items()
        }
    if dataclasses.is_dataclass(kind):
        return _decode_record(kind, value, at)
    if kind is object:
        return _decode_any(value, at, MAX_DEPTH)
    return _decode_scalar(kind, value, at)


def _decode_union(kinds: tuple[Any, ...], value: object, at: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    mismatches = []
    for kind in kinds:
        if kind is not type(None):
            try:
                return _decode(kind, value, at)
            except JsonError as mismatch:
                if mismatch.at != at:  # the right kind of value, wrong further down
                    raise
                mismatches.append(mismatch)
    expected = " or ".join(mismatch.expected for mismatch in mismatches)
    if type(None) in kinds:
        expected += " or null"
    raise JsonError(at, mismatches[0].found, expected)


def _decode_tuple(kinds: tuple[Any, ...], value: object, at: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise JsonError(at, describe(value), "an array")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    elif len(kinds) != len(value):
        raise JsonError(at, describe(value), f"an array of {len(kinds)}")
    return tuple(
        _decode(kind, item, f"{at}[{i}]")
        for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _decode_record(kind: Any, value: object, at: str) -> Any:
    items = _object(value, at)
    hints = _hints(kind)
    for key in items:
        if key not in hints:
            raise JsonError(member(at, key), "an unknown key", f"one of {', '.join(hints)}")
    return kind(**dict(_fields(kind, hints, items, at)))


def _fields(
    kind: Any, hints: dict[str, Any], items: dict[str, object], at: str
) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(kind):
        if field.name in items:
            here = member(at, field.name)
            yield field.name, _decode(hints[field.name], items[field.name], here)
        elif field.default is not None:
            raise JsonError(member(at, field.name), "missing", "a value")


def _decode_any(value: object, at: str, depth: int) -> object:
    if depth == 0:
        raise JsonError(at, "nested too deep", f"at most {MAX_DEPTH} levels")
    if isinstance(value, list):
        return [_decode_any(item, f"{at}[{i}]", depth - 1) for i, item in enumerate(value)]
    if isinstance(value, (dict, _RepeatedKey)):
        items = _object(value, at)
        return {
            _decode_scalar(str, key, at): _decode_any(item, member(at, key), depth - 1)
            for key, item in items.items()
        }
    if value is None or type(value) in (bool, int, float, str):
        return value if value is None else _decode_scalar(type(value), value, at)
    raise JsonError(at, describe(value), "a JSON value")


def _decode_scalar(kind: Any, value: object, at: str) -> Any:
    if kind is bool and type(value) is bool:
        return value
    if kind is str and type(value) is str:
        if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise JsonError(at, describe(value), "a string without NUL and half surrogates")
        return value
    if kind is int and type(value) is int and abs(value) <= MAX_INTEGER:
        return value
    if kind is float and type(value) is int and abs(value) <= MAX_INTEGER:
        return float(value)
    if kind is float and type(value) is float and math.isfinite(value):
        return value
    words = {bool: "true or false", str: "a string", int: "an integer", float: "a finite number"}
    raise JsonError(at, describe(value), words[kind])


def _object(value: object, at: str) -> dict[str, object]:
    if not isinstance(value, dict):
        expected = "each key once" if isinstance(value, _RepeatedKey) else "an object"
        raise JsonError(at, describe(value), expected)
    return value
