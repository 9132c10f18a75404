"""Attention rows of layers that have not run: the layers' own, where nothing else has changed."""

from __future__ import annotations

import pytest
import torch

from d2export.models.decoder import KeyValue, causal_mask
from d2export.models.presets import TextSpec
from d2export.models.reading_ahead import rows_ahead
from tests.models.test_decoder import SPECS, ours, theirs

NEW, OLD = 23, 7
EVERY_SPEC = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def past_of(spec: TextSpec) -> KeyValue:
    return KeyValue(*(torch.randn(1, spec.kv_heads, OLD, spec.head_dim) for _ in "kv"))


@EVERY_SPEC
@pytest.mark.parametrize("readers", [0, 1, 3])
def test_first_row_is_the_layers_own(spec: TextSpec, readers: int) -> None:
    model = ours(spec, theirs(spec).state_dict())
    layer, states = model.all_layers()[0], torch.randn(1, NEW, spec.hidden)
    rotation, past = model.rotation(torch.arange(40, 40 + NEW).unsqueeze(0)), past_of(spec)
    with torch.inference_mode():
        _, present = layer(states, rotation, causal_mask(NEW, OLD, states), past)
        last = states[:, -1:].expand(-1, readers, -1)
        (row,) = rows_ahead([layer], states, last, rotation, [past])
        expected = (
            layer.last_row(states, rotation, present).unsqueeze(2).expand(-1, -1, readers, -1)
        )
    torch.testing.assert_close(row, expected)


@EVERY_SPEC
def test_second_row_asks_tokens_that_have_not_moved(spec: TextSpec) -> None:
    """As if the last token, behind the first layer, came once more behind the others before it."""
    model = ours(spec, theirs(spec).state_dict())
    first, second = model.all_layers()[:2]
    states = torch.randn(1, NEW, spec.hidden)
    rotation = model.rotation(torch.arange(40, 40 + NEW).unsqueeze(0))
    past = [past_of(spec), past_of(spec)]
    with torch.inference_mode():
        _, row = rows_ahead([first, second], states, states[:, -1:], rotation, past)
        moved, _ = first(states, rotation, causal_mask(NEW, OLD, states), past[0])
        _, present = second(states, rotation, causal_mask(NEW, OLD, states), past[1])
        still = second.last_row(states, rotation, present)
        both = torch.cat([states[:, :-1], moved[:, -1:]], dim=1)
        expected = second.last_row(both, rotation, present)
        everything_moved = second.last_row(
            moved, rotation, second(moved, rotation, causal_mask(NEW, OLD, states), past[1])[1]
        )
    torch.testing.assert_close(row.squeeze(2), expected)
    row = row.squeeze(2)
    assert (row - still).abs().max() > 0.01
    assert (row - everything_moved).abs().max() > 0.01
