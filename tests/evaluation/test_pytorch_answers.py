"""The batched engine answers as the exporter's own modules do, one question at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from d2export.evaluation import pytorch_answers, pytorch_pictures, pytorch_sequences
from d2export.evaluation.configuration import Answered, Configuration, unpruned
from d2export.evaluation.pytorch_answers import PytorchAnswers
from d2export.evaluation.pytorch_model import PytorchModel, load_model
from d2export.evaluation.task import Sample
from d2export.models import layouts
from d2export.models.text_layouts import resolve_text
from d2export.models.tiling import tile
from d2export.options import ExportOptions
from d2export.pruning.prior import Prior
from d2export.runtime.generate import kept_per_image
from d2export.verify.vlm_pytorch import Modules, answer, modules_of
from tests.evaluation.small_model import TOKENS, small_samples, write_small_model

OPTIONS: dict[str, dict[str, Any]] = {
    "d2": {"keep": "5"},
    "d2 share": {"keep": "25%", "settings": {"alpha": 1.0, "pivot_ratio": 0.3}},
    "d2 K=1": {"keep": "5", "prune_layer": 1},
    "d2 K=3 with a prior": {"keep": "5", "prune_layer": 3, "prior": "file"},
    "d2 shallow": {"keep": "5", "prior": "shallow"},
    "d2 by tile": {"keep": "3", "budget": "tile"},
    "d2 of the prompt": {"keep": "4", "budget": "prompt"},
    "d2 by cls": {"keep": "5", "importance": "cls"},
    "d2 by text and tile": {"keep": "3", "importance": "text", "budget": "tile", "prior": "file"},
    "d2+": {"keep": "5"},
    "d2+ K=1 with a prior": {"keep": "5", "prune_layer": 1, "prior": "file"},
    "d2+ K=3": {"keep": "5", "prune_layer": 3, "settings": {"rows": "both"}},
    "d2+ ahead by tile": {"keep": "3", "budget": "tile", "settings": {"rows": "ahead"}},
    "d2+ shallow": {"keep": "5", "prior": "shallow", "settings": {"smoothing": 0.0}},
    "fastv": {"keep": "5"},
    "divprune": {"keep": "5"},
    "divprune with gaps": {"keep": "5", "settings": {"position_ids": "original"}},
    "cdpruner": {"keep": "25%"},
    "vispruner": {"keep": "5", "importance_layer": 1},
    "dart": {"keep": "5"},
    "sms": {"max_keep": 9},
    "sms vision": {"settings": {"stage": "vision", "similarity": "cosine"}},
    "sms llm": {"settings": {"stage": "llm", "elbow": "gap"}, "prune_layer": 1},
    "random": {"keep": "5"},
    "uniform": {"keep": "5"},
}


@dataclass
class Asking:
    """A model, and how to ask the exporter's modules with its weights."""

    model: PytorchModel
    refs: dict[str, Any]

    def modules(self, configuration: Configuration) -> Modules:
        spec, plan = self.model.spec, configuration.plan
        everything = ExportOptions("pocket", scope="vlm", keep="all").plan(spec)
        return modules_of(spec, plan or everything, configuration.prior, self.refs)

    def alone(self, sample: Sample, modules: Modules) -> tuple[list[int], list[int]]:
        """Kept visual tokens and the tokens of the answer, as the exporter's modules find them."""
        tiles = tile(sample.load(), self.model.spec.vision)
        encoded = self.model.tokenizer.encode(sample.prompt, [len(tiles.grid)])
        found = answer(modules, [tiles], encoded, sample.max_new_tokens)
        (kept,) = kept_per_image(encoded, found.reference.positions)
        return kept.tolist(), found.reference.tokens.tolist()

    def text(self, tokens: list[int]) -> str:
        """What these tokens say, up to the one that ends them."""
        tokenizer = self.model.tokenizer
        ends = [place for place, token in enumerate(tokens) if token in tokenizer.stop_ids]
        return tokenizer.decode(tokens[: ends[0]] if ends else tokens)


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Asking:
    checkpoint = write_small_model(tmp_path_factory.mktemp("model"))
    refs = layouts.resolve(checkpoint.tensors, checkpoint.spec)
    refs |= resolve_text(checkpoint.tensors, checkpoint.spec)
    return Asking(load_model(checkpoint), refs)


