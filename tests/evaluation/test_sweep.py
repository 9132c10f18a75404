"""Selectors, keep values and layers, each with each; and a ceiling for all of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from d2export.errors import UsageError
from d2export.evaluation.configuration import baseline_of
from d2export.evaluation.oracle import oracle, oracle_tokens
from d2export.evaluation.sweep import Sweep
from d2export.evaluation.task import Sample
from d2export.models.presets import preset
from d2export.models.tiling import tile
from d2export.pruning.prior import Prior, prior_document

SPEC = preset("pocket")


def names(**options: Any) -> list[str]:
    return [one.name for one in Sweep(**options).configurations(SPEC)]


def test_each_with_each() -> None:
    assert names(selectors=("d2", "divprune", "sms"), keeps=("25%", "64"), prune_layers=(1, 3)) == [
        "unpruned",
        "d2 K=1 25%", "d2 K=1 64", "d2 K=3 25%", "d2 K=3 64",
        "divprune 25%", "divprune 64",
        "sms K=1", "sms K=3",
    ]  # fmt: skip
    assert names(keeps=("10%",)) == ["unpruned", "d2 10%"]
    assert names(keeps=("10%",), prune_layers=(1,)) == ["unpruned", "d2 10%"]
    assert names(keeps=("10%",), oracle=True) == ["unpruned", "d2 10%", "oracle 10%"]


def test_plans_are_those_that_a_build_would_have() -> None:
    sweep = Sweep(("d2", "vispruner"), ("25%",), (3,), {"alpha": "1.0", "important_ratio": "0.2"})
    base, d2, vispruner = sweep.configurations(SPEC)
    assert base.plan is None
    assert d2.series == "d2 alpha=1.0"
    assert d2.plan is not None
    assert (d2.plan.prune_layer, d2.plan.parameters.alpha) == (3, 1.0)
    assert d2.plan.parameters.keep_permille == 250
    assert vispruner.plan is not None
    assert vispruner.plan.in_vision
    assert vispruner.plan.importance_layer == 2
    assert vispruner.plan.parameters.important_ratio == 0.2
    assert baseline_of(d2, [base, d2]) is base
    assert baseline_of(base, [base, d2]) is None


def test_a_model_of_two_layers_can_be_pruned_before_its_second() -> None:
    spec = replace(SPEC, text=replace(SPEC.text, layers=2))
    sweep = Sweep(("d2", "divprune"), ("10%",), (1,))
    _, d2, _ = sweep.configurations(spec)
    assert d2.plan is not None
    assert d2.plan.prune_layer == 1
    with pytest.raises(UsageError, match="--prune-layer is 2: this language model has 2 layers"):
        Sweep(keeps=("10%",)).configurations(spec)


def test_position_ids_say_so_in_the_name() -> None:
    sweep = Sweep(("divprune", "d2"), ("10%",), settings={"position_ids": "original"})
    _, divprune, d2 = sweep.configurations(SPEC)
    assert divprune.name == "divprune position_ids=original 10%"
    assert divprune.plan is not None
    assert divprune.plan.position_ids == "original"
    assert d2.name == "d2 10%"


def test_a_prior_goes_to_those_that_divide_by_one(tmp_path: Path) -> None:
    ones = np.ones(256, np.float32)
    path = tmp_path / "prior.json"
    path.write_text(json.dumps(prior_document(Prior(ones, 2 * ones))))
    _, d2, fastv = Sweep(("d2", "fastv"), ("10%",), prior=path).configurations(SPEC)
    assert d2.name == "d2 prior=file 10%"
    assert d2.prior is not None
    assert d2.prior.thumbnail[0] == 2
    assert d2.describe()["prior_sha256"] is not None
    assert fastv.prior is None
    _, shallow = Sweep(("d2",), ("10%",), prior="shallow").configurations(SPEC)
    assert shallow.plan is not None
    assert shallow.plan.prior == "shallow"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keeps": ("10%", "5%", "10%")}, "--keep 10% is given twice"),
        ({"selectors": ("d2", "d2")}, "--selector d2 is given twice"),
        ({"prune_layers": (4,)}, "--prune-layer is 4: this language model has 4 layers"),
        ({"settings": {"seed": "1"}}, "--set seed: none of the selectors d2 has it"),
        (
            {"selectors": ("fastv",), "prior": "shallow"},
            "--prior is shallow, but none of the selectors fastv divides by one",
        ),
        (
            {"selectors": ("fastv",), "importance": "cls"},
            "--importance is 'cls', but the selectors fastv leave it not open",
        ),
        (
            {"max_keep": 9},
            "--max-keep is 9, but --keep says how many tokens the selectors d2 keep",
        ),
        ({"selectors": ("fastvv",)}, "there is no selector 'fastvv', did you mean 'fastv'?"),
    ],
)
def test_what_fits_nothing_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        names(**options)
    assert caught.value.problem == message
    assert caught.value.hint


def sample(*regions: tuple[float, float, float, float], name: str = "a") -> Sample:
    return Sample(name, "locate", Image.new, "p", "where?", None, 4, regions)


def test_an_oracle_keeps_what_the_answer_is_seen_in() -> None:
    """The upper left 28 x 56 pixels of 448 are one token and the one below it."""
    tiles = tile(Image.new("RGB", (448, 448)), SPEC.vision)
    kept = oracle_tokens(sample((0, 0, 28 / 448, 56 / 448)), tiles, 12)
    assert len(kept) == len(set(kept.tolist())) == 12
    assert kept.tolist() == sorted(kept.tolist())
    assert {0, 16} <= set(kept.tolist())
    others = oracle_tokens(sample((0, 0, 28 / 448, 56 / 448), name="b"), tiles, 12)
    assert others.tolist() != kept.tolist()
    assert {0, 16} <= set(others.tolist())
    again = oracle_tokens(sample((0, 0, 28 / 448, 56 / 448)), tiles, 12)
    assert again.tolist() == kept.tolist()
    more = oracle_tokens(sample((0, 0, 28 / 448, 56 / 448)), tiles, 40)
    assert set(kept.tolist()) < set(more.tolist())


def test_an_oracle_with_more_to_see_than_it_may_keep() -> None:
    tiles = tile(Image.new("RGB", (448, 448)), SPEC.vision)
    kept = oracle_tokens(sample((0, 0, 1, 2 / 16)), tiles, 5)  # two rows of 16
    assert len(kept) == 5
    assert kept.max() < 32
    assert len(oracle_tokens(sample(), tiles, 5)) == 5  # nothing known: chance alone


def test_an_oracle_of_a_picture_in_tiles() -> None:
    """A wide picture: its left half is the first tile, and the left half of the thumbnail."""
    tiles = tile(Image.new("RGB", (896, 448)), SPEC.vision)
    kept = oracle_tokens(sample((0, 0, 0.5, 1)), tiles, 256 + 128)
    assert kept[:256].tolist() == list(range(256))
    assert ((kept[256:] - 512) % 16 < 8).all()


def test_an_oracle_is_a_configuration_with_a_choice_of_its_own() -> None:
    found = oracle(SPEC, "10%", 1)
    assert (found.name, found.series) == ("oracle 10%", "oracle")
    assert found.plan is not None
    assert found.plan.prune_layer == 1
    assert found.describe()["own_choice"] is True
