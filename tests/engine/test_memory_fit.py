"""What a model takes: against sums by hand, and in proportion to what is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from d2export.engine.memory_fit import WIDTHS, MemoryNeed, Question, memory_need
from d2export.engine.target import LEAST_COMPUTE_CAPABILITY
from d2export.errors import UsageError
from d2export.models.presets import PRESETS, preset
from d2export.pruning.flops import Prompt, prefill
from d2export.pruning.vision_flops import vision

QUESTION = Question(tiles=1, keep="64", text_tokens=35, answer_tokens=256, prune_layer=2)


def test_llava_7b_by_hand() -> None:
    """CLIP ViT-L/336 with 23 layers and a projector; LLaMA-2-7B with 32,064 tokens."""
    need = memory_need(preset("llava-1.5-7b"), "fp16", QUESTION)
    tables = 2 * 32064 * 4096
    llama = 32 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096) + 4096
    layer = 4 * 1025 * 1024 + 1025 * 4096 + 4097 * 1024 + 4 * 1024
    clip = 3 * 14**2 * 1024 + (24**2 + 2) * 1024 + 2 * 1024 + 23 * layer
    projector = 1025 * 4096 + 4097 * 4096
    assert need.weights == 2 * (tables + llama + clip + projector)
    # Two layers of 576 + 35 tokens and 30 of 64 + 35, each 257 longer at the end; keys and values
    # of 4,096 numbers; the cache that is read and the one that is written.
    tokens = 2 * (576 + 35) + 30 * (64 + 35) + 32 * 257
    assert need.kv_cache == 2 * 2 * 2 * 4096 * tokens
    # Scores of 16 heads in the tower; gate and up of the MLP in prefill.
    tower = 577 * (4 * 1024 + 16 * 577)
    prompt = (576 + 35) * (2 * 4096 + 2 * 11008)
    assert need.activations == 2 * (tower + prompt)
    assert need.total == need.weights + need.kv_cache + need.activations


@pytest.mark.parametrize("name", PRESETS)
def test_precisions(name: str) -> None:
    spec = preset(name)
    fp32, fp16, bf16, int8 = (memory_need(spec, precision, QUESTION) for precision in WIDTHS)
    assert fp32.total == 2 * fp16.total
    assert bf16 == fp16
    assert (int8.kv_cache, int8.activations) == (fp16.kv_cache, fp16.activations)
    tables = spec.text.vocab * spec.text.hidden * 2
    assert int8.weights == tables + fp16.weights // 2


def test_a_head_that_is_the_embedding_counts_once() -> None:
    spec = preset("internvl2.5-1b")
    tied = replace(spec, text=replace(spec.text, tied=True))
    table = spec.text.vocab * spec.text.hidden
    for precision in ("fp16", "int8"):
        both, one = (memory_need(one, precision, QUESTION).weights for one in (spec, tied))
        assert both - one == 2 * table


def test_tiles_and_kept_tokens() -> None:
    spec = preset("internvl2.5-8b")
    question = replace(QUESTION, tiles=13)
    pruned = memory_need(spec, "fp16", question)
    whole = memory_need(spec, "fp16", replace(question, keep="all"))
    quarter = memory_need(spec, "fp16", replace(question, keep="25%"))
    assert pruned.kv_cache < quarter.kv_cache < whole.kv_cache
    prompt = Prompt(35, 13 * 256, 13 * 64, 2)
    assert quarter.activations == (
        vision(spec.vision, 4096, 13).activation_bytes + prefill(spec.text, prompt).activation_bytes
    )
    assert pruned.weights == whole.weights


def test_what_is_left_over() -> None:
    need = MemoryNeed(10, 2, 3)
    assert need.total == 15
    assert need.left_over(20) == 5
    assert need.left_over(14) == -1
    assert need.left_over(None) is None


def test_a_keep_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="--keep is 'many'"):
        memory_need(preset("pocket"), "fp32", replace(QUESTION, keep="many"))


def test_precisions_are_those_of_targets() -> None:
    assert list(WIDTHS) == list(LEAST_COMPUTE_CAPABILITY)
