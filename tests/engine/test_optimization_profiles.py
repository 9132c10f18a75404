"""Profiles cover what the runtime feeds, and no more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from d2export.engine.optimization_profiles import (
    Profile,
    Shapes,
    decoder_profiles,
    spanning,
    vision_profiles,
)
from d2export.models.presets import PRESETS, ModelSpec
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import Plan, d2_plan
from tests.engine.plans import INSIDE, MODEL, Value, decoder_inputs, vision_inputs

CAPTIONED = d2_plan(PruneParameters(keep=64), "cls", 22)


def decoder(spec: ModelSpec = MODEL, plan: Plan = INSIDE) -> tuple[Profile, ...]:
    return decoder_profiles(decoder_inputs(spec, plan), spec.vision, spec.text, plan)


def test_a_picture_at_most_tiles_and_its_thumbnail() -> None:
    (profile,) = vision_profiles(vision_inputs(), MODEL.vision, MODEL.text)
    assert profile.shapes == {
        "pixel_values": Shapes((1, 3, 448, 448), (13, 3, 448, 448), (13, 3, 448, 448)),
        "token_grid": Shapes((256, 2), (3328, 2), (3328, 2)),
    }


def test_a_model_of_one_tile_has_no_thumbnail() -> None:
    spec = PRESETS["llava-1.5-7b"]
    (profile,) = vision_profiles(vision_inputs(spec), spec.vision, spec.text)
    assert profile.shapes["pixel_values"].max == (1, 3, 336, 336)
    assert profile.shapes["token_grid"] == Shapes((576, 2), (576, 2), (576, 2))


def test_a_prompt_for_importance() -> None:
    inputs = (*vision_inputs(), Value("prompt_embeds", ("prompt_length", 896)))
    (profile,) = vision_profiles(inputs, MODEL.vision, MODEL.text)
    assert profile.shapes["prompt_embeds"] == Shapes((1, 896), (64, 896), (512, 896))


def test_each_tile_may_count_as_an_image() -> None:
    by_tile = replace(INSIDE, budget="tile")
    prefill, decode = decoder(plan=by_tile)
    assert prefill.shapes["image_lengths"] == Shapes((0,), (13,), (13,))
    assert decode.shapes["image_lengths"] == Shapes((0,), (0,), (0,))


def test_prefill_has_no_past_and_decode_no_picture() -> None:
    prefill, decode = decoder()
    assert prefill.shapes["input_ids"] == Shapes((1, 1), (1, 3392), (1, 3840))
    assert prefill.shapes["visual_positions"] == Shapes((0,), (3328,), (3328,))
    assert prefill.shapes["image_lengths"] == Shapes((0,), (1,), (8,))
    empty = (1, 2, 0, 64)
    assert prefill.shapes["past_key_values.0.key"] == Shapes(empty, empty, empty)
    assert decode.shapes["input_ids"] == Shapes((1, 1), (1, 1), (1, 1))
    assert decode.shapes["image_embeds"] == Shapes((0, 896), (0, 896), (0, 896))
    assert decode.shapes["image_lengths"] == Shapes((0,), (0,), (0,))


def test_layers_from_k_on_remember_less() -> None:
    _, decode = decoder()
    below = decode.shapes["past_key_values.1.value"]
    above = decode.shapes["past_key_values.2.value"]
    assert (below.min[2], below.opt[2], below.max[2]) == (1, 3328 + 64 + 256, 3328 + 1024 - 1)
    assert (above.min[2], above.opt[2], above.max[2]) == (1, 64 + 64 + 256, 3328 + 1024 - 1)


def test_a_decoder_that_does_not_prune_gets_kept_tokens() -> None:
    prefill, decode = decoder(plan=CAPTIONED)
    assert prefill.shapes["image_embeds"].max == (64, 896)
    assert prefill.shapes["input_ids"] == Shapes((1, 1), (1, 128), (1, 576))
    assert decode.shapes["past_key_values.23.key"].max[2] == 64 + 1024 - 1


@pytest.mark.parametrize("positions", [64, 600, 4000])
def test_a_small_context_is_not_exceeded(positions: int) -> None:
    spec = replace(MODEL, text=replace(MODEL.text, max_positions=positions))
    prefill, decode = decoder(spec)
    assert prefill.shapes["input_ids"].max[1] <= positions
    assert decode.shapes["past_key_values.0.key"].max[2] == min(positions, 3328 + 1024) - 1
    for profile in (prefill, decode):
        for shapes in profile.shapes.values():
            for low, usual, high in zip(shapes.min, shapes.opt, shapes.max, strict=True):
                assert 0 <= low <= usual <= high


def test_every_dynamic_input_is_in_every_profile() -> None:
    dynamic = {value.name for value in decoder_inputs()}
    assert all(set(profile.shapes) == dynamic for profile in decoder())


def test_a_static_input_needs_no_profile() -> None:
    inputs = (*vision_inputs(), Value("scale", (1, 3)))
    (profile,) = vision_profiles(inputs, MODEL.vision, MODEL.text)
    assert "scale" not in profile.shapes


def test_one_that_spans_both() -> None:
    both = spanning(decoder())
    assert both.name == "prefill+decode"
    assert both.shapes["input_ids"] == Shapes((1, 1), (1, 3392), (1, 3840))
    assert both.shapes["past_key_values.0.key"].max == (1, 2, 3328 + 1024 - 1, 64)
