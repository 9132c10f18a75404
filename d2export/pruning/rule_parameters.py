"""Attributes of the rules besides D2Prune's, with their defaults and limits. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from d2export.errors import UsageError
from d2export.pruning.parameters import Budget

LARGEST_PIVOTS = 1024
ElbowRule = Literal["chord", "gap", "curvature"]
ELBOW_RULES: tuple[ElbowRule, ...] = get_args(ElbowRule)
NO_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class MaxMinParameters(Budget):
    """Attributes of `MaxMinPrune`: those of a `Budget`."""


@dataclass(frozen=True)
class DppParameters(Budget):
    """Attributes of `DppPrune`: those of a `Budget`."""


@dataclass(frozen=True)
class DeduplicateParameters(Budget):
    """Attributes of `DeduplicatePrune`, besides those of a `Budget`.

    Attributes:
        important_ratio: share of the kept tokens picked by importance alone, 0 to 1.
    """

    important_ratio: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.important_ratio <= 1:
            raise UsageError(
                f"important_ratio is {self.important_ratio}, expected a number from 0 to 1",
                f"Leave it out for {DeduplicateParameters.important_ratio}.",
            )


@dataclass(frozen=True)
class DartParameters(Budget):
    """Attributes of `DartPrune`, besides those of a `Budget`.

    Attributes:
        pivots: how many tokens of largest norm the others are compared with, 1 to 1024.
    """

    pivots: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.pivots <= LARGEST_PIVOTS:
            raise UsageError(
                f"pivots is {self.pivots}, expected 1 to {LARGEST_PIVOTS}",
                f"Leave it out for {DartParameters.pivots}.",
            )


@dataclass(frozen=True)
class ElbowParameters:
    """Attributes of `ElbowPrune`.

    Attributes:
        min_keep: tokens that stay wherever the curve bends.
        max_keep: tokens that stay at most.
        elbow: place in `ELBOW_RULES` of the rule for the inflection point.
    """

    min_keep: int = 1
    max_keep: int = NO_LIMIT
    elbow: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.min_keep <= self.max_keep <= NO_LIMIT:
            raise UsageError(
                f"min_keep is {self.min_keep} and max_keep is {self.max_keep}: expected "
                f"1 <= min_keep <= max_keep <= {NO_LIMIT}",
                "Leave them out for 1 and no limit.",
            )
        if not 0 <= self.elbow < len(ELBOW_RULES):
            raise UsageError(
                f"elbow is {self.elbow}, expected 0 to {len(ELBOW_RULES) - 1}",
                f"In this order: {', '.join(ELBOW_RULES)}.",
            )

    def attributes(self) -> dict[str, int]:
        """Values as ONNX attributes."""
        return {"min_keep": self.min_keep, "max_keep": self.max_keep, "elbow": self.elbow}
