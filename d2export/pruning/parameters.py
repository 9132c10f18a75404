"""The ops `D2Prune` and `D2PrunePositions`: names, attributes and defaults, defined here only."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields

from d2export.errors import UsageError

DOMAIN = "d2export"
OP_TYPE = "D2Prune"
POSITIONS_OP_TYPE = "D2PrunePositions"
OP_VERSION = 1

_FLOAT32_MAX = (2 - 2**-23) * 2.0**127


@dataclass(frozen=True)
class Budget:
    """How many tokens stay; exactly one of `keep` and `keep_permille` is set, the other is 0.

    Attributes:
        keep: visual tokens kept per image, over all its tiles.
        keep_permille: share kept, in thousandths of the image's tokens, at least one token.
    """

    keep: int = 0
    keep_permille: int = 0

    def __post_init__(self) -> None:
        if self.keep < 0 or self.keep_permille < 0 or (self.keep > 0) == (self.keep_permille > 0):
            raise UsageError(
                f"keep={self.keep} and keep_permille={self.keep_permille}: "
                "expected exactly one of them above 0",
                "Set keep to a count of tokens, or keep_permille to a share of them.",
            )
        if self.keep_permille > 1000:
            raise UsageError(
                f"keep_permille is {self.keep_permille}, expected 1 to 1000",
                "Pass 1000 to keep all tokens.",
            )

    def kept(self, tokens: int) -> int:
        """How many of `tokens` stay."""
        wanted = self.keep or max(1, tokens * self.keep_permille // 1000)
        return min(wanted, tokens)

    def kept_of(self, images: int, tokens: int) -> int:
        """How many visual tokens of a prompt stay, of `tokens` in all `images` together.

        It depends on the two counts alone, so that a graph knows the shape: what an image with
        fewer tokens than `keep` leaves over goes to the others.
        """
        wanted = images * self.keep or max(images, tokens * self.keep_permille // 1000)
        return min(wanted, tokens)

    def attributes(self) -> dict[str, int | float]:
        """Values as ONNX attributes: ints and floats only, floats also where 0 or 1 was given."""
        types = {field.name: field.type for field in fields(self)}
        return {
            name: float(value) if types[name] == "float" else int(value)
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class PruneParameters(Budget):
    """Attributes of `D2Prune`, besides those of a `Budget`.

    Attributes:
        pivot_ratio: share of the kept tokens picked by importance alone, 0 to 1.
        alpha: weight of semantic against spatial similarity, 0 to 1.
        theta: two tokens are neighbours when their similarity exceeds this.
        eps: added to the prior before dividing by it.
        pivots_block: whether pivots also rule out their neighbours.
    """

    pivot_ratio: float = 0.7
    alpha: float = 0.5
    theta: float = 0.8
    eps: float = 1e-7
    pivots_block: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("pivot_ratio", "alpha"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UsageError(
                    f"{name} is {value}, expected a number from 0 to 1",
                    "Leave it out for the selector's default: `d2export selectors`.",
                )
        if not abs(self.theta) <= _FLOAT32_MAX:
            raise UsageError(
                f"theta is {self.theta}, expected a finite float32 number",
                "Leave it out for the selector's default; above 1, no two tokens are neighbours.",
            )
        if not 0 <= self.eps <= _FLOAT32_MAX:
            raise UsageError(
                f"eps is {self.eps}, expected a finite float32 number of at least 0",
                f"Leave it out for {PruneParameters.eps}.",
            )

    def pivots(self, kept: int) -> int:
        """How many of the `kept` tokens are pivots.

        The product is a single float32 multiplication, because the attribute reaches every
        implementation as float32: all of them round alike.
        """
        return share_of(self.pivot_ratio, kept)


def share_of(ratio: float, count: int) -> int:
    """`floor(ratio * count)`, the product a single float32 multiplication."""
    import numpy as np  # here, because `d2export --help` must not wait for it

    return int(np.floor(np.float32(ratio) * np.float32(count)))


def parse_keep(text: str) -> tuple[int, int]:
    """`(keep, keep_permille)` from what a user typed: `64`, `25%`, `12.5%` or `all`.

    Raises:
        UsageError: anything else, a count below 1, a share outside 0.1 % to 100 %.
    """
    expected = "expected a count such as 64, a share such as 25%, or 'all'"
    cleaned = text.strip().lower()
    if cleaned == "all":
        return 0, 1000
    if re.fullmatch(r"[+-]?\d+", cleaned):
        count = float(cleaned)  # int() refuses numbers of thousands of digits
        if count < 1:
            raise UsageError(
                f"--keep is {text}: {expected}; at least 1 token must stay",
                "Pass 1 or more, or --keep all for every token.",
            )
        if count > 2**31 - 1:
            raise UsageError(
                f"--keep is {text}: {expected}; the largest count is {2**31 - 1}",
                "Pass --keep all to keep every token.",
            )
        return int(count), 0
    if re.fullmatch(r"[+-]?\d+(\.\d+)?%", cleaned):
        permille = float(cleaned[:-1]) * 10
        if not 1 <= permille <= 1000:
            raise UsageError(
                f"--keep is {text}: a share lies between 0.1% and 100%",
                "Pass --keep all to keep every token, or a share such as 25%.",
            )
        if permille != int(permille):
            raise UsageError(
                f"--keep is {text}: a share has one decimal at most, such as 12.5%",
                f"Round it, for example to {permille / 10:.1f}%.",
            )
        return 0, int(permille)
    raise UsageError(f"--keep is '{text}': {expected}", "Leave it out for 64.")
