"""How a graph prunes: a selector with all its choices made. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from d2export.pruning.parameters import OP_TYPE, PruneParameters
from d2export.pruning.selector import PositionIds, Selector, Value
from d2export.pruning.selectors import ROWS, SELECTORS, Rows

Budget = Literal["image", "tile", "prompt"]
BUDGETS: tuple[Budget, ...] = ("image", "tile", "prompt")


@dataclass(frozen=True)
class Plan:
    """What the exporter and PyTorch's side of a check are told about pruning.

    Attributes:
        selector: which one.
        importance: its source, one of `selectors.SOURCES`; None if the selector reads none.
        parameters: the attributes of the selector's rule.
        settings: all of the selector's settings.
        in_vision: whether the vision graph prunes.
        in_decoder: whether the decoder prunes, before layer `prune_layer`.
        importance_layer: vision layer of the CLS token's row, counted from 0, for source `cls`.
        prune_layer: layer of the language model, counted from 0.
        prior: what importance is divided by, see `ExportOptions.prior`.
        budget: what `keep` counts for: each image, each tile, or all images of a prompt together.
    """

    selector: Selector
    importance: str | None
    parameters: Any
    settings: Mapping[str, Value]
    in_vision: bool
    in_decoder: bool
    importance_layer: int | None = None
    prune_layer: int | None = None
    prior: Literal["none", "file", "shallow"] = "none"
    budget: Budget = "image"

    @property
    def padded(self) -> bool:
        """Whether the vision graph's outputs have `max_keep` rows, and a count."""
        return self.in_vision and bool(self.settings.get("static", False))

    @property
    def position_ids(self) -> PositionIds:
        """Whether tokens pruned before the language model leave gaps; inside it they always do."""
        return "contiguous" if self.settings.get("position_ids") == "contiguous" else "original"

    @property
    def reads_ahead(self) -> bool:
        """Whether importance inside the language model is that of `d2+`."""
        return "rows" in self.settings

    @property
    def rows(self) -> Rows:
        """Of `d2+`: in which layers around `prune_layer` attention is read."""
        return ROWS[str(self.settings["rows"])]

    @property
    def smoothing(self) -> float:
        """Of `d2+`: how much of its neighbours' importance a token gets."""
        return float(self.settings["smoothing"])

    def measured(self) -> dict[str, Any]:
        """What a prior has to be measured for, besides the model."""
        found: dict[str, Any] = {"importance": self.importance, "prune_layer": self.prune_layer}
        if self.reads_ahead:
            found |= {"rows": self.settings["rows"], "smoothing": self.smoothing}
        return found

    @property
    def by_tile(self) -> bool:
        """Whether each tile has a budget of its own."""
        return self.budget == "tile"

    @property
    def chained(self) -> bool:
        """Whether each decision depends on those before, so that rounding of inputs can spread."""
        return self.selector.rule != OP_TYPE

    def kept(self, tokens: int, tiles: int) -> int:
        """How many visual tokens stay of one image, of a selector whose count is fixed."""
        kept: int = self.parameters.kept(tokens // tiles if self.by_tile else tokens)
        return kept * tiles if self.by_tile else kept

    @property
    def eps(self) -> float:
        """What is added to the prior before dividing by it."""
        return float(self.settings.get("eps", 0.0))

    @property
    def by_correlation(self) -> bool:
        """Whether the decoder drops visual tokens and text by their correlation (`sms`)."""
        return self.in_decoder and not self.selector.counted


def make_plan(
    selector: Selector,
    scope: str,
    importance: str | None,
    settings: Mapping[str, Value],
    *,
    keep: int,
    keep_permille: int,
    min_keep: int,
    max_keep: int,
    importance_layer: int | None,
    prune_layer: int,
    prior: Literal["none", "file", "shallow"],
    budget: Budget,
) -> Plan:
    """A plan from choices that fit the selector.

    Raises:
        UsageError: an attribute is out of its range; it is named.
    """
    limits: dict[str, int] = (
        {"keep": keep, "keep_permille": keep_permille}
        if selector.counted
        else {"min_keep": min_keep, "max_keep": max_keep}
    )
    stage = settings.get("stage", "both")
    in_decoder = scope == "vlm" and (
        importance == "llm" or (not selector.counted and stage in ("llm", "both"))
    )
    in_vision = importance != "llm" and (scope == "vision" or stage in ("vision", "both"))
    attributes = selector.attributes(settings)
    if in_vision and budget == "tile" and "eps" in attributes:
        attributes["eps"] = 0.0  # the graph divides by the prior before the op
    return Plan(
        selector,
        importance,
        selector.parameters(**limits, **attributes),
        settings,
        in_vision,
        in_decoder,
        importance_layer if in_vision and importance == "cls" else None,
        prune_layer if in_decoder else None,
        prior,
        budget,
    )


def d2_plan(
    parameters: PruneParameters,
    importance: str = "llm",
    layer: int = 2,
    prior: Literal["none", "file", "shallow"] = "none",
) -> Plan:
    """D2Pruner with these attributes, each image by itself.

    Args:
        importance: `llm` prunes inside the language model, the others before it.
        layer: for `llm` the layer before which it prunes, for `cls` the vision layer.
    """
    chosen, inside = SELECTORS["d2"], importance == "llm"
    values = parameters.attributes()
    settings = {setting.name: values[setting.name] for setting in chosen.settings}
    return Plan(
        chosen,
        importance,
        parameters,
        settings,
        in_vision=not inside,
        in_decoder=inside,
        importance_layer=layer if importance == "cls" else None,
        prune_layer=layer if inside else None,
        prior=prior,
    )
