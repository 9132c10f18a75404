"""The selectors, as records. No torch here: a device that only runs bundles reads these."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import NamedTuple

from d2export.errors import UsageError
from d2export.pruning.parameters import OP_TYPE, PruneParameters
from d2export.pruning.rule_parameters import (
    ELBOW_RULES,
    DartParameters,
    DeduplicateParameters,
    DppParameters,
    ElbowParameters,
    MaxMinParameters,
)
from d2export.pruning.selector import POSITION_IDS, PositionIds, Selector, Setting, Value


def _position_ids(default: PositionIds) -> Setting:
    """Whether tokens pruned before the language model leave gaps; inside it they always do."""
    return Setting(
        "position_ids",
        default,
        " or ".join(POSITION_IDS),
        "Of kept tokens: their places in the whole prompt, or counted anew.",
        POSITION_IDS,
    )


def _d2_settings(
    pivot_ratio: float = PruneParameters.pivot_ratio, theta: float = PruneParameters.theta
) -> tuple[Setting, ...]:
    """Those of `D2Prune`, with these defaults."""
    return (
        Setting(
            "pivot_ratio",
            pivot_ratio,
            "a number from 0 to 1",
            "Share of the kept tokens picked by importance alone.",
        ),
        Setting(
            "alpha",
            PruneParameters.alpha,
            "a number from 0 to 1",
            "Weight of semantic against spatial similarity.",
        ),
        Setting(
            "theta",
            theta,
            "a number",
            "Tokens more similar than this are neighbours.",
        ),
        Setting(
            "eps",
            PruneParameters.eps,
            "a number of at least 0",
            "Added to the prior before dividing by it.",
        ),
        Setting(
            "pivots_block",
            PruneParameters.pivots_block,
            "true or false",
            "Pivots rule out their neighbours, too.",
        ),
    )


_ONLY_TOP: Mapping[str, Value] = {"pivot_ratio": 1.0, "eps": 0.0}  # D2Prune as a plain top-n


class Rows(NamedTuple):
    """Whose attention rows of the prompt's last token make the importance of `d2+`.

    below: that of the layer below the one before which tokens are pruned; ahead: those of so many
    layers from that one on.
    """

    below: bool
    ahead: int

    def said(self, prune_layer: int) -> str:
        """The layers, in words."""
        ahead = [f"layer {prune_layer + index}" for index in range(self.ahead)]
        words = " and ".join(ahead) + ", read ahead" if ahead else ""
        if not self.below:
            return words
        return f"layer {prune_layer - 1}" + (f", and of {words}" if words else "")


ROWS = {
    "two": Rows(below=False, ahead=2),
    "both": Rows(below=True, ahead=1),
    "ahead": Rows(below=False, ahead=1),
    "below": Rows(below=True, ahead=0),
}
_AHEAD_SETTINGS = (
    Setting(
        "rows",
        "two",
        f"one of {', '.join(ROWS)}",
        "Attention of two layers ahead, of the one below and one ahead (both), or of one of these.",
        tuple(ROWS),
    ),
    Setting(
        "smoothing",
        0.6,
        "a number from 0 to 1",
        "How much of its neighbours' importance a token gets.",
        within=(0, 1),
    ),
)

SELECTORS = {
    selector.name: selector
    for selector in (
        Selector(
            name="d2",
            title="D2Pruner",
            paper="arXiv 2512.19443",
            about="Important tokens as pivots, and important ones unlike each other.",
            rule=OP_TYPE,
            parameters=PruneParameters,
            importance=("cls", "text", "uniform", "llm"),
            settings=_d2_settings(),
            has_prior=True,
        ),
        Selector(
            name="d2+",
            title="D2Pruner, reading ahead",
            paper="ours",
            about="As d2, by attention read two layers ahead and shared with neighbours.",
            rule=OP_TYPE,
            parameters=PruneParameters,
            importance=("llm",),
            settings=(*_AHEAD_SETTINGS, *_d2_settings(pivot_ratio=0.0, theta=0.94)),
            has_prior=True,
        ),
        Selector(
            name="fastv",
            title="FastV",
            paper="arXiv 2403.06764",
            about="The tokens to which the prompt's last token attends most.",
            rule=OP_TYPE,
            parameters=PruneParameters,
            importance=("llm",),
            fixed=_ONLY_TOP,
        ),
        Selector(
            name="divprune",
            title="DivPrune",
            paper="arXiv 2503.02175",
            about="Tokens as far from each other as possible.",
            rule="MaxMinPrune",
            parameters=MaxMinParameters,
            settings=(_position_ids("contiguous"),),
        ),
        Selector(
            name="cdpruner",
            title="CDPruner",
            paper="arXiv 2506.10967",
            about="Tokens relevant to the prompt that span a large volume.",
            rule="DppPrune",
            parameters=DppParameters,
            importance=("text",),
            settings=(_position_ids("contiguous"),),
        ),
        Selector(
            name="vispruner",
            title="VisPruner",
            paper="arXiv 2412.01818",
            about="Half by CLS attention, half those without a near-duplicate.",
            rule="DeduplicatePrune",
            parameters=DeduplicateParameters,
            importance=("cls",),
            compares="features",
            settings=(
                Setting(
                    "important_ratio",
                    DeduplicateParameters.important_ratio,
                    "a number from 0 to 1",
                    "Share of the kept tokens picked by importance alone.",
                ),
                _position_ids("contiguous"),
            ),
        ),
        Selector(
            name="dart",
            title="DART",
            paper="arXiv 2502.11494",
            about="A few tokens of large norm, and those least like them.",
            rule="DartPrune",
            parameters=DartParameters,
            settings=(
                Setting(
                    "pivots",
                    DartParameters.pivots,
                    "1 to 1024",
                    "How many tokens the others are compared with.",
                ),
                _position_ids("contiguous"),
            ),
        ),
        Selector(
            name="sms",
            title="Sparsity Meets Similarity",
            paper="arXiv 2409.01162",
            about="The head of the sorted importance: as many as the picture needs.",
            rule="ElbowPrune",
            parameters=ElbowParameters,
            importance=("cls",),
            settings=(
                Setting(
                    "elbow",
                    ELBOW_RULES[0],
                    f"one of {', '.join(ELBOW_RULES)}",
                    "Where the sorted curve is cut.",
                    ELBOW_RULES,
                ),
                Setting(
                    "similarity",
                    "attention",
                    "attention or cosine",
                    "What relates a token to the CLS token.",
                    ("attention", "cosine"),
                ),
                Setting(
                    "stage",
                    "both",
                    "vision, llm or both",
                    "Where it cuts; scope vision has the first only.",
                    ("both", "vision", "llm"),
                ),
                Setting(
                    "static",
                    False,
                    "true or false",
                    "Outputs padded to --max-keep, with their count.",
                ),
                _position_ids("contiguous"),
            ),
            counted=False,
        ),
        Selector(
            name="random",
            title="Random sample",
            paper="a baseline",
            about="A seeded sample without replacement.",
            rule=OP_TYPE,
            parameters=PruneParameters,
            importance=("random",),
            settings=(
                Setting(
                    "seed",
                    0,
                    "a whole number from 0 to 2^53 - 1",
                    "Of the sample.",
                    within=(0, 2**53 - 1),
                ),
                _position_ids("original"),
            ),
            fixed=_ONLY_TOP,
        ),
        Selector(
            name="uniform",
            title="Even stride",
            paper="a baseline",
            about="Tokens at even distances in the order of the prompt.",
            rule=OP_TYPE,
            parameters=PruneParameters,
            importance=("stride",),
            settings=(_position_ids("original"),),
            fixed=_ONLY_TOP,
        ),
    )
}


def selector(name: str) -> Selector:
    """The selector of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in SELECTORS:
        close = difflib.get_close_matches(name, SELECTORS, 1)
        raise UsageError(
            f"there is no selector '{name}'" + (f", did you mean '{close[0]}'?" if close else ""),
            f"There are {', '.join(SELECTORS)}: `d2export selectors`.",
        )
    return SELECTORS[name]


def alternatives(scope: str, without: str) -> str:
    """The selectors of a scope that do not depend on the source `without`."""
    return ", ".join(
        name
        for name, item in SELECTORS.items()
        if item.fits(scope) and set(item.sources(scope)) != {without}
    )
