"""Two bundles of one model, one of them in INT8: what the narrow one costs, and what it saves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from d2export.evaluation.configuration import Configuration
from d2export.evaluation.results import Record
from d2export.evaluation.statistics import paired
from d2export.evaluation.task import Sample
from d2export.verify.tables import table

SLOWER = 1.02  # medians of the same graph differ by less than that from run to run


@dataclass(frozen=True)
class Footprint:
    """What a bundle is besides its answers.

    Attributes:
        group: of its configurations.
        precision: `fp32`, `fp16`, `bf16` or `int8`.
        bytes: of its graphs and their weights.
        milliseconds: median of each stage that `build` or `bench` timed; empty where none did.
        where: the machine and the programs of these times.
    """

    group: str
    precision: str
    bytes: int
    milliseconds: dict[str, float]
    where: dict[str, str]


@dataclass(frozen=True)
class Pair:
    """A configuration in both precisions, on one kind of question.

    Attributes:
        configuration: its name in the narrow one.
        n: samples that both answered.
        score, wide_score: mean scores, 0 to 1.
        difference: the narrow one's minus the wide one's; `low` to `high` is its paired 95 %
            interval.
    """

    configuration: str
    kind: str
    n: int
    score: float
    wide_score: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Versus:
    """The comparison of two bundles."""

    narrow: Footprint
    wide: Footprint
    pairs: tuple[Pair, ...]

    @property
    def title(self) -> str:
        """Such as `INT8 against FP16`."""
        return f"{self.narrow.precision.upper()} against {self.wide.precision.upper()}"

    @property
    def stages(self) -> list[str]:
        """Those that were timed in both, on the same machine."""
        if self.narrow.where != self.wide.where:
            return []
        return [stage for stage in self.narrow.milliseconds if stage in self.wide.milliseconds]

    def verdict(self) -> list[str]:
        """Sentences: where the narrow bundle loses, or that nothing shows it; what it saves."""
        name = self.narrow.precision.upper()
        lost = [pair for pair in self.pairs if pair.high < 0]
        found = [
            f"{name} loses {-100 * pair.difference:.1f} points ({-100 * pair.high:.1f} to "
            f"{-100 * pair.low:.1f}) of {pair.kind or 'the score'}: {pair.configuration}."
            for pair in lost
        ]
        if self.pairs and not lost:
            most = min(self.pairs, key=lambda pair: pair.low)
            found.append(
                f"No loss of accuracy shows in {most.n:,} questions of a kind; one of "
                f"{-100 * most.low:.1f} points could still hide."
            )
        share = self.narrow.bytes / self.wide.bytes
        size = f"{_megabytes(self.narrow)} against {_megabytes(self.wide)}, {share:.0%}"
        found.append(f"{name} is {'larger' if share > 1 else 'smaller'}: {size}.")
        for stage in self.stages:
            own, other = self.narrow.milliseconds[stage], self.wide.milliseconds[stage]
            times = f"{stage} takes {own:.3g} ms against {other:.3g} ms"
            if own > SLOWER * other:
                found.append(f"{name} is slower, it loses: {times}.")
            elif other > SLOWER * own:
                found.append(f"{name} is faster: {times}.")
            else:
                found.append(f"{name} is as fast: {times}.")
        if not self.stages:
            found.append(
                "Latency: not measured in both on one machine. `d2export build BUNDLE` measures "
                "the graphs, `d2export bench BUNDLE --provider tensorrt` the engines; evaluate "
                "again then."
            )
        return found

    def cells(self) -> Iterator[tuple[str, ...]]:
        """The pairs as a table, behind `HEADER`."""
        for pair in self.pairs:
            yield (
                pair.configuration,
                pair.kind,
                f"{100 * pair.wide_score:.1f}",
                f"{100 * pair.score:.1f}",
                f"{100 * pair.difference:+.1f}",
                f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f}",
            )

    @property
    def header(self) -> tuple[str, ...]:
        """Of `cells`."""
        names = (self.wide.precision.upper(), self.narrow.precision.upper())
        return ("configuration", "kind", *names, "difference", "95 %")

    def text(self) -> str:
        """The table and the verdict."""
        heading = f"{self.title}, scores in %"
        return "\n".join([heading, table(self.header, list(self.cells())), *self.verdict()])


def compare(
    narrow: Footprint,
    wide: Footprint,
    kinds: Mapping[str, Sequence[Sample]],
    configurations: Sequence[Configuration],
    answers: Mapping[str, Mapping[str, Record]],
) -> Versus:
    """Pair the configurations of two groups that differ in nothing but the group.

    Args:
        kinds: samples by kind of question.
        answers: by configuration and sample.
    """
    twins = {
        _without(one, wide.group): one.name for one in configurations if one.group == wide.group
    }
    pairs = [
        pair
        for kind, samples in kinds.items()
        for one in configurations
        if one.group == narrow.group and (twin := twins.get(_without(one, narrow.group)))
        if (pair := _pair(one.name, kind, samples, answers[one.name], answers[twin])) is not None
    ]
    return Versus(narrow, wide, tuple(pairs))


def _pair(
    name: str,
    kind: str,
    samples: Sequence[Sample],
    narrow: Mapping[str, Record],
    wide: Mapping[str, Record],
) -> Pair | None:
    """None where there is no sample that both answered."""
    both = [sample for sample in samples if sample.id in narrow and sample.id in wide]
    if not both:
        return None
    own = [narrow[sample.id].score for sample in both]
    other = [wide[sample.id].score for sample in both]
    found = paired(own, other, [sample.picture_id for sample in both])
    return Pair(
        name,
        kind,
        len(both),
        sum(own) / len(own),
        sum(other) / len(other),
        found.difference,
        found.interval.low,
        found.interval.high,
    )


def _without(configuration: Configuration, group: str) -> str:
    """Its name without the name of its group."""
    return " ".join(configuration.name.replace(f" {group}", "", 1).split())


def _megabytes(footprint: Footprint) -> str:
    return f"{footprint.bytes / 1e6:,.1f} MB"
