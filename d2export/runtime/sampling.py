"""From logits to a token: the most likely one, or one drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2export.errors import BundleError, UsageError


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn.

    Attributes:
        temperature: logits are divided by it; above 0.
        top_k: only the k most likely tokens; 0 for all.
        top_p: only the most likely tokens that together have this probability, 0 to 1.
        seed: of the generator; the same seed gives the same answer.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for option, value, fits, expected in (
            ("--temperature", self.temperature, 0 < self.temperature < np.inf, "above 0"),
            ("--top-k", self.top_k, self.top_k >= 0, "at least 0"),
            ("--top-p", self.top_p, 0 < self.top_p <= 1, "above 0, at most 1"),
            ("--seed", self.seed, self.seed >= 0, "at least 0"),
        ):
            if not fits:
                raise UsageError(f"{option} is {value}, expected {expected}", "Leave it out.")


def pick(
    logits: npt.NDArray[np.float32], sampling: Sampling | None, generator: np.random.Generator
) -> int:
    """The next token; of equally likely ones the lowest.

    Args:
        logits: `[vocab]` float32.
        sampling: None for the most likely token.

    Raises:
        BundleError: there is no most likely token.
    """
    if not np.isfinite(logits.max()):
        raise BundleError(
            "the decoder answers NaN or infinity, expected finite logits",
            "The model leaves the range of its precision: build it again with --precision fp32.",
        )
    if sampling is None:
        return int(logits.argmax())
    order = np.argsort(-logits, kind="stable")
    if sampling.top_k:
        order = order[: sampling.top_k]
    with np.errstate(over="ignore"):  # a low temperature: minus infinity, weight 0
        below = logits[order].astype(np.float64) - float(logits[order[0]])
        weights = np.exp(below / sampling.temperature)
    weights /= weights.sum()
    # The token that reaches top_p is the last one in.
    count = int(np.searchsorted(np.cumsum(weights), sampling.top_p)) + 1
    chances = weights[:count] / weights[:count].sum()
    return int(generator.choice(order[:count], p=chances))
