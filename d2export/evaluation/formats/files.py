"""A task's files: one JSON object a line, or one JSON document."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from d2export.errors import UsageError
from d2export.evaluation.formats.entries import AS_IT_SHOULD_BE, Entry

T = TypeVar("T", bound=Sequence[Any])


def read_lines(path: Path, limit: int | None = None) -> Iterator[Entry]:
    """The entries of a file with one JSON object a line, or one JSON array of objects.

    Lines are read as they are asked for; blank ones are skipped.

    Args:
        path: a file; a name that ends in `.json` may hold lines too, as POPE's do.
        limit: entries to read; the rest is not looked at. None is all.

    Raises:
        UsageError: a file that cannot be read or has no entry; a line that is not a JSON object.
    """
    found = False
    for entry in itertools.islice(_entries(path), limit):
        found = True
        yield entry
    if not found:
        _not_empty(path, ())


def read_listed(path: Path, key: str, limit: int | None = None) -> Iterator[Entry]:
    """The objects of a list in a JSON document.

    Args:
        path: its file.
        key: of the list.
        limit: entries to read; None is all.

    Raises:
        UsageError: a file that cannot be read or has no such list or nothing in it; an entry that
            is no object.
    """
    listed = _document(path).get(key)
    if not isinstance(listed, list):
        raise UsageError(f"{path} has no list '{key}'", AS_IT_SHOULD_BE)
    yield from _numbered(path, _not_empty(path, listed)[:limit])


def read_named(path: Path, limit: int | None = None) -> Iterator[tuple[str, Entry]]:
    """The objects of a JSON document that maps names to objects, with their names.

    Args:
        path: its file.
        limit: entries to read; None is all.

    Raises:
        UsageError: a file that cannot be read or has nothing in it; an entry that is no object.
    """
    for name, value in _not_empty(path, list(_document(path).items()))[:limit]:
        yield name, _object(f"{path}, entry '{name}'", value)


def _entries(path: Path) -> Iterator[Entry]:
    try:
        with path.open("rb") as file:
            first = True
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                if first and line.lstrip().startswith(b"["):
                    yield from _numbered(path, _json(str(path), line + file.read()))
                    return
                where, first = f"{path}, line {number}", False
                yield _object(where, _json(where, line))
    except OSError as error:
        raise _unreadable(path, error) from None


def _document(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    _not_empty(path, text.strip())
    return _object(str(path), _json(str(path), text)).values


def _numbered(path: Path, listed: Sequence[Any]) -> Iterator[Entry]:
    for number, value in enumerate(listed, 1):
        yield _object(f"{path}, entry {number}", value)


def _not_empty(path: Path, entries: T) -> T:
    if not entries:
        raise UsageError(f"{path} has no entries, expected at least one", AS_IT_SHOULD_BE)
    return entries


def _object(where: str, value: Any) -> Entry:
    if not isinstance(value, dict):
        found = repr(value)[:60]
        raise UsageError(f"{where} is {found}, expected a JSON object", AS_IT_SHOULD_BE)
    return Entry(where, value)


def _json(where: str, text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        begins = text.strip()[:60].decode(errors="replace")
        raise UsageError(
            f"{where} is not JSON ({error}), it begins {begins!r}", AS_IT_SHOULD_BE
        ) from None


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot read {path}: {error.strerror}", "Check it and its permissions.")
