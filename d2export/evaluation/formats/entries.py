"""An entry of a task's file: a JSON object, each value checked where it is read."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from d2export.errors import UsageError

AS_IT_SHOULD_BE = "Download it again, or correct it: docs/tasks.md shows an entry as it should be."
_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can hold halves of characters; UTF-8 cannot
_FAR = 1e9  # pixels; no picture is that large, and it keeps NaN, infinity and huge integers out


@dataclass(frozen=True)
class Entry:
    """One JSON object of a file.

    Attributes:
        where: its file and place in it, for messages.
        values: by key, as they were read.
    """

    where: str
    values: dict[str, Any]

    def text(self, key: str) -> str:
        """A text that is not empty."""
        value = self._value(key, "a text")
        if not isinstance(value, str) or not value.strip() or _SURROGATE.search(value):
            raise self.wrong(key, "a text")
        return value

    def one_of(self, key: str, choices: Sequence[str]) -> str:
        """One of these texts."""
        expected = " or ".join(repr(choice) for choice in choices)
        if (value := self._value(key, expected)) not in choices:
            raise self.wrong(key, expected)
        return str(value)

    def identity(self, key: str) -> str:
        """A whole number or a text that is not empty, as a text."""
        expected = "a whole number or a text"
        value = self._value(key, expected)
        if isinstance(value, bool) or not isinstance(value, (int, str)) or not str(value).strip():
            raise self.wrong(key, expected)
        return str(value)

    def side(self, key: str) -> float:
        """A width or height in pixels."""
        expected = "a number of pixels above 0"
        if not _is_number(value := self._value(key, expected)) or value <= 0:
            raise self.wrong(key, expected)
        return float(value)

    def box(self, key: str) -> tuple[float, float, float, float]:
        """A box in pixels, its second corner right of and below its first."""
        expected = "[x1, y1, x2, y2] in pixels with x1 < x2 and y1 < y2"
        value = self._value(key, expected)
        if not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
            raise self.wrong(key, expected)
        x1, y1, x2, y2 = map(float, value)
        if x1 >= x2 or y1 >= y2:
            raise self.wrong(key, expected)
        return x1, y1, x2, y2

    def entry(self, key: str) -> Entry:
        """An object inside this one."""
        if not isinstance(value := self._value(key, "an object"), dict):
            raise self.wrong(key, "an object")
        return Entry(f"{self.where}, '{key}'", value)

    def texts(self, key: str, count: int) -> tuple[str, ...]:
        """A list of that many texts."""
        expected = f"a list of {count} texts"
        value = self._value(key, expected)
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self.wrong(key, expected)
        if len(value) != count:
            raise UsageError(
                f"{self.where}: '{key}' has {len(value)} texts, expected {count}", AS_IT_SHOULD_BE
            )
        return tuple(value)

    def nested_texts(self, key: str, inner: str, count: int) -> tuple[str, ...]:
        """A list of that many objects, each with a text under the key `inner`."""
        expected = f"a list of {count} objects with a text '{inner}'"
        value = self._value(key, expected)
        if not isinstance(value, list):
            raise self.wrong(key, expected)
        texts = [item.get(inner) if isinstance(item, dict) else None for item in value]
        if None in texts:
            raise self.wrong(key, expected)
        return Entry(self.where, {key: texts}).texts(key, count)

    def wrong(self, key: str, expected: str) -> UsageError:
        """The error that the value of `key` is not what belongs there."""
        found = shown if len(shown := repr(self.values[key])) <= 80 else shown[:77] + "..."
        return UsageError(f"{self.where}: '{key}' is {found}, expected {expected}", AS_IT_SHOULD_BE)

    def _value(self, key: str, expected: str) -> Any:
        if key not in self.values:
            raise UsageError(
                f"{self.where} has no '{key}', expected {expected}; it has"
                f" {', '.join(map(str, itertools.islice(self.values, 12))) or 'nothing'}",
                AS_IT_SHOULD_BE,
            )
        return self.values[key]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_FAR < value < _FAR
