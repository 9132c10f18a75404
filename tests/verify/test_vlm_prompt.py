from __future__ import annotations

from dataclasses import replace

import pytest

from d2export.errors import UsageError
from d2export.models.presets import preset
from d2export.verify.vlm_prompt import reference_prompt

SPEC = preset("pocket")
PICTURE = SPEC.vision.tokens_per_tile  # 256


def test_without_a_tokenizer_the_text_is_random_and_the_same_every_time() -> None:
    first, second = (reference_prompt(None, SPEC.text, [PICTURE, PICTURE]) for _ in range(2))
    assert first.input_ids.tolist() == second.input_ids.tolist()
    assert len(first.input_ids) == 2 * 256 + 3 * 16
    assert first.visual_positions.tolist() == [*range(16, 272), *range(288, 544)]
    assert first.image_lengths.tolist() == [256, 256]
    assert first.input_ids.max() < SPEC.text.vocab


def test_a_reference_fits_into_the_context() -> None:
    fits = 256 + 2 * 16 + 8
    assert reference_prompt(None, replace(SPEC.text, max_positions=fits), [PICTURE])
    with pytest.raises(UsageError) as caught:
        reference_prompt(None, replace(SPEC.text, max_positions=fits - 1), [PICTURE])
    assert caught.value.problem == (
        f"a reference has {fits} tokens, prompt, picture and answer, this model's context "
        f"{fits - 1}"
    )
