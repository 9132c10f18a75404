"""What a user asks for, checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from d2export.errors import UsageError
from d2export.export.choices import OPSETS, PRECISIONS
from d2export.models.presets import TextSpec, VisionSpec
from d2export.pruning.parameters import IMPORTANCE_SOURCES, PruneParameters, parse_keep

CLS_LAYER = -2  # the last but one, as Sparsity Meets Similarity and VisPruner read it
PRUNE_LAYER = 2  # as D2Pruner
SHALLOW = "shallow"


@dataclass(frozen=True)
class ExportOptions:
    """Everything `export` and `build` can be told.

    Attributes:
        model: a preset, a folder with a checkpoint, or a hub id.
        scope: `vision` exports tower, projector and pruning; `vlm` the language model too, with
            pruning inside it.
        keep: visual tokens kept per image over all its tiles: `64`, `25%` or `all`.
        importance: `cls` (default), `text` or `uniform`; in scope `vlm` always `llm`, the
            attention of the last prompt token.
        importance_layer: vision layer whose CLS attention counts, negative from the end.
        prune_layer: layer of the language model before which tokens are pruned, from 1.
        prior: file with a positional prior, or `shallow`, in scope `vlm`: the attention of the
            first layer; None divides by one.
        pivot_ratio, alpha, theta, eps, pivots_block: see `PruneParameters`.
        precision: `fp32`, `fp16` or `bf16`.
        opset: of the ONNX graphs, 17 to 24.
        images: pictures to store with PyTorch's answers; generated ones if empty.
        prompt: of the references, in scope `vlm`.
        prompt_embeds: `.npy` with float32 `[P, hidden]` for importance `text`.
        random_weights: draw weights instead of looking for a checkpoint.
        seed: of random weights.
        weights_in_bundle: copy the weights instead of linking to the checkpoint.
        revision: branch, tag or commit on the hub.
        force: replace a bundle that is at the output path.
    """

    model: str
    scope: str = "vision"
    keep: str = "64"
    importance: str | None = None
    importance_layer: int = CLS_LAYER
    prune_layer: int = PRUNE_LAYER
    prior: Path | str | None = None
    pivot_ratio: float = PruneParameters.pivot_ratio
    alpha: float = PruneParameters.alpha
    theta: float = PruneParameters.theta
    eps: float = PruneParameters.eps
    pivots_block: bool = PruneParameters.pivots_block
    precision: str = "fp32"
    opset: int = 17
    images: tuple[Path, ...] = field(default=())
    prompt: str | None = None
    prompt_embeds: Path | None = None
    random_weights: bool = False
    seed: int = 0
    weights_in_bundle: bool = False
    revision: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        self.parameters()
        _one_of("--scope", self.scope, tuple(IMPORTANCE_SOURCES))
        sources, where = IMPORTANCE_SOURCES[self.scope], f" in scope {self.scope}"
        _one_of("--importance", self.importance_source, sources, where)
        _one_of("--precision", self.precision, PRECISIONS)
        if self.opset not in OPSETS:
            raise UsageError(
                f"--opset is {self.opset}, expected {OPSETS.start} to {OPSETS.stop - 1}",
                "TensorRT 8.6 reads up to 17, TensorRT 10 up to 24.",
            )
        if self.seed < 0:
            raise UsageError(f"--seed is {self.seed}, expected 0 or more", "Leave it out for 0.")
        self._check_scope()
        self._check_importance("--importance-layer", "cls", self.importance_layer != CLS_LAYER)
        self._check_importance("--prompt-embeds", "text", self.prompt_embeds is not None)

    def _check_importance(self, option: str, source: str, given: bool) -> None:
        """Raise a UsageError if `option` is given and goes with another importance."""
        if given and self.importance_source != source:
            possible = source in IMPORTANCE_SOURCES[self.scope]
            raise UsageError(
                f"{option} goes with importance '{source}', not '{self.importance_source}'",
                f"Leave it out, or pass --importance {source}." if possible else "Leave it out.",
            )

    def _check_scope(self) -> None:
        only_vlm = {
            "--prune-layer": self.prune_layer != PRUNE_LAYER,
            "--prompt": self.prompt is not None,
            f"--prior {SHALLOW}": self.prior_source == SHALLOW,
        }
        for option, given in only_vlm.items():
            if given and self.scope != "vlm":
                raise UsageError(
                    f"{option} goes with scope 'vlm', not '{self.scope}'",
                    "Leave it out, or pass --scope vlm.",
                )
        if self.prune_layer < 1:
            raise UsageError(
                f"--prune-layer is {self.prune_layer}, expected at least 1",
                "Importance is the attention of the layer before it. Leave it out for 2.",
            )
        if self.prior_source == SHALLOW and self.prune_layer < 2:
            raise UsageError(
                f"--prior {SHALLOW} with --prune-layer {self.prune_layer}: expected at least 2",
                "The shallow layer must lie below the one whose attention is the importance.",
            )

    @property
    def importance_source(self) -> str:
        """`importance`, or the scope's own."""
        return self.importance or IMPORTANCE_SOURCES[self.scope][0]

    @property
    def prior_source(self) -> Literal["none", "file", "shallow"]:
        """`none`, `file` or `shallow`."""
        if self.prior is None or str(self.prior) == "none":
            return "none"
        return "shallow" if str(self.prior) == SHALLOW else "file"

    @property
    def prior_file(self) -> Path | None:
        """The file with the prior, if there is one."""
        return Path(self.prior) if self.prior and self.prior_source == "file" else None

    def check_prune_layer(self, text: TextSpec) -> None:
        """Raise a UsageError if the language model has no such layer, or none after it."""
        if self.prune_layer >= text.layers:
            raise UsageError(
                f"--prune-layer is {self.prune_layer}: this language model has {text.layers} "
                "layers",
                f"Pass 1 to {text.layers - 1}.",
            )

    def parameters(self) -> PruneParameters:
        """The attributes of the op."""
        keep, keep_permille = parse_keep(self.keep)
        return PruneParameters(
            keep,
            keep_permille,
            self.pivot_ratio,
            self.alpha,
            self.theta,
            self.eps,
            self.pivots_block,
        )

    def cls_layer(self, vision: VisionSpec) -> int:
        """The layer of the CLS row, counted from 0.

        Raises:
            UsageError: the tower has no such layer, or does not run it.
        """
        layer = self.importance_layer
        index = layer if layer >= 0 else vision.layers + layer
        if not 0 <= index < vision.used_layers:
            raise UsageError(
                f"--importance-layer is {layer}: this tower has {vision.layers} layers "
                f"and runs {vision.used_layers}",
                f"Pass 0 to {vision.used_layers - 1}, or "
                f"{-vision.layers} to {vision.used_layers - vision.layers - 1}.",
            )
        return index


def _one_of(option: str, value: str, allowed: tuple[str, ...], where: str = "") -> None:
    if value not in allowed:
        raise UsageError(
            f"{option} is '{value}', expected one of {', '.join(allowed)}{where}",
            f"Pass one of them, or leave {option} out for {allowed[0]}.",
        )
