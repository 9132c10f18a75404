"""The budgets beside the built one are the selector's own rule on the same values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from d2export.models.presets import preset
from d2export.models.tiling import Tiles, tile
from d2export.options import ExportOptions
from d2export.pruning.plan import Plan
from d2export.pruning.prior import Prior
from d2export.pruning.rules.plain import stride_scores
from d2export.pruning.selection import Scored, select
from d2export.report.pytorch_selections import SHARES, recorded

SPEC = preset("pocket")
PER_TILE = SPEC.vision.tokens_per_tile
PRIOR = Prior(
    np.linspace(0.5, 2, PER_TILE, dtype=np.float32), np.linspace(2, 1, PER_TILE, dtype=np.float32)
)


def tiles() -> Tiles:
    return tile(Image.new("RGB", (900, 450)), SPEC.vision)


def plan_of(selector: str, scope: str = "vision", **options: Any) -> Plan:
    return ExportOptions("pocket", selector=selector, scope=scope, **options).plan(SPEC)


def scored(cut: Tiles, rows: int = 1, seed: int = 0) -> Scored:
    """Tokens that resemble each other, of importance per head."""
    random = torch.Generator().manual_seed(seed)
    tokens = len(cut.grid) // rows
    return Scored(
        torch.randn(16, generator=random) + 0.5 * torch.randn(rows, tokens, 16, generator=random),
        torch.rand(rows, 3, tokens, generator=random),
        torch.ones(tokens),
        torch.from_numpy(cut.grid[:tokens]),
    )


BUILT = np.arange(7, dtype=np.int32)


@pytest.mark.parametrize("selector", ["d2", "divprune", "cdpruner", "vispruner", "dart", "random"])
def test_each_share_keeps_as_many_as_it_says(selector: str) -> None:
    cut = tiles()
    options = {"settings": {"pivots": 4}} if selector == "dart" else {}
    found = recorded(plan_of(selector, **options), cut, BUILT, scored(cut), None)
    assert set(found.kept) == {"built", *map(str, SHARES)}
    assert found.kept["built"] is BUILT
    for share in SHARES:
        kept = found.kept[str(share)]
        assert len(kept) == len(cut.grid) * share // 1000
        assert (np.diff(kept) > 0).all()


def test_a_share_is_what_a_bundle_of_that_share_keeps() -> None:
    cut, plan, values = tiles(), plan_of("d2"), scored(tiles())
    found = recorded(plan, cut, BUILT, values, None)
    parameters = replace(plan.parameters, keep=0, keep_permille=100)
    np.testing.assert_array_equal(found.kept["100"], select(*values, parameters)[0].numpy())


def test_an_even_stride_is_even_at_every_share() -> None:
    cut = tiles()
    plan = plan_of("uniform")
    values = scored(cut)._replace(importance=stride_scores(torch.ones(len(cut.grid)), 64)[None])
    found = recorded(plan, cut, BUILT, values, None)
    steps = np.diff(found.kept["250"])
    assert (steps == 4).all()
    assert found.importance is None


def test_importance_is_the_mean_over_heads_and_the_prior_that_of_the_file() -> None:
    cut, values = tiles(), scored(tiles())
    plan = replace(plan_of("d2"), prior="file")
    found = recorded(
        plan, cut, BUILT, values._replace(prior=torch.from_numpy(PRIOR.layout(3))), PRIOR
    )
    np.testing.assert_allclose(found.importance, values.importance[0].mean(dim=0), rtol=1e-6)
    np.testing.assert_array_equal(found.prior, PRIOR.layout(3))
    assert found.eps == plan.eps > 0
    assert recorded(plan_of("d2"), cut, BUILT, values, None).prior is None


def test_a_shallow_prior_is_the_pictures_own() -> None:
    cut, values = tiles(), scored(tiles())
    plan = plan_of("d2", scope="vlm", prior="shallow")
    own = torch.rand(len(cut.grid))
    found = recorded(plan, cut, BUILT, values._replace(prior=own), None)
    np.testing.assert_array_equal(found.prior, own.numpy())


def test_a_budget_for_each_tile() -> None:
    """The graph divides before the rule there: what is stored is importance as it was before."""
    cut, rows = tiles(), 3
    plan = replace(plan_of("d2", budget="tile"), prior="file")
    raw = torch.rand(rows, PER_TILE)
    prior = torch.from_numpy(PRIOR.layout(rows)).view(rows, PER_TILE)
    values = scored(cut, rows)._replace(importance=raw / (prior + plan.eps))
    found = recorded(plan, cut, BUILT, values, PRIOR)
    np.testing.assert_allclose(found.importance, raw.flatten(), rtol=1e-5)
    kept = found.kept["250"]
    assert [((kept // PER_TILE) == row).sum() for row in range(rows)] == [PER_TILE // 4] * rows
    np.testing.assert_allclose(found.debiased, values.importance.flatten(), rtol=1e-5)


@pytest.mark.parametrize("values", [None, "fewer"])
def test_where_no_single_rule_decided_only_the_built_one_is_stored(values: str | None) -> None:
    cut = tiles()
    seen = None if values is None else scored(cut, rows=3)._replace(features=torch.ones(1, 5, 4))
    found = recorded(plan_of("d2"), cut, BUILT, seen, None)
    assert set(found.kept) == {"built"}
    assert found.importance is None


def test_a_count_that_the_picture_decides() -> None:
    cut = tiles()
    found = recorded(plan_of("sms"), cut, BUILT, scored(cut), None)
    assert set(found.kept) == {"built"}
    assert found.importance is not None
