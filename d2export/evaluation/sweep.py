"""The configurations of an evaluation: selectors, keep values and layers, each with each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from d2export.errors import UsageError
from d2export.evaluation.configuration import Configuration, unpruned
from d2export.evaluation.oracle import ORACLE, oracle
from d2export.models.presets import ModelSpec
from d2export.options import PRUNE_LAYER, SHALLOW, ExportOptions
from d2export.pruning.prior import check_provenance, read_prior
from d2export.pruning.selector import Value
from d2export.pruning.selectors import selector

KEEPS = ("50%", "25%", "10%", "5%")


@dataclass(frozen=True)
class Sweep:
    """What an evaluation of a model is told; each part as in `ExportOptions`.

    Attributes:
        selectors: names, in the order of the tables.
        keeps: visual tokens kept per image; selectors whose count the picture decides ignore them.
        prune_layers: for those that prune inside the language model.
        settings: each goes to the selectors that have it.
        prior: a file or `shallow`, for the selectors that divide by one.
        importance: for the selectors that leave it open.
        budget: what `keep` counts for.
        min_keep, max_keep: for selectors whose count the picture decides.
        oracle: whether the ceiling is measured, too.
    """

    selectors: tuple[str, ...] = ("d2",)
    keeps: tuple[str, ...] = KEEPS
    prune_layers: tuple[int, ...] = (PRUNE_LAYER,)
    settings: Mapping[str, Value] = field(default_factory=dict)
    prior: Path | str | None = None
    importance: str | None = None
    budget: str = "image"
    min_keep: int | None = None
    max_keep: int | None = None
    oracle: bool = False

    def configurations(self, spec: ModelSpec) -> list[Configuration]:
        """All of them for a model, the unpruned one first.

        Raises:
            UsageError: an option fits no selector, or does not fit its own.
        """
        self._check()
        found = [unpruned()]
        for name in self.selectors:
            found += self._of(name, spec)
        if self.oracle:
            for layer in self.prune_layers:
                series = ORACLE + (f" K={layer}" if len(self.prune_layers) > 1 else "")
                found += [oracle(spec, keep, layer, series=series) for keep in self.keeps]
        return found

    def _check(self) -> None:
        chosen = [selector(name) for name in self.selectors]
        for option, values in (
            ("--selector", self.selectors),
            ("--keep", self.keeps),
            ("--prune-layer", self.prune_layers),
        ):
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise UsageError(f"{option} {twice} is given twice", "Leave one of them out.")
        for name in self.settings:
            if not any(name in _settings_of(one) for one in self.selectors):
                names = sorted({known for one in self.selectors for known in _settings_of(one)})
                raise UsageError(
                    f"--set {name}: none of the selectors {', '.join(self.selectors)} has it",
                    f"They have {', '.join(names)}." if names else "They have no settings.",
                )
        if self.prior is not None and not any(one.has_prior for one in chosen):
            raise UsageError(
                f"--prior is {self.prior}, but none of the selectors {', '.join(self.selectors)} "
                "divides by one",
                "Leave it out, or add --selector d2.",
            )
        if self.importance is not None and not any(len(one.importance) > 1 for one in chosen):
            raise UsageError(
                f"--importance is '{self.importance}', but the selectors "
                f"{', '.join(self.selectors)} leave it not open",
                "Leave it out, or add --selector d2.",
            )
        counted = [one for one in chosen if not one.counted]
        for option, value in (("--min-keep", self.min_keep), ("--max-keep", self.max_keep)):
            if value is not None and not counted:
                raise UsageError(
                    f"{option} is {value}, but --keep says how many tokens the selectors "
                    f"{', '.join(self.selectors)} keep",
                    "Leave it out, or add --selector sms.",
                )

    def _of(self, name: str, spec: ModelSpec) -> list[Configuration]:
        """The configurations of one selector."""
        chosen = selector(name)
        settings = {key: value for key, value in self.settings.items() if key in _settings_of(name)}
        importance = self.importance if len(chosen.importance) > 1 else None
        prior = self.prior if chosen.has_prior else None
        words = [name, *(f"{key}={value}" for key, value in settings.items())]
        words += [f"by {importance}"] if importance else []
        words += [f"prior={prior if str(prior) == SHALLOW else 'file'}"] if prior else []
        inside = ExportOptions(
            spec.name, scope="vlm", selector=name, settings=settings, importance=importance,
            max_keep=None if chosen.counted else self.max_keep,
        ).prunes_inside  # fmt: skip
        found = []
        for layer in self.prune_layers if inside else (PRUNE_LAYER,):
            several = inside and len(self.prune_layers) > 1
            series = " ".join([*words, *([f"K={layer}"] if several else [])])
            for keep in self.keeps if chosen.counted else (None,):
                options = ExportOptions(
                    spec.name,
                    scope="vlm",
                    selector=name,
                    settings=settings,
                    keep=keep,
                    min_keep=None if chosen.counted else self.min_keep,
                    max_keep=None if chosen.counted else self.max_keep,
                    budget=self.budget if chosen.counted else "image",
                    importance=importance,
                    prune_layer=layer,
                    prior=prior,
                )
                found.append(pruned(spec, options, series))
        return found


def pruned(spec: ModelSpec, options: ExportOptions, series: str, group: str = "") -> Configuration:
    """A configuration from options as `build` takes them, in scope `vlm`.

    Args:
        spec: the model.
        options: its selector, keep value and what goes with them.
        series: the name of its line in plots.
        group: see `Configuration`.

    Raises:
        UsageError: an option does not fit the model, or the prior cannot be read.
    """
    plan, prior = options.plan(spec), None
    if options.prior_file is not None:
        prior = read_prior(options.prior_file, spec.vision.tokens_per_tile)
        check_provenance(prior, options.prior_file, spec, plan.measured())
    name = f"{series} {options.keep}" if plan.selector.counted else series
    return Configuration(name, series, plan, prior, group)


def _settings_of(name: str) -> set[str]:
    return {setting.name for setting in selector(name).settings}


def uniquely(configurations: Sequence[Configuration]) -> None:
    """Raise a ValueError if two have one name."""
    names = [configuration.name for configuration in configurations]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"configurations of one name: {', '.join(sorted(twice))}")
