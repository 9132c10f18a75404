"""The published selectors, as records: what each reads, by which rule it keeps, what can be set.

No torch here: the command line and a device that only runs bundles read these.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

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

Scope = Literal["vision", "vlm"]
PositionIds = Literal["original", "contiguous"]
POSITION_IDS: tuple[PositionIds, ...] = ("original", "contiguous")
Value = bool | int | float | str

# What importance can come from, and what has to be there for it.
SOURCES = {
    "llm": "the language model's attention to the visual tokens",
    "cls": "the attention of the vision tower's CLS token",
    "text": "the prompt's embeddings",
    "uniform": "nothing: all tokens count alike",
    "random": "nothing: a seeded order",
    "stride": "nothing: an even stride",
}


@dataclass(frozen=True)
class Setting:
    """What `--set name=value` can be: of the default's type, or one of `choices`."""

    name: str
    default: Value
    expected: str
    about: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selector:
    """One published way to choose tokens.

    Attributes:
        name: on the command line.
        title: as its authors call it.
        paper: where it was published.
        about: in one sentence.
        rule: the op that keeps the tokens.
        parameters: dataclass of that op's attributes.
        importance: sources it can use, the default first; `llm` prunes inside the language model,
            all others before it. Empty: it reads none.
        settings: what is open to the user.
        fixed: attributes of the rule that the selector itself decides.
        compares: whether the rule compares the tokens as the language model gets them, or the
            features before the projector's linear layers.
        has_prior: whether importance may be divided by a positional prior.
        counted: whether `--keep` says how many tokens stay; otherwise the picture does.
    """

    name: str
    title: str
    paper: str
    about: str
    rule: str
    parameters: type
    importance: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()
    fixed: Mapping[str, Value] = field(default_factory=dict)
    compares: Literal["tokens", "features"] = "tokens"
    has_prior: bool = False
    counted: bool = True

    def sources(self, scope: str) -> tuple[str, ...]:
        """The sources of importance it can use in a scope, the default first."""
        if scope == "vision":
            return tuple(source for source in self.importance if source != "llm")
        return tuple(sorted(self.importance, key=lambda source: source != "llm"))

    def fits(self, scope: str) -> bool:
        """Whether a scope has what it reads."""
        return not self.importance or bool(self.sources(scope))

    def needs(self) -> str:
        """What it reads, for a table."""
        return " or ".join(SOURCES[s] for s in self.importance) or "the visual tokens only"

    def resolve(self, given: Mapping[str, Value | str]) -> dict[str, Value]:
        """All its settings, those in `given` read and checked, the others by default.

        Raises:
            UsageError: an unknown name, or a value of another type.
        """
        known = {setting.name: setting for setting in self.settings}
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                raise UsageError(
                    f"selector '{self.name}' has no setting '{name}'"
                    + (f", did you mean '{close[0]}'?" if close else ""),
                    f"It has {', '.join(known)}." if known else "It has none.",
                )
        return {
            name: self._read(setting, given[name]) if name in given else setting.default
            for name, setting in known.items()
        }

    def attributes(self, settings: Mapping[str, Value]) -> dict[str, Any]:
        """Those settings that are attributes of the rule, and the fixed ones."""
        names = {item.name for item in fields(self.parameters)}
        open_ones: dict[str, Any] = {
            name: value for name, value in settings.items() if name in names
        }
        if "elbow" in open_ones:
            open_ones["elbow"] = ELBOW_RULES.index(str(settings["elbow"]))
        return {**open_ones, **self.fixed}

    def _read(self, setting: Setting, value: Value) -> Value:
        kind = type(setting.default)
        read: Value | None = None
        if setting.choices:
            read = value if value in setting.choices else None
        elif isinstance(value, str):
            read = _from_text(value, kind)
        elif kind is float and type(value) is int:
            read = float(value)
        elif type(value) is kind:
            read = value
        if read is None:
            raise UsageError(
                f"{setting.name} of selector '{self.name}' is {value!r}, expected "
                f"{setting.expected}",
                f"Leave it out for {setting.default}.",
            )
        return read


def _from_text(text: str, kind: type) -> Value | None:
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower())
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        return None


def _position_ids(default: PositionIds) -> Setting:
    """Whether tokens pruned before the language model leave gaps; inside it they always do."""
    return Setting(
        "position_ids",
        default,
        " or ".join(POSITION_IDS),
        "Of kept tokens: their places in the whole prompt, or counted anew.",
        POSITION_IDS,
    )


_ONLY_TOP: Mapping[str, Value] = {"pivot_ratio": 1.0, "eps": 0.0}  # D2Prune as a plain top-n

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
            settings=(
                Setting(
                    "pivot_ratio",
                    PruneParameters.pivot_ratio,
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
                    PruneParameters.theta,
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
            ),
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
                Setting("seed", 0, "a whole number of at least 0", "Of the sample."),
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
