"""Does the graph answer what PyTorch answered? Indices by equality, embeddings by tolerance."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from d2export.pruning.plan import Plan
from d2export.verify.reference import Reference

if TYPE_CHECKING:
    from polygraphy.comparator import BaseCompareFunc

    from d2export.verify.near_ties import NearTies


@dataclass(frozen=True)
class Tolerances:
    """What a precision may cost.

    Attributes:
        embeddings: largest deviation of an embedding, relative to the largest magnitude.
        indices: smallest share of kept tokens, over all cases, that PyTorch kept too; 1 asks for
            equality.
        logits: largest deviation of a logit of the first answer token, relative to the largest
            magnitude; in scope `vlm`.
    """

    embeddings: float
    indices: float
    logits: float


TOLERANCES = {
    "fp32": Tolerances(1e-5, 1.0, 1e-4),
    "fp16": Tolerances(5e-3, 0.99, 2e-2),
    "bf16": Tolerances(4e-2, 0.90, 2e-1),
    "int8": Tolerances(1e-1, 0.85, 5e-1),
}
# A rule that chains its decisions goes another way after one that rounding of its inputs flips.
# `near_ties.py` says whether it did what the rule says on the graph's own values; this share only
# tells such a way from chance.
CHAINED = {"fp32": 0.5, "fp16": 0.5, "bf16": 0.25, "int8": 0.25}
COSINE = 0.999


def tolerances_of(precision: str, plan: Plan) -> Tolerances:
    """What a graph that prunes by `plan` may deviate in a precision."""
    tolerances = TOLERANCES[precision]
    return replace(tolerances, indices=CHAINED[precision]) if plan.chained else tolerances


@dataclass(frozen=True)
class Case:
    """One input.

    `well_formed` says that the graph kept as many tokens as PyTorch, ascending, each one of the
    picture's, with finite embeddings. `kept` is how many either of them kept, `common` how many
    both did; embeddings are compared on these. `near_ties` says why indices differ, where PyTorch
    was at hand to find out.
    """

    name: str
    tiles: int
    tokens: int
    kept: int
    common: int
    well_formed: bool
    indices_equal: bool
    embeddings_error: float
    cosine: float
    embeddings_match: bool
    seconds: float
    near_ties: NearTies | None = None


@dataclass(frozen=True)
class AccuracyReport:
    """All cases of one check.

    `selection_implementation` is `native` or `ONNX function`.
    """

    backend: str
    selection_implementation: str
    precision: str
    tolerances: Tolerances
    cases: tuple[Case, ...]

    @property
    def agreement(self) -> float:
        """Share of kept tokens, over all cases, that PyTorch kept too."""
        return sum(case.common for case in self.cases) / sum(case.kept for case in self.cases)

    @property
    def passed(self) -> bool:
        """Embeddings of every case within tolerance, enough equal indices, the rest near-ties."""
        enough = (
            all(case.indices_equal for case in self.cases)
            if self.tolerances.indices == 1
            else self.agreement >= self.tolerances.indices
        )
        return enough and all(
            case.well_formed
            and case.embeddings_match
            and (case.near_ties is None or case.near_ties.explained)
            for case in self.cases
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values; an error or cosine that is no finite number is null."""
        cases = [asdict(case) for case in self.cases]
        for case in cases:
            for name in ("embeddings_error", "cosine"):
                case[name] = case[name] if math.isfinite(case[name]) else None
        return {
            **asdict(self),
            "cases": cases,
            "agreement": self.agreement,
            "passed": self.passed,
        }


def compare(
    name: str,
    reference: Reference,
    image_embeds: npt.NDArray[Any],
    kept_indices: npt.NDArray[np.int32],
    tolerances: Tolerances,
    seconds: float,
    near_ties: NearTies | None = None,
) -> Case:
    """One case, by polygraphy's comparison functions.

    A graph that answers with another number of tokens, or with embeddings of another width, is a
    case that fails.
    """
    expected, answered = reference.image_embeds, image_embeds.astype(np.float32)
    both, ours, theirs = np.intersect1d(kept_indices, reference.kept_indices, return_indices=True)
    error, cosine, match = float("inf"), 0.0, False
    if len(both) and answered.shape == (len(kept_indices), expected.shape[1]):
        error, cosine, match = _compare_embeddings(answered[ours], expected[theirs], tolerances)
    return Case(
        name,
        len(reference.pixels),
        len(reference.token_grid),
        max(len(kept_indices), len(reference.kept_indices)),
        len(both),
        _well_formed(answered, kept_indices, expected, len(reference.token_grid)),
        _equal_indices(kept_indices, reference.kept_indices),
        error,
        cosine,
        match,
        seconds,
        near_ties,
    )


def _well_formed(
    answered: npt.NDArray[np.float32],
    kept_indices: npt.NDArray[np.int32],
    expected: npt.NDArray[np.float32],
    tokens: int,
) -> bool:
    inside = bool(((kept_indices >= 0) & (kept_indices < tokens)).all())
    ascending = bool((np.diff(kept_indices) > 0).all())
    finite = bool(np.isfinite(answered).all())
    return inside and ascending and finite and answered.shape == expected.shape


def _compare_embeddings(
    answered: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], tolerances: Tolerances
) -> tuple[float, float, bool]:
    """Largest deviation relative to the largest magnitude, cosine, and whether both will do."""
    from polygraphy.comparator import CosineSimilarityCompareFunc, SimpleCompareFunc

    magnitude = float(np.abs(expected).max())
    simple = SimpleCompareFunc(
        rtol=0, atol=tolerances.embeddings * magnitude, check_error_stat="max"
    )
    deviation = _apply(simple, answered, expected)
    cosine = _apply(CosineSimilarityCompareFunc(COSINE), answered, expected)
    with np.errstate(all="ignore"):
        error = float(np.abs(answered - expected).max()) / (magnitude or 1.0)
    return error, float(cosine.cosine_similarity), bool(deviation) and bool(cosine)


def _equal_indices(answered: npt.NDArray[np.int32], expected: npt.NDArray[np.int32]) -> bool:
    from polygraphy.comparator import IndicesCompareFunc

    return bool(_apply(IndicesCompareFunc(), answered, expected))


def _apply(
    function: BaseCompareFunc, answered: npt.NDArray[Any], expected: npt.NDArray[Any]
) -> Any:
    """What a polygraphy comparison says; its log is for its own command line."""
    from polygraphy.comparator import IterationResult
    from polygraphy.logger import G_LOGGER

    results = [
        IterationResult(outputs={"value": values}, runner_name=runner)
        for runner, values in (("graph", answered), ("pytorch", expected))
    ]
    # NaN and Inf are for the verdict to name, not for numpy to warn of.
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1), np.errstate(all="ignore"):
        return function(*results)["value"]