def made(asking: Asking, names: list[str]) -> list[Configuration]:
    rng = np.random.default_rng(5)
    slots = [rng.uniform(0.5, 2, TOKENS).astype(np.float32) for _ in range(2)]
    found = []
    for name in names:
        options = OPTIONS[name]
        chosen = ExportOptions("pocket", scope="vlm", selector=name.split()[0], **options)
        prior = Prior(*slots) if options.get("prior") == "file" else None
        found.append(Configuration(name, name, chosen.plan(asking.model.spec), prior))
    return found


def assert_same(asking: Asking, answers: Iterable[Answered]) -> None:
    modules: dict[Configuration, Modules] = {}
    for found in answers:
        configuration = found.configuration
        if configuration not in modules:
            modules[configuration] = asking.modules(configuration)
        kept, tokens = asking.alone(found.sample, modules[configuration])
        assert found.kept.tolist() == kept
        assert found.text == asking.text(tokens)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_selector_as_the_exported_modules(asking: Asking, name: str) -> None:
    samples = small_samples(3)
    (configuration,) = made(asking, [name])
    answers = list(PytorchAnswers(asking.model, [configuration])(samples))
    assert sorted(item.sample.id for item in answers) == sorted(item.id for item in samples)
    assert {len(item.kept) < item.visual_tokens for item in answers} == {True}
    assert_same(asking, answers)


def test_all_together_as_each_alone(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches, windows and parts that do not come out even."""
    monkeypatch.setattr(pytorch_sequences, "TOKENS_AT_ONCE", 200)
    monkeypatch.setattr(pytorch_answers, "PROMPT_TOKENS_AT_ONCE", 300)
    monkeypatch.setattr(pytorch_pictures, "WINDOW_BYTES", 250_000)  # of tiles of 62 kB
    names = ["d2", "d2 K=1", "d2 by text and tile", "fastv", "cdpruner", "vispruner", "sms", "dart"]
    configurations = [unpruned(), *made(asking, [*names, "sms vision"])]
    samples = small_samples(5, 3)
    together = PytorchAnswers(asking.model, configurations, threads=2)
    answers = {(item.sample.id, item.configuration.name): item for item in together(samples)}
    assert len(answers) == len(samples) * len(configurations)
    for configuration in configurations:
        for found in PytorchAnswers(asking.model, [configuration])(samples):
            other = answers[found.sample.id, configuration.name]
            assert other.kept.tolist() == found.kept.tolist()
            assert other.text == found.text
    assert len({item.text for item in answers.values()}) > 30


def test_unpruned(asking: Asking) -> None:
    samples = small_samples(3)
    answers = list(PytorchAnswers(asking.model, [unpruned()])(samples))
    assert {len(item.kept) == item.visual_tokens for item in answers} == {True}
    assert_same(asking, answers)


def test_answers_end_where_the_model_ends_them(asking: Asking) -> None:
    """A token that comes early in some answers becomes the one that ends them."""
    samples = small_samples(6, longest=9)
    configurations = [unpruned(), *made(asking, ["d2", "divprune"])]
    modules = asking.modules(configurations[0])
    before = [asking.alone(sample, modules)[1] for sample in samples]
    counts: dict[int, int] = {}
    for tokens in before:
        for token in tokens[1:4]:
            counts[token] = counts.get(token, 0) + 1
    ending = max(counts, key=lambda token: counts[token])
    tokenizer = asking.model.tokenizer
    stops, tokenizer.stop_ids = tokenizer.stop_ids, frozenset([ending])
    try:
        answers = list(PytorchAnswers(asking.model, configurations)(samples))
        lengths = {len(tokenizer.tokenizer.encode(item.text).ids) for item in answers}
        assert len(lengths) > 2
        assert_same(asking, answers)
    finally:
        tokenizer.stop_ids = stops


def test_a_choice_of_ones_own(asking: Asking) -> None:
    """What stays may be decided from the layers below: here by the last row of layer 1."""
    (fastv,) = made(asking, ["fastv"])

    def most_attended(below: Any) -> torch.Tensor:
        scores = below.row(1).mean(dim=1)[:, below.visual]
        return scores.topk(5, dim=1).indices.sort(dim=1).values

    own = replace(fastv, name="own", choose=most_attended)
    answers = list(PytorchAnswers(asking.model, [fastv, own])(small_samples(3)))
    by_name = {(item.configuration.name, item.sample.id): item for item in answers}
    for sample in small_samples(3):
        ours, theirs = by_name["own", sample.id], by_name["fastv", sample.id]
        assert ours.kept.tolist() == theirs.kept.tolist()
        assert ours.text == theirs.text
