"""Run a bundle of scope `vlm` on its references, and compare: tokens, positions, logits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from d2export.errors import UsageError
from d2export.progress import Progress
from d2export.runtime.decoder import Prompt
from d2export.runtime.decoder_part import DecoderPart
from d2export.runtime.generate import Generator
from d2export.verify.accuracy import Tolerances
from d2export.verify.check import NEAR_TIE, explain, shown
from d2export.verify.tables import near_tie_line, plural, table
from d2export.verify.vlm_reference import VlmReference, read_vlm_reference

if TYPE_CHECKING:
    from torch import Tensor

    from d2export.pruning.selection import Scored
    from d2export.verify.near_ties import NearTies

    Decided = tuple[Scored | None, Tensor | None]


@dataclass(frozen=True)
class VlmCase:
    """One prompt.

    Attributes:
        kept: visual tokens that PyTorch kept; `common` of them the graph kept, too.
        embeddings_error: of the visual tokens, relative to the largest magnitude.
        logits_error: of the first answer token, relative to the largest magnitude.
        tokens: how many PyTorch answered; the first `equal_tokens` are the graph's, too.
        seconds: of the prefill.
        near_ties: why kept tokens differ, where PyTorch was at hand to find out.
    """

    name: str
    images: int
    prompt_tokens: int
    visual_tokens: int
    kept: int
    common: int
    positions_equal: bool
    embeddings_error: float
    logits_error: float
    tokens: int
    equal_tokens: int
    seconds: float
    near_ties: NearTies | None = None


@dataclass(frozen=True)
class VlmReport:
    """All cases of one check; `selection_implementation` is `native` or `ONNX function`."""

    backend: str
    selection_implementation: str
    precision: str
    tolerances: Tolerances
    cases: tuple[VlmCase, ...]

    @property
    def agreement(self) -> float:
        """Share of kept visual tokens, over all cases, that PyTorch kept too."""
        return sum(case.common for case in self.cases) / max(sum(c.kept for c in self.cases), 1)

    @property
    def passed(self) -> bool:
        """Embeddings within tolerance; enough equal positions; where all are, logits too.

        Where equality is asked for, the tokens have to be equal, too: in half precision one that
        rounds to another sends all that follow another way.
        """
        exact = self.tolerances.indices == 1
        enough = (
            all(case.positions_equal and case.equal_tokens == case.tokens for case in self.cases)
            if exact
            else self.agreement >= self.tolerances.indices
        )
        return enough and all(
            case.embeddings_error <= self.tolerances.embeddings
            and (case.near_ties is None or case.near_ties.explained)
            and (not case.positions_equal or case.logits_error <= self.tolerances.logits)
            for case in self.cases
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values; an error that is no finite number is null."""
        cases = [asdict(case) for case in self.cases]
        for case in cases:
            for name in ("embeddings_error", "logits_error"):
                case[name] = case[name] if math.isfinite(case[name]) else None
        return {
            **asdict(self),
            "cases": cases,
            "agreement": self.agreement,
            "passed": self.passed,
        }

    def text(self) -> str:
        """As a table."""
        rows = [
            [
                case.name,
                str(case.images),
                str(case.prompt_tokens),
                str(case.visual_tokens),
                f"{case.common}/{case.kept}",
                f"{case.embeddings_error:.1e}",
                f"{case.logits_error:.1e}",
                f"{case.equal_tokens}/{case.tokens}",
                f"{case.seconds:.2f} s",
            ]
            for case in self.cases
        ]
        header = ["prompt", "images", "tokens", "visual", "kept equal", "embeddings", "logits"]
        header += ["answer equal", "time"]
        asked = self.tolerances
        ties = [near_tie_line(c.name, c.near_ties) for c in self.cases if c.near_ties is not None]
        verdict = (
            f"{self.backend} {self.precision} (selection: {self.selection_implementation}) against "
            f"PyTorch fp32: {self.agreement:.2%} of the kept tokens equal (asked: "
            f"{asked.indices:.0%}), rel. errors asked: embeddings {asked.embeddings:.0e}, logits "
            f"{asked.logits:.0e}"
        )
        return "\n".join([table(header, rows), verdict, *ties])


def check_vlm(
    generator: Generator,
    references: Mapping[str, VlmReference] | None = None,
    *,
    exact: Mapping[str, Decided] | None = None,
    progress: Progress | None = None,
) -> VlmReport:
    """Compare the graphs with PyTorch's answers.

    Args:
        references: by name; those stored in the bundle if None.
        exact: what PyTorch decided on, by name, to explain kept tokens that differ: the values of
            a rule, and the attention of words.

    Raises:
        UsageError: there is nothing to compare with.
        BundleError: a stored answer cannot be read, or a graph cannot be run.
    """
    bundle = generator.bundle
    stored = references
    if stored is None:
        stored = {
            entry.name: read_vlm_reference(bundle.path(entry.path))
            for entry in bundle.manifest.references
        }
    if not stored:
        raise UsageError(f"{bundle.root} stores no references", "Pass --image FILE.")
    asked = bundle.manifest.tolerances
    cases = []
    for name, reference in stored.items():
        decided = (exact or {}).get(name, (None, None))
        cases.append(_compare(generator, name, reference, decided, progress))
        if progress is not None:
            case = cases[-1]
            progress.note(
                f"  {name}: {case.common} of {case.kept} kept tokens equal, "
                f"{case.equal_tokens} of {plural(case.tokens, 'token')} of the answer"
            )
    return VlmReport(
        generator.vision.backend,
        generator.vision.selection_implementation,
        bundle.manifest.precision,
        Tolerances(asked.embeddings_rtol, asked.indices_agreement, asked.logits_rtol),
        tuple(cases),
    )


