"""The folder of an evaluation: what was asked, and every answer as soon as it was given.

    evaluation.json            what is evaluated: task, models, configurations; nobody may differ
    answers-1-of-4.jsonl       a line for each answer of a shard, appended and never changed

Both are plain: see docs/evaluation.md.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from d2export.bundle.disk import explained, replace_file
from d2export.errors import OutputError, UsageError
from d2export.evaluation.configuration import Answered, Configuration
from d2export.evaluation.task import Sample, Task

SETTINGS, FORMAT, VERSION = "evaluation.json", "d2export-evaluation", 1
ANOTHER = "Pass the options of the first run, or another --output; --force starts over."


@dataclass(frozen=True)
class Shard:
    """A part of an evaluation: number `index`, from 1, of `count`."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`2/4` is the second of four.

        Raises:
            UsageError: anything else.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(
                f"--shard is '{text}', expected I/N with I from 1 to N", "For example --shard 1/4."
            )
        return cls(int(found[1]), int(found[2]))

    def part(self, samples: Sequence[Sample]) -> list[Sample]:
        """Its samples: each picture's go to one shard."""
        numbers: dict[str, int] = {}
        for sample in samples:
            numbers.setdefault(sample.picture_id, len(numbers))
        mine = self.index - 1
        return [one for one in samples if numbers[one.picture_id] % self.count == mine]

    @property
    def file(self) -> str:
        """Where its answers are."""
        return f"answers-{self.index}-of-{self.count}.jsonl"


@dataclass(frozen=True)
class Record:
    """One answer, as a line of a file.

    Attributes:
        id: of the sample.
        configuration: its name.
        text: the answer.
        score: 0 to 1.
        kept: how many visual tokens stayed, of `tokens`.
    """

    id: str
    configuration: str
    text: str
    score: float
    kept: int
    tokens: int


def settings_of(
    task: Task, models: Mapping[str, Any], configurations: Sequence[Configuration], shards: int
) -> dict[str, Any]:
    """What answers depend on, as plain values.

    Args:
        models: what is known of the weights, by group of configurations.
    """
    asked = hashlib.sha256()
    for sample in task.samples:
        line = [sample.id, sample.kind, sample.picture_id, sample.prompt, sample.max_new_tokens]
        asked.update(json.dumps(line).encode())
    return {
        "format": FORMAT,
        "version": VERSION,
        "task": task.name,
        "samples": len(task.samples),
        "samples_sha256": asked.hexdigest(),
        "models": dict(models),
        "configurations": {one.name: one.describe() for one in configurations},
        "shards": shards,
    }


class ResultsFolder:
    """A folder whose answers all belong to the same settings.

    Args:
        path: made if it is missing.
        settings: see `settings_of`.
        force: start over where the folder has others; its answers go.

    Raises:
        UsageError: the folder has other settings, or is something else's.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, force: bool = False) -> None:
        self.path, self.settings = path, json.loads(json.dumps(settings))
        known = read_settings(path) if (path / SETTINGS).exists() else None
        if known is None and not force and path.is_dir() and any(path.iterdir()):
            raise OutputError(
                f"{path} is not empty, and is no evaluation: it has no {SETTINGS}",
                "Choose another --output.",
            )
        if known == self.settings:
            return
        if known is not None and not force:
            where, before, now = next(differences(known, self.settings))
            raise UsageError(
                f"{path} is another evaluation: {where} is {before}, not {now}", ANOTHER
            )
        with explained(path):
            for old in [*path.glob("answers-*-of-*.jsonl")] if known is not None else []:
                old.unlink()
        replace_file(path / SETTINGS, json.dumps(self.settings, indent=1) + "\n")

    def shards(self) -> list[int]:
        """The numbers of those that have answers."""
        count = self.settings["shards"]
        return [i for i in range(1, count + 1) if (self.path / Shard(i, count).file).exists()]

    def records(self, shard: Shard | None = None) -> Iterator[Record]:
        """All answers, or those of a shard; a line that a killed run left unfinished is none.

        Raises:
            UsageError: a line is no answer.
        """
        count = self.settings["shards"]
        wanted = [Shard(i, count) for i in self.shards()] if shard is None else [shard]
        for one in wanted:
            yield from _read(self.path / one.file)

    @contextmanager
    def writing(self, shard: Shard) -> Iterator[Writer]:
        """Append to the answers of a shard.

        Raises:
            OutputError: another process does so, or the file cannot be written.
        """
        path = self.path / shard.file
        with explained(path), path.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    f"another process writes the answers of shard {shard.index}/{shard.count} to "
                    f"{path}",
                    "Wait for it to end, or run another --shard.",
                ) from None
            _drop_torn_line(path, file)
            yield Writer(file)


class Writer:
    """Answers on their way into a file."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def add(self, answered: Answered, score: float) -> None:
        """Write one; it is in the file's hands with the next `flush`."""
        record = Record(
            answered.sample.id,
            answered.configuration.name,
            answered.text,
            score,
            len(answered.kept),
            answered.visual_tokens,
        )
        self._file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")

    def flush(self) -> None:
        """What was added survives the process."""
        self._file.flush()


def read_settings(path: Path) -> dict[str, Any]:
    """What a folder's answers belong to.

    Raises:
        UsageError: it is no evaluation, or another version's.
    """
    try:
        found = json.loads((path / SETTINGS).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path / SETTINGS}: {error.strerror}", ANOTHER) from None
    except (ValueError, RecursionError):
        raise UsageError(f"{path / SETTINGS} is not JSON", ANOTHER) from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UsageError(f"{path / SETTINGS} is not '{FORMAT}'", ANOTHER)
    if found.get("version") != VERSION:
        raise UsageError(
            f"{path / SETTINGS} has version {found.get('version')!r}, this d2export reads "
            f"{VERSION}",
            ANOTHER,
        )
    return found


def differences(before: Any, now: Any, at: str = "") -> Iterator[tuple[str, str, str]]:
    """Where two plain values differ: the place, and both values there, in short."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            place = " > ".join(part for part in (at, str(key)) if part)
            yield from differences(before.get(key), now.get(key), place)
    elif before != now:
        yield at, _short(before), _short(now)


def _short(value: Any) -> str:
    if value is None:
        return "none"
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, dict) else "there"
    return text if len(text) <= 60 else text[:57] + "..."


def _read(path: Path) -> Iterator[Record]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith("\n"):
                    return  # of a run that was killed
                try:
                    yield Record(**json.loads(line))
                except (ValueError, TypeError):
                    raise UsageError(
                        f"{path}, line {number} is no answer: {line.strip()[:60]}",
                        "Remove the line; the same command asks again.",
                    ) from None
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "Check the path.") from None


def _drop_torn_line(path: Path, file: TextIO) -> None:
    """Cut off what a killed run left behind the last line."""
    size = path.stat().st_size
    with path.open("rb") as raw:
        end = size
        while end:
            start = max(0, end - 65536)
            raw.seek(start)
            found = raw.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
    if end < size:
        os.truncate(path, end)
    file.seek(0, os.SEEK_END)
