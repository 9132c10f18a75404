"""Run an evaluation: ask what is missing, score it, write it down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2export.evaluation.configuration import Answered, Configuration
from d2export.evaluation.results import ResultsFolder, Shard, settings_of
from d2export.evaluation.sweep import uniquely
from d2export.evaluation.task import Sample, Task
from d2export.progress import Progress

Ask = Callable[[Sequence[Sample]], Iterator[Answered]]
SECONDS_BETWEEN_NOTES = 15.0


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model and the configurations it is asked in.

    Attributes:
        configurations: of one or several groups.
        source: what asks the model in some of them.
        facts: what is known of the model, by group, as plain values.
    """

    configurations: Sequence[Configuration]
    source: Callable[[Sequence[Configuration]], Ask]
    facts: Mapping[str, Any]


def evaluate(
    task: Task,
    candidates: Sequence[Candidate],
    output: Path,
    *,
    shard: Shard | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> ResultsFolder:
    """Ask every configuration every question, but for what is in the folder already.

    Args:
        task: the questions.
        candidates: what is compared; all configurations have names of their own.
        output: the folder of the results, made if it is missing.
        shard: which part of the questions; None is all in one.
        force: start over where the folder has other settings.
        progress: told how far it is.

    Raises:
        UsageError: the folder has other settings, or a question does not fit a model.
        ImageError: a picture cannot be read.
        OutputError: the folder cannot be written, or another process writes the same shard.
        D2ExportError: a model cannot be asked.
    """
    progress = progress or Progress(level="quiet")
    shard = shard or Shard()
    configurations = [one for candidate in candidates for one in candidate.configurations]
    uniquely(configurations)
    facts = {group: fact for candidate in candidates for group, fact in candidate.facts.items()}
    settings = settings_of(task, facts, configurations, shard.count)
    folder = ResultsFolder(output, settings, force=force)
    samples = shard.part(task.samples)
    with folder.writing(shard) as writer:
        done = {(record.id, record.configuration) for record in folder.records(shard)}
        pace = _Pace(len(samples) * len(configurations), len(done), progress)
        if done:
            progress.note(f"going on after {len(done):,} of {pace.total:,} answers: {output}")
        for candidate in candidates:
            for missing, asked in _missing(candidate.configurations, samples, done).items():
                for answered in candidate.source(missing)(asked):
                    score = task.score(answered.sample, answered.text)
                    writer.add(answered, score)
                    if pace.step():
                        writer.flush()
                writer.flush()
    return folder


def _missing(
    configurations: Sequence[Configuration],
    samples: Sequence[Sample],
    done: set[tuple[str, str]],
) -> dict[tuple[Configuration, ...], list[Sample]]:
    """Samples by the configurations that have not answered them yet."""
    found: dict[tuple[Configuration, ...], list[Sample]] = {}
    for sample in samples:
        lacks = tuple(one for one in configurations if (sample.id, one.name) not in done)
        if lacks:
            found.setdefault(lacks, []).append(sample)
    return found


class _Pace:
    """How far an evaluation is, how fast it goes, and when it will end."""

    def __init__(self, total: int, done: int, progress: Progress) -> None:
        self.total = total
        self._done, self._progress = done, progress
        self._start, self._before = time.monotonic(), done
        self._said = self._start
        self._flushed = self._start

    def step(self) -> bool:
        """Count an answer; true about once a second, when answers should be written."""
        self._done += 1
        now = time.monotonic()
        if now - self._said >= SECONDS_BETWEEN_NOTES:
            self._said = now
            self._progress.note(f"  {self.text(now)}")
        if now - self._flushed < 1:
            return False
        self._flushed = now
        return True

    def text(self, now: float) -> str:
        """`1,200/8,000 answers, 93 a second, about 12 min left`."""
        rate = (self._done - self._before) / max(now - self._start, 1e-9)
        left = (self.total - self._done) / rate
        return f"{self._done:,}/{self.total:,} answers, {rate:.3g} a second, {duration(left)} left"


def duration(seconds: float) -> str:
    """`about 40 s`, `about 12 min`, `about 3.5 h`."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
