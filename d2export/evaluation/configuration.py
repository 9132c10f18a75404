"""One way to answer, of those that an evaluation compares; and what was answered that way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from d2export.evaluation.task import Sample
from d2export.pruning.plan import Plan
from d2export.pruning.prior import Prior, prior_document

UNPRUNED = "unpruned"


@dataclass(frozen=True, eq=False)
class Configuration:
    """A model, and which of its visual tokens stay.

    Attributes:
        name: unique in an evaluation.
        series: what the configurations that differ in the number of tokens kept have in common:
            one line of a plot.
        plan: how tokens are pruned; None keeps all.
        prior: what importance is divided by, with `plan.prior` `file`.
        group: a configuration is compared with the unpruned one of its group.
        choose: instead of the plan's rule, for pruning inside the language model in PyTorch: from
            a `pytorch_selection.Below` the tokens that stay, `[B, M]` integers, ascending.
    """

    name: str
    series: str
    plan: Plan | None = None
    prior: Prior | None = None
    group: str = ""
    choose: Callable[[Any], Any] | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether others are compared with it."""
        return self.plan is None

    def describe(self) -> dict[str, Any]:
        """All that its answers depend on besides the model, as plain values."""
        found: dict[str, Any] = {"series": self.series, "group": self.group}
        if self.plan is None:
            return found
        plan = asdict(self.plan)
        plan["selector"] = self.plan.selector.name
        plan["parameters"] = asdict(self.plan.parameters)
        plan["settings"] = dict(self.plan.settings)
        prior = None if self.prior is None else digest(prior_document(self.prior)["slots"])
        return {**found, **plan, "prior_sha256": prior, "own_choice": self.choose is not None}


@dataclass(frozen=True, eq=False)
class Answered:
    """What a configuration answered to a sample.

    Attributes:
        kept: which visual tokens of the picture stayed, `[M]` int32 ascending.
        visual_tokens: how many there were.
    """

    sample: Sample
    configuration: Configuration
    text: str
    kept: npt.NDArray[np.int32]
    visual_tokens: int


def unpruned(group: str = "") -> Configuration:
    """The configuration that others of its group are compared with."""
    name = f"{UNPRUNED} {group}".strip()
    return Configuration(name, name, group=group)


def baseline_of(
    configuration: Configuration, among: Sequence[Configuration]
) -> Configuration | None:
    """What a configuration is compared with; None for the unpruned one itself."""
    if configuration.is_baseline:
        return None
    same = (other for other in among if other.is_baseline and other.group == configuration.group)
    return next(same, None)


def digest(value: Any) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