def _compare(
    generator: Generator,
    name: str,
    reference: VlmReference,
    exact: Decided,
    progress: Progress | None,
) -> VlmCase:
    images, grids = reference.images(), reference.grids()
    prompt = generator.see(reference.encoded(), images, grids)
    decoder = generator.decoder
    sequence = decoder.start()
    step = decoder.prefill(sequence, prompt)
    seconds = step.seconds
    logits, positions = step.logits, step.positions
    tokens = [int(logits.argmax())]
    while len(tokens) < len(reference.tokens) and tokens[-1] == reference.tokens[len(tokens) - 1]:
        tokens.append(int(decoder.step(sequence, tokens[-1]).logits.argmax()))
    expected = reference.tokens.tolist()
    equal = sum(ours == theirs for ours, theirs in zip(tokens, expected, strict=False))
    theirs = np.intersect1d(reference.positions, reference.visual_positions)
    same = np.array_equal(positions, reference.positions)
    ties = None
    asked = exact != (None, None)
    if not same and asked and shown(generator.vision, name, progress):
        ties = _explain(generator, reference, prompt, exact, positions)
    return VlmCase(
        name,
        len(reference.tiles),
        len(reference.input_ids),
        len(reference.visual_positions),
        len(theirs),
        len(np.intersect1d(theirs, positions)),
        same,
        _embeddings_error(prompt, reference),
        _error(logits, reference.logits),
        len(reference.tokens),
        equal,
        seconds,
        ties,
    )


def _explain(
    generator: Generator,
    reference: VlmReference,
    prompt: Prompt,
    exact: Decided,
    positions: npt.NDArray[np.int32],
) -> NearTies | None:
    """Why other tokens survived than PyTorch kept, if it was asked."""
    plan = generator.bundle.manifest.plan
    scored, attention = exact
    visual = reference.visual_positions
    if plan.in_vision and scored is not None:
        seen = np.flatnonzero(np.isin(visual, prompt.origin[prompt.visual_positions]))
        images, grids = reference.images(), reference.grids()
        inputs = generator.vision_inputs(reference.encoded(), images[0], grids[0])
        ties = explain(generator.vision, inputs, scored, seen)
        if ties.tokens or not plan.in_decoder:
            return ties
    if attention is not None and attention.shape[1] == len(prompt.visual_positions):
        return _explain_correlation(generator, prompt, attention, positions)
    if plan.in_decoder and scored is not None:
        kept = np.flatnonzero(np.isin(visual, positions))
        return _explain_rule(generator, prompt, scored, kept)
    return None


def _explain_correlation(
    generator: Generator, prompt: Prompt, exact: Tensor, positions: npt.NDArray[np.int32]
) -> NearTies:
    import torch

    from d2export.verify.near_ties import examine_correlation

    manifest = generator.bundle.manifest
    (attention,) = DecoderPart(generator.decoder, ("attention",))(prompt)
    return examine_correlation(
        exact,
        torch.from_numpy(attention),
        torch.from_numpy(prompt.visual_positions),
        torch.from_numpy(prompt.text_positions),
        torch.from_numpy(np.searchsorted(prompt.origin, positions)),
        len(prompt.origin),
        manifest.plan,
        NEAR_TIE[manifest.precision],
    )


def _explain_rule(
    generator: Generator, prompt: Prompt, exact: Scored, kept: npt.NDArray[np.intp]
) -> NearTies:
    import torch

    from d2export.pruning.selection import Scored
    from d2export.verify.near_ties import examine

    manifest = generator.bundle.manifest
    visual = prompt.visual_positions
    layer = manifest.selector.prune_layer
    assert layer is not None
    part = DecoderPart(generator.decoder, (f"layers.{layer - 1}", "importance", "prior"))
    states, importance, prior = part(prompt)
    graph = Scored(
        torch.from_numpy(states[:, visual]),
        torch.from_numpy(importance[..., visual]),
        torch.from_numpy(prior),
        exact.grid,
    )
    return examine(
        exact,
        graph,
        torch.from_numpy(kept),
        manifest.plan,
        NEAR_TIE[manifest.precision],
    )


def _embeddings_error(prompt: Prompt, reference: VlmReference) -> float:
    """Of the stored rows that the graph's prompt has, too."""
    visual = prompt.origin[prompt.visual_positions]
    theirs = reference.visual_positions[reference.rows]
    _, ours, stored = np.intersect1d(visual, theirs, return_indices=True)
    return _error(prompt.image_embeds[ours], reference.image_embeds[stored])


def _error(answered: npt.NDArray[Any], expected: npt.NDArray[np.float32]) -> float:
    """Largest deviation relative to the largest magnitude."""
    with np.errstate(all="ignore"):
        deviation = np.abs(answered.astype(np.float32) - expected).max(initial=0)
        return float(deviation) / (float(np.abs(expected).max(initial=0)) or 1.0)
