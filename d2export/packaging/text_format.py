"""Protocol buffers as text: what Triton reads as `config.pbtxt`.

https://protobuf.dev/reference/protobuf/textformat-spec. A message is a mapping; a list of messages
or values is a repeated field; a map is a list of messages with `key` and `value`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


class Word(str):
    """A constant of an enumeration, written without quotes."""

    __slots__ = ()


def text_format(message: Mapping[str, Any]) -> str:
    """A message, a field on each line; fields that are None or empty lists are left out."""
    return "".join(_fields(message, ""))


def _fields(message: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in message.items():
        if value is None or value == []:
            continue
        if isinstance(value, Mapping):
            yield from _message(name, value, indent)
        elif isinstance(value, list) and isinstance(value[0], Mapping):
            for one in value:
                yield from _message(name, one, indent)
        elif isinstance(value, list):
            yield f"{indent}{name}: [{', '.join(map(_scalar, value))}]\n"
        else:
            yield f"{indent}{name}: {_scalar(value)}\n"


def _message(name: str, value: Mapping[str, Any], indent: str) -> Iterator[str]:
    yield f"{indent}{name} {{\n"
    yield from _fields(value, indent + "  ")
    yield f"{indent}}}\n"


def _scalar(value: object) -> str:
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, str) else str(value)
