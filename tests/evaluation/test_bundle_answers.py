"""Bundles answer as built, with other keep values, and unpruned; and as PyTorch does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from d2export.bundle.folder import Bundle, read_bundle
from d2export.errors import UsageError
from d2export.evaluation.bundle_answers import bundle_candidate
from d2export.evaluation.configuration import Answered
from d2export.evaluation.pytorch_answers import PytorchAnswers
from d2export.evaluation.pytorch_model import PytorchModel, load_model
from d2export.models.checkpoint import Checkpoint
from tests.evaluation.small_model import TOKENS, small_samples, write_bundle

pytest.importorskip("onnxruntime", reason="onnxruntime, to run the graphs")

SAMPLES = small_samples(3)


@pytest.fixture(scope="module")
def model(small_model: Checkpoint) -> PytorchModel:
    return load_model(small_model)


@pytest.fixture(scope="module")
def bundles(
    small_model: Checkpoint, d2_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Bundle]:
    """One that prunes inside the language model, one before it, one in both places."""
    folder = tmp_path_factory.mktemp("bundles")
    write_bundle(small_model, folder / "cdpruner", selector="cdpruner", keep="50%")
    write_bundle(small_model, folder / "sms", selector="sms", max_keep=9)
    return {
        "d2": read_bundle(d2_bundle),
        "cdpruner": read_bundle(folder / "cdpruner"),
        "sms": read_bundle(folder / "sms"),
    }


def otherwise(bundle: Bundle, name: str, **changes: Any) -> Bundle:
    """A bundle that says something else of itself; enough where its graphs do not run."""
    selector = {key[9:]: value for key, value in changes.items() if key.startswith("selector_")}
    changes = {key: value for key, value in changes.items() if not key.startswith("selector_")}
    manifest = replace(bundle.manifest, **changes)
    manifest = replace(manifest, selector=replace(manifest.selector, **selector))
    return Bundle(bundle.root.parent / name, manifest)


def by_name(answers: list[Answered]) -> dict[tuple[str, str], Answered]:
    return {(item.configuration.name, item.sample.id): item for item in answers}


def assert_same(
    bundle: Bundle, model: PytorchModel, keeps: list[str], expected: int
) -> list[Answered]:
    """The graphs keep and answer what PyTorch does in the same configurations."""
    candidate = bundle_candidate([bundle], keeps)
    graphs = list(candidate.source(candidate.configurations)(SAMPLES))
    theirs = by_name(list(PytorchAnswers(model, candidate.configurations)(SAMPLES)))
    assert len(theirs) == len(graphs) == expected * len(SAMPLES)
    for found in graphs:
        other = theirs[found.configuration.name, found.sample.id]
        assert found.kept.tolist() == other.kept.tolist()
        assert found.text == other.text
        assert found.visual_tokens == other.visual_tokens
        if found.configuration.is_baseline:
            assert len(found.kept) == found.visual_tokens
    return graphs


@pytest.mark.parametrize(("name", "own"), [("d2", "8"), ("cdpruner", "50%")])
def test_other_keep_values_as_pytorch(
    bundles: dict[str, Bundle], model: PytorchModel, name: str, own: str
) -> None:
    """By count and by share, whichever it was built with."""
    graphs = assert_same(bundles[name], model, ["3", "25%", own], 4)
    counts = {len(item.kept) for item in graphs if item.visual_tokens == TOKENS}
    assert counts == {3, 4, 8, TOKENS}


def test_sms_unpruned_keeps_every_word_too(bundles: dict[str, Bundle], model: PytorchModel) -> None:
    assert_same(bundles["sms"], model, [], 2)


def test_a_count_that_is_in_the_graph_is_refused(bundles: dict[str, Bundle]) -> None:
    """An even stride depends on how many tokens it keeps; keeping all needs none."""
    stride: dict[str, Any] = {
        "selector_name": "uniform", "selector_importance": "stride", "selector_settings": {},
        "selector_keep": 8, "selector_keep_permille": None, "selector_position_ids": "original",
    }  # fmt: skip
    bundle = otherwise(bundles["cdpruner"], "stride", **stride)
    with pytest.raises(UsageError) as caught:
        bundle_candidate([bundle], ["3"])
    assert caught.value.problem == (
        f"--keep is 3, but {bundle.root} was built for --keep 8, and the graph of selector "
        "'uniform' has that in its stride"
    )
    assert caught.value.hint == (
        "Build a bundle with --selector uniform --keep 3, or evaluate it with --model."
    )
    names = [one.name for one in bundle_candidate([bundle], ["8", "all"]).configurations]
    assert names == ["unpruned", "uniform 8", "uniform all"]


def test_what_cannot_be_had_says_so(bundles: dict[str, Bundle]) -> None:
    sms = bundles["sms"]
    settings = {**sms.manifest.selector.settings, "static": True}
    static = otherwise(sms, "static", selector_settings=settings)
    with pytest.raises(UsageError, match="padded to 9 rows"):
        bundle_candidate([static], [])
    with pytest.raises(UsageError, match="the picture says how many tokens stay"):
        bundle_candidate([sms], ["5"])
    # Behind one that can, whose unpruned answers serve both.
    names = [one.name for one in bundle_candidate([sms, static], []).configurations]
    assert names == ["unpruned", "sms K=2", "sms static=True K=2"]


def test_bundles_of_one_model_share_the_unpruned_answers(bundles: dict[str, Bundle]) -> None:
    first = bundles["d2"]
    half = otherwise(first, "half", precision="fp16")
    earlier = otherwise(first, "earlier", selector_prune_layer=1)

    def names(given: list[Bundle]) -> list[str]:
        return [one.name for one in bundle_candidate(given, []).configurations]

    assert names([first]) == ["unpruned", "d2 K=2 8"]
    assert names([first, earlier]) == ["unpruned", "d2 K=2 8", "d2 K=1 8"]
    assert names([first, otherwise(first, "again")]) == ["unpruned", "d2 K=2 8", "d2 K=2 8 again"]
    several = bundle_candidate([first, half], []).configurations
    assert {one.name: one.group for one in several} == {
        "unpruned fp32": "fp32",
        "d2 K=2 fp32 8": "fp32",
        "unpruned fp16": "fp16",
        "d2 K=2 fp16 8": "fp16",
    }


def test_scope_vision_answers_nothing(bundles: dict[str, Bundle]) -> None:
    with pytest.raises(UsageError, match="it answers nothing"):
        bundle_candidate([otherwise(bundles["cdpruner"], "half", scope="vision")], [])
