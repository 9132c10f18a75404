"""`D2PrunePositions` in C++: the core and the phases of the CUDA kernel, against the reference."""

from __future__ import annotations

from ctypes import byref

import numpy as np
import pytest

from d2export.pruning.parameters import PruneParameters
from tests.plugins.drivers import DTYPES, ORDERS, Drivers
from tests.plugins.drivers import Parameters as CParameters
from tests.plugins.prompt_drivers import core, phases
from tests.prompt_cases import Prompt, expected, large_prompt, random_prompt, small_prompt
from tests.selection_cases import BEYOND_FLOAT16, FLAVOURS

PROMPTS = 30  # of each flavour, in each dtype


def check(
    drivers: Drivers, prompt: Prompt, dtype: str, parameters: PruneParameters, turn: int
) -> None:
    wanted, narrow = expected(prompt, parameters), turn % 5 == 0
    assert core(drivers, prompt, dtype, parameters, narrow) == wanted, parameters
    blocks, order = 1 + turn % 4, ORDERS[turn % len(ORDERS)]
    assert phases(drivers, prompt, dtype, parameters, narrow, blocks, order) == wanted, parameters


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_on_generated_prompts(drivers: Drivers, flavour: str) -> None:
    rng = np.random.default_rng([11, *flavour.encode()])
    for turn in range(PROMPTS):
        prompt, parameters = random_prompt(rng, flavour)
        for dtype in DTYPES:
            if dtype != "float16" or flavour not in BEYOND_FLOAT16:
                check(drivers, prompt, dtype, parameters, turn)


@pytest.mark.parametrize("seed", range(12))
def test_on_many_tokens_of_several_images(drivers: Drivers, seed: int) -> None:
    """More than one tile of candidates, more than one split of the channels."""
    prompt, parameters = large_prompt(np.random.default_rng(seed))
    check(drivers, prompt, DTYPES[seed % 3], parameters, turn=seed)


@pytest.mark.parametrize("lengths", [(), (0,), (0, 0), (4,), (3, 0, 3), (1, 5), (5, 1), (1, 1, 30)])
@pytest.mark.parametrize(
    "budget",
    [{"keep": 1}, {"keep": 3}, {"keep": 2**40}, {"keep_permille": 1}]
    + [{"keep_permille": share} for share in (100, 500, 1000)],
)
@pytest.mark.parametrize("pivot_ratio", [0.0, 0.7, 1.0])
def test_every_budget(
    drivers: Drivers, lengths: tuple[int, ...], budget: dict[str, int], pivot_ratio: float
) -> None:
    """No images, empty ones, images shorter than keep, shares that add up to too many."""
    parameters = PruneParameters(**budget, pivot_ratio=pivot_ratio)
    check(drivers, small_prompt(*lengths), "float32", parameters, turn=len(lengths))


def test_budget_is_that_of_python(drivers: Drivers) -> None:
    for parameters in (
        *(PruneParameters(keep=keep) for keep in (1, 7, 2**40, 2**62)),
        *(PruneParameters(keep_permille=share) for share in (1, 333, 1000)),
    ):
        struct = CParameters(**parameters.attributes())
        for images in (0, 1, 3, 2**31 - 1):
            for tokens in (0, 1, 10, 2**31 - 1):
                answer = drivers.library.d2export_kept_of(byref(struct), images, tokens)
                assert answer == parameters.kept_of(images, tokens), (parameters, images, tokens)
