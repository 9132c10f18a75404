"""How a calibration of INT8 scales is made."""

from __future__ import annotations

from dataclasses import dataclass

from d2export.calibration.int8_ranges import METHODS, PERCENTILE
from d2export.calibration.int8_smoothing import ALPHA
from d2export.errors import UsageError

ANSWER_TOKENS = 32


@dataclass(frozen=True)
class Settings:
    """What a user can choose; `int8_scales.Int8Scales` says the same of a finished one.

    Attributes:
        method: one of `int8_ranges.METHODS`.
        percentile: above 0 to 100; share of an activation that does not saturate.
        alpha: 0 to 1, of SmoothQuant; None leaves it out.
        keep_fp16_below: decibels; products whose error is larger stay as they are.
        answer_tokens: of the model's own answer to each prompt, at most, that is measured, too; in
            scope `vlm`.

    Raises:
        UsageError: a value is none of these.
    """

    method: str = METHODS[0]
    percentile: float = PERCENTILE
    alpha: float | None = ALPHA
    keep_fp16_below: float | None = None
    answer_tokens: int = ANSWER_TOKENS

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(
                f"--method is '{self.method}', expected one of {', '.join(METHODS)}",
                f"Leave it out for {METHODS[0]}.",
            )
        if not 0 < self.percentile <= 100:
            raise UsageError(
                f"--percentile is {self.percentile:g}, expected above 0, up to 100",
                f"Leave it out for {PERCENTILE:g}.",
            )
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise UsageError(
                f"--alpha is {self.alpha:g}, expected 0 to 1", f"Leave it out for {ALPHA:g}."
            )
        if self.keep_fp16_below is not None and not 0 <= self.keep_fp16_below < float("inf"):
            raise UsageError(
                f"--keep-fp16-below is {self.keep_fp16_below:g}, expected 0 or more decibels",
                "Leave it out to have every product in INT8; 30 keeps the least exact ones.",
            )
        if self.answer_tokens < 0:
            raise UsageError(
                f"--answer-tokens is {self.answer_tokens}, expected 0 or more",
                f"Leave it out for {ANSWER_TOKENS}; 0 measures prompts only.",
            )
