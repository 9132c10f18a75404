"""An evaluation asks once: not again what a killed run, or another shard, has written."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2export.errors import OutputError, UsageError
from d2export.evaluation import run
from d2export.evaluation.configuration import Answered, Configuration, unpruned
from d2export.evaluation.results import ResultsFolder, Shard, differences
from d2export.evaluation.run import Candidate, duration, evaluate
from d2export.evaluation.task import Sample, Task
from d2export.models.presets import preset
from d2export.options import ExportOptions
from d2export.progress import Progress
from tests.evaluation.small_model import small_samples, small_task

SPEC = preset("pocket")
Asked = list[tuple[str, str]]


def pruned(name: str, **options: Any) -> Configuration:
    plan = ExportOptions("pocket", scope="vlm", selector=name, **options).plan(SPEC)
    return Configuration(f"{name} 10%", name, plan)


class Killed(Exception):
    """As if the process had ended."""


def candidate(
    asked: Asked, configurations: Sequence[Configuration], lives: int = 10**9, **facts: Any
) -> Candidate:
    """Answers with the configuration's name; dies when it is asked too often."""

    def source(some: Sequence[Configuration]) -> Callable[[Sequence[Sample]], Iterator[Answered]]:
        def ask(samples: Sequence[Sample]) -> Iterator[Answered]:
            for sample in samples:
                for one in some:
                    if len(asked) == lives:
                        raise Killed
                    asked.append((sample.id, one.name))
                    yield Answered(sample, one, one.name, np.arange(3, dtype=np.int32), 16)

        return ask

    return Candidate(configurations, source, {"": {"weights": "a", **facts}})


@pytest.fixture
def task() -> Task:
    return small_task(small_samples(6))


BOTH = [unpruned(), pruned("fastv")]


def test_every_question_once(task: Task, tmp_path: Path) -> None:
    asked: Asked = []
    folder = evaluate(task, [candidate(asked, BOTH)], tmp_path / "out")
    assert sorted(asked) == sorted(set(asked))
    assert len(asked) == 2 * len(task.samples)
    records = list(folder.records())
    assert [(one.id, one.configuration) for one in records] == asked
    assert {(one.text, one.score, one.kept, one.tokens) for one in records} == {
        ("unpruned", 0.0, 3, 16),  # scored by the task: an even number of letters
        ("fastv 10%", 1.0, 3, 16),
    }
    assert list(tmp_path.glob("out/*")) == list(tmp_path.glob("out/*.json*"))


def test_a_killed_run_goes_on_behind_its_last_answer(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run._Pace, "step", lambda self: True)  # as if a second passed each time
    first: Asked = []
    with pytest.raises(Killed):
        evaluate(task, [candidate(first, BOTH, lives=7)], tmp_path)
    file = tmp_path / "answers-1-of-1.jsonl"
    file.write_text(file.read_text() + '{"id": "5.1", "configuration": "unpr')
    second: Asked = []
    folder = evaluate(task, [candidate(second, BOTH)], tmp_path)
    assert len(first) == 7
    assert not set(first) & set(second)
    assert len(first) + len(second) == 2 * len(task.samples)
    assert len(list(folder.records())) == 2 * len(task.samples)
    third: Asked = []
    evaluate(task, [candidate(third, BOTH)], tmp_path)
    assert third == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda task: (replace(task, name="other"), BOTH, {}), 'task is "small", not "other"'),
        (
            lambda task: (replace(task, samples=task.samples[:4]), BOTH, {}),
            "samples is 12, not 4",
        ),
        (
            lambda task: (task, [unpruned(), pruned("fastv", prune_layer=1)], {}),
            "configurations > fastv 10% > prune_layer is 2, not 1",
        ),
        (
            lambda task: (task, [unpruned(), pruned("fastv", keep="9")], {}),
            "configurations > fastv 10% > parameters > keep is 64, not 9",
        ),
        (lambda task: (task, BOTH[:1], {}), "configurations > fastv 10% is there, not none"),
        (lambda task: (task, BOTH, {"weights": "b"}), 'models > weights is "a", not "b"'),
    ],
)  # fmt: skip
def test_other_settings_are_refused(
    task: Task, tmp_path: Path, change: Callable[[Task], Any], message: str
) -> None:
    evaluate(task, [candidate([], BOTH)], tmp_path)
    before = (tmp_path / "answers-1-of-1.jsonl").read_text()
    other, configurations, facts = change(task)
    with pytest.raises(UsageError) as caught:
        evaluate(other, [candidate([], configurations, **facts)], tmp_path)
    assert caught.value.problem == f"{tmp_path} is another evaluation: {message}"
    assert (tmp_path / "answers-1-of-1.jsonl").read_text() == before
    asked: Asked = []
    evaluate(other, [candidate(asked, configurations, **facts)], tmp_path, force=True)
    assert len(asked) == len(configurations) * len(other.samples)


