"""Protocol buffers on the wire: fields of a message, read and written without knowing its schema.

https://protobuf.dev/programming-guides/encoding. What is not understood passes unchanged, so that
a few fields of a message can be changed and the rest is what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4, groups, are not in use
WIDTHS = {FIXED64: 8, FIXED32: 4}
LONGEST_VARINT = 10


class Field(NamedTuple):
    """A field: `value` is a number for a varint, else bytes, of a message as of anything."""

    number: int
    wire: int
    value: int | bytes


class Message:
    """The fields of a message, in order.

    Args:
        data: as it lies on the wire.

    Raises:
        ValueError: `data` is no message.
    """

    def __init__(self, data: bytes = b"") -> None:
        self.fields = list(_fields(data))

    def encoded(self) -> bytes:
        """As it lies on the wire."""
        return b"".join(map(_encoded, self.fields))

    def all(self, number: int) -> list[bytes]:
        """The values of a repeated field of bytes, strings or messages."""
        return [field.value for field in self.fields if _is(field, number)]  # type: ignore[misc]

    def texts(self, number: int) -> list[str]:
        """The values of a repeated string."""
        return [value.decode("utf-8") for value in self.all(number)]

    def text(self, number: int) -> str:
        """A string; empty if it is not there."""
        return next(reversed(self.texts(number)), "")

    def add(self, number: int, value: int | bytes) -> None:
        """Append a field: a varint, or bytes."""
        self.fields.append(Field(number, VARINT if isinstance(value, int) else BYTES, value))

    def remove(self, number: int) -> None:
        """Remove all fields of a number."""
        self.fields = [field for field in self.fields if field.number != number]

    def replace(self, number: int, values: Iterable[bytes]) -> None:
        """Put other values where the first of a repeated field is, at the end if there is none."""
        at = next((i for i, one in enumerate(self.fields) if one.number == number), None)
        self.remove(number)
        at = len(self.fields) if at is None else at
        self.fields[at:at] = [Field(number, BYTES, value) for value in values]

    def change(self, number: int, change: Callable[[bytes], bytes]) -> None:
        """Change each value of a repeated field, in place."""
        self.fields = [
            field._replace(value=change(field.value))  # type: ignore[arg-type]
            if _is(field, number)
            else field
            for field in self.fields
        ]


def _is(field: Field, number: int) -> bool:
    return field.number == number and field.wire == BYTES


def _fields(data: bytes) -> Iterator[Field]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield Field(number, wire, value)
            continue
        if wire == BYTES:
            length, at = _varint(data, at)
        elif wire in WIDTHS:
            length = WIDTHS[wire]
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + length > len(data):
            raise ValueError(f"{length} bytes wanted at byte {at}, {len(data) - at} are left")
        yield Field(number, wire, data[at : at + length])
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends."""
    number = 0
    for count, byte in enumerate(data[at : at + LONGEST_VARINT]):
        number |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return number, at + count + 1
    raise ValueError(f"a number without an end at byte {at}")


def _encoded(field: Field) -> bytes:
    key = _encoded_varint(field.number << 3 | field.wire)
    if isinstance(field.value, int):
        return key + _encoded_varint(field.value)
    if field.wire == BYTES:
        return key + _encoded_varint(len(field.value)) + field.value
    return key + field.value


def _encoded_varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
