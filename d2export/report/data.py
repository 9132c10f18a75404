"""What a report says, as plain values. Whatever is None was not measured, and the page says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from d2export.evaluation.versus import Versus
from d2export.verify.latency import Latency

Facts = tuple[tuple[str, str], ...]
Window = tuple[float, float, float, float]  # x, y, width, height


@dataclass(frozen=True)
class Saving:
    """The language model's prefill at a budget, a mean over the pictures of the report.

    Attributes:
        macs: multiply-accumulates.
        kv_bytes: what its KV cache holds afterwards.
        macs_share: saved of the MACs of a model that does not prune, 0 to 1.
        kv_share: saved of its KV cache.
    """

    macs: int
    kv_bytes: int
    macs_share: float
    kv_share: float


@dataclass(frozen=True)
class Keep:
    """One budget: a place of the slider.

    Attributes:
        label: short, such as `10 %` or `64`.
        kept: visual tokens, over all pictures of the report.
        tokens: how many there were.
        saving: None where the budget does not decide how many tokens stay.
        built: whether it is the bundle's own.
    """

    label: str
    kept: int
    tokens: int
    saving: Saving | None
    built: bool = False

    @property
    def share(self) -> float:
        """Kept, 0 to 1."""
        return self.kept / max(self.tokens, 1)


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture, its tokens, and what was decided on.

    Attributes:
        jpeg: the picture, `width` × `height` pixels.
        columns: tiles side by side, `rows` above each other; the thumbnail not counted.
        side: tokens along one side of a tile.
        window: which part of the canvas the picture is, in tokens; all of it unless it was padded.
        kept: for each `Keep` of the report, `[M]` int; None where nothing is pruned.
        raw: importance, `[N]`; `prior`, what it is divided by; `debiased`, the quotient.
        prompt: the question, and `answer`, how PyTorch's answer to it begins.
    """

    name: str
    jpeg: bytes
    width: int
    height: int
    columns: int
    rows: int
    side: int
    window: Window
    kept: tuple[npt.NDArray[np.int32] | None, ...]
    raw: npt.NDArray[np.float32] | None = None
    prior: npt.NDArray[np.float32] | None = None
    debiased: npt.NDArray[np.float32] | None = None
    prompt: str | None = None
    answer: str | None = None

    @property
    def in_tiles(self) -> int:
        """Tokens of tiles; those behind them are the thumbnail's."""
        return self.columns * self.rows * self.side**2

    @property
    def tokens(self) -> int:
        """Visual tokens."""
        return self.in_tiles + (self.side**2 if self.columns * self.rows > 1 else 0)


@dataclass(frozen=True)
class Stage:
    """What one stage takes. `part` marks a stage within the one before; `note` is behind it."""

    name: str
    latency: Latency | None
    macs: int | None
    part: bool = False
    note: str = ""


@dataclass(frozen=True)
class Case:
    """The graph's answer to one picture beside PyTorch's; errors relative to the largest value."""

    name: str
    kept: int
    common: int
    embeddings_error: float | None
    seconds: float
    logits_error: float | None = None
    tokens: int | None = None
    equal_tokens: int | None = None


@dataclass(frozen=True)
class Check:
    """Whether the graph answers what PyTorch answers.

    Attributes:
        agreement: share of kept tokens that PyTorch kept too; `asked` is the smallest that passes.
        pytorch_seconds: by picture; empty if PyTorch did not run.
    """

    passed: bool
    backend: str
    precision: str
    implementation: str
    agreement: float
    asked: float
    embeddings_asked: float
    logits_asked: float
    cases: tuple[Case, ...]
    pytorch_seconds: dict[str, float]


@dataclass(frozen=True)
class ProductError:
    """A product of an INT8 bundle: signal to noise, None if it is exact, and whether it is INT8."""

    name: str
    decibels: float | None
    int8: bool


@dataclass(frozen=True)
class Evaluation:
    """Accuracy on a kind of question.

    Attributes:
        svg: the plot, as `evaluation/plot.py` draws it; `about` says how to read it.
        header: of `rows`, which are the same as a table.
        score: the one to tell first; `score_about` says whose it is.
    """

    title: str
    svg: str
    about: str
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    score: str = ""
    score_about: str = ""


@dataclass(frozen=True, eq=False)
class ReportData:
    """All of a report.

    Attributes:
        model: its name; of an evaluation, the task's.
        headline: what the bundle does, or the task asks, in one sentence.
        trained: whether its weights mean anything.
        plan: how it prunes.
        keeps: budgets, fewest tokens first; empty where no selection was stored.
        pictures: as many as fit; `left_out` names the others.
        why_no_importance: empty where pictures have importance.
        unit: what importance is a number of.
        prior: in words.
        timed: what `stages` were measured with.
        counted: what the savings of `keeps` were counted for.
        products: what INT8 does to each product; empty in another precision.
        versus: of an evaluation, INT8 beside another precision.
        environment: where it was measured; `versions`: what the bundle was made with.
        subject: what the page is about; that of an evaluation has no bundle's parts.
    """

    model: str
    headline: str
    trained: bool = True
    plan: Facts = ()
    keeps: tuple[Keep, ...] = ()
    pictures: tuple[Picture, ...] = ()
    left_out: tuple[str, ...] = ()
    why_no_importance: str = ""
    unit: str = ""
    prior: str = ""
    stages: tuple[Stage, ...] = ()
    timed: str = ""
    counted: str = ""
    check: Check | None = None
    evaluations: tuple[Evaluation, ...] = ()
    environment: Facts = ()
    versions: Facts = ()
    subject: Literal["bundle", "evaluation"] = "bundle"
    products: tuple[ProductError, ...] = ()
    versus: tuple[Versus, ...] = ()

    @property
    def built(self) -> Keep | None:
        """The bundle's own budget."""
        return next((keep for keep in self.keeps if keep.built), None)