def test_shards_part_the_pictures(task: Task, tmp_path: Path) -> None:
    parts = [Shard(i, 4).part(task.samples) for i in (1, 2, 3, 4)]
    assert sorted(one.id for part in parts for one in part) == [one.id for one in task.samples]
    pictures = [{one.picture_id for one in part} for part in parts]
    assert [len(one) for one in pictures] == [2, 2, 1, 1]
    assert sum(map(len, pictures)) == len(set().union(*pictures))
    folder = evaluate(task, [candidate([], BOTH)], tmp_path, shard=Shard(2, 4))
    evaluate(task, [candidate([], BOTH)], tmp_path, shard=Shard(4, 4))
    assert folder.shards() == [2, 4]
    assert {one.id for one in folder.records()} == {one.id for one in parts[1] + parts[3]}
    with pytest.raises(UsageError, match="shards is 4, not 3"):
        evaluate(task, [candidate([], BOTH)], tmp_path, shard=Shard(1, 3))


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_a_shard_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match=f"--shard is '{text}', expected I/N"):
        Shard.parse(text)
    assert Shard.parse("2/4") == Shard(2, 4)


def test_two_processes_do_not_write_one_shard(task: Task, tmp_path: Path) -> None:
    evaluate(task, [candidate([], BOTH)], tmp_path, shard=Shard(1, 2))
    with (tmp_path / "answers-1-of-2.jsonl").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="another process writes the answers of shard 1/2"):
            evaluate(task, [candidate([], BOTH)], tmp_path, shard=Shard(1, 2))
        evaluate(task, [candidate([], BOTH)], tmp_path, shard=Shard(2, 2))


def test_a_folder_of_something_else_is_left_alone(task: Task, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"is not empty, and is no evaluation"):
        evaluate(task, [candidate([], BOTH)], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_line_that_is_no_answer_is_named(task: Task, tmp_path: Path) -> None:
    folder = evaluate(task, [candidate([], BOTH)], tmp_path)
    file = tmp_path / "answers-1-of-1.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0], '{"id": 3}\n', *lines[1:]]))
    with pytest.raises(UsageError, match=r"line 2 is no answer: \{\"id\": 3\}"):
        list(folder.records())


@pytest.mark.parametrize("content", ["[]", "{", '{"format": "d2export-evaluation", "version": 9}'])
def test_settings_that_cannot_be_read(tmp_path: Path, content: str) -> None:
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(UsageError, match=r"evaluation\.json"):
        ResultsFolder(tmp_path, {"format": "d2export-evaluation", "version": 1})


def test_how_far_it_is(
    task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SECONDS_BETWEEN_NOTES", 0.0)
    evaluate(task, [candidate([], BOTH)], tmp_path, progress=Progress())
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 24
    assert notes[11].startswith("  12/24 answers, ")
    assert notes[11].endswith(" a second, about 1 s left")
    assert [duration(x) for x in (0.2, 40, 700, 12600)] == [
        "about 1 s", "about 40 s", "about 12 min", "about 3.5 h",
    ]  # fmt: skip


def test_differences_are_found_at_any_depth() -> None:
    before, now = {"a": {"b": [1, 2], "c": 3}}, {"a": {"b": [1, 3]}, "d": 4}
    assert list(differences(before, now)) == [
        ("a > b", "[1, 2]", "[1, 3]"),
        ("a > c", "3", "none"),
        ("d", "none", "4"),
    ]


def test_configurations_have_names_of_their_own(task: Task, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="configurations of one name: unpruned"):
        evaluate(task, [candidate([], [unpruned(), unpruned()])], tmp_path)


def test_settings_are_json(task: Task, tmp_path: Path) -> None:
    evaluate(task, [candidate([], BOTH)], tmp_path)
    stored = json.loads((tmp_path / "evaluation.json").read_text())
    assert stored["task"] == "small"
    assert stored["samples"] == 12
    assert stored["configurations"]["fastv 10%"]["prune_layer"] == 2
