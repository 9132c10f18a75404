"""What a user asks for, checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from d2export.errors import UsageError
from d2export.export.choices import OPSETS, PRECISIONS
from d2export.models.presets import ModelSpec, TextSpec, VisionSpec
from d2export.pruning.parameters import parse_keep
from d2export.pruning.plan import BUDGETS, Budget, Plan, make_plan
from d2export.pruning.rule_parameters import NO_LIMIT
from d2export.pruning.selector import Scope, Selector, Value
from d2export.pruning.selectors import ROWS, alternatives, selector

SCOPES: tuple[Scope, ...] = get_args(Scope)
SELECTOR = "d2"
KEEP = "64"
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
        selector: a name of `d2export.pruning.selectors.SELECTORS`.
        settings: of the selector, by name; what is left out has its default.
        keep: visual tokens kept per image over all its tiles: `64` (default), `25%` or `all`.
        min_keep, max_keep: bounds for a selector whose count depends on the picture (`sms`).
        budget: what `keep` counts for: each `image`, each `tile`, or all images of a `prompt`
            together, which takes a selector inside the language model.
        importance: where importance comes from, for a selector that leaves it open (`d2`): `cls`
            (default in scope `vision`), `text`, `uniform`, or `llm` (default in scope `vlm`), the
            attention of the last prompt token.
        importance_layer: vision layer whose CLS attention counts, negative from the end.
        prune_layer: layer of the language model before which tokens are pruned, from 1.
        prior: file with a positional prior, or `shallow`, in scope `vlm`: the attention of the
            first layer; None divides by one.
        precision: `fp32`, `fp16`, `bf16` or `int8`, which needs one of the next two.
        scales: file that `calibrate int8` wrote.
        calib: folder of pictures to calibrate on first.
        prompts: with `calib`, in scope `vlm`: file of prompts to calibrate with.
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
    selector: str = SELECTOR
    settings: Mapping[str, Value] = field(default_factory=dict)
    keep: str | None = None
    min_keep: int | None = None
    max_keep: int | None = None
    budget: str = BUDGETS[0]
    importance: str | None = None
    importance_layer: int = CLS_LAYER
    prune_layer: int = PRUNE_LAYER
    prior: Path | str | None = None
    precision: str = "fp32"
    scales: Path | None = None
    calib: Path | None = None
    prompts: Path | None = None
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
        _one_of("--scope", self.scope, SCOPES)
        _one_of("--budget", self.budget, BUDGETS)
        _one_of("--precision", self.precision, PRECISIONS)
        if self.opset not in OPSETS:
            raise UsageError(
                f"--opset is {self.opset}, expected {OPSETS.start} to {OPSETS.stop - 1}",
                "TensorRT 8.6 reads up to 17, TensorRT 10 up to 24.",
            )
        if self.seed < 0:
            raise UsageError(f"--seed is {self.seed}, expected 0 or more", "Leave it out for 0.")
        self._check_scales()
        self._check_selector()
        self._check_budget()
        self._check_scope()
        self._check_importance("--importance-layer", "cls", self.importance_layer != CLS_LAYER)
        self._check_importance("--prompt-embeds", "text", self.prompt_embeds is not None)
        self._plan(0)

    def _check_scales(self) -> None:
        """Raise a UsageError unless INT8, and nothing else, has scales from one place."""
        given = {
            option: value
            for option, value in (("--scales", self.scales), ("--calib", self.calib))
            if value is not None
        }
        if self.precision == "int8" and len(given) != 1:
            raise UsageError(
                "--scales and --calib are both given"
                if given
                else "--precision int8 needs scales, and neither --scales nor --calib is given",
                "Pass --scales FILE from `d2export calibrate int8`, or --calib FOLDER with "
                "pictures such as the model will see.",
            )
        if self.precision != "int8" and given:
            raise UsageError(
                f"{next(iter(given))} goes with --precision int8, not {self.precision}",
                "Leave it out, or pass --precision int8.",
            )
        if self.prompts is not None and (self.calib is None or self.scope != "vlm"):
            raise UsageError(
                "--prompts goes with --calib in scope 'vlm'",
                "Leave it out, or pass --calib FOLDER --scope vlm.",
            )

    def _check_selector(self) -> None:
        """Raise a UsageError unless scope and model have what the selector reads."""
        chosen = self.chosen
        if not chosen.fits(self.scope):
            raise UsageError(
                f"--selector {self.selector} reads the language model's attention, which scope "
                f"'{self.scope}' does not export",
                "Pass --scope vlm, or a selector of this scope: "
                f"{alternatives(self.scope, 'llm')}.",
            )
        sources = chosen.sources(self.scope)
        if self.importance is not None and self.importance not in sources:
            if not sources:
                raise UsageError(
                    f"--importance is '{self.importance}', but selector '{self.selector}' reads "
                    "none",
                    "Leave it out.",
                )
            where = f" for selector '{self.selector}' in scope {self.scope}"
            _one_of("--importance", self.importance, sources, where)
        if self.prior is not None and self.prior_source != "none" and not chosen.has_prior:
            raise UsageError(
                f"--prior is {self.prior}, but selector '{self.selector}' divides by none",
                "Leave it out, or pass --selector d2.",
            )

    def _check_budget(self) -> None:
        chosen = self.chosen
        bounds = {"--min-keep": self.min_keep, "--max-keep": self.max_keep}
        for option, value in bounds.items():
            if value is not None and chosen.counted:
                raise UsageError(
                    f"{option} is {value}, but selector '{self.selector}' keeps as many as --keep "
                    "says",
                    "Leave it out, or pass --selector sms.",
                )
        if not chosen.counted:
            if self.keep is not None:
                raise UsageError(
                    f"--keep is {self.keep}, but with selector '{self.selector}' the picture "
                    "says how many tokens stay",
                    "Leave it out; --min-keep and --max-keep are its bounds.",
                )
            if self.budget != BUDGETS[0]:
                raise UsageError(
                    f"--budget is '{self.budget}', but selector '{self.selector}' has no --keep",
                    "Leave it out.",
                )
            if self.settings.get("static") in (True, "true") and self.max_keep is None:
                raise UsageError(
                    "static is true, but --max-keep is missing",
                    "It says how many rows the outputs have: for example --max-keep 256.",
                )
        if self.budget == "prompt" and self.importance_source != "llm":
            raise UsageError(
                f"--budget is 'prompt', but selector '{self.selector}' with importance "
                f"'{self.importance_source or 'none'}' sees one image at a time",
                "Pass --scope vlm with --selector d2 or fastv, or leave --budget out.",
            )

    def _check_importance(self, option: str, source: str, given: bool) -> None:
        """Raise a UsageError if `option` is given and goes with another importance."""
        if given and self.importance_source != source:
            possible = source in self.chosen.sources(self.scope)
            raise UsageError(
                f"{option} goes with importance '{source}', not "
                f"'{self.importance_source or 'none'}'",
                f"Leave it out, or pass --importance {source}." if possible else "Leave it out.",
            )

    def _check_scope(self) -> None:
        inside = {
            "--prune-layer": self.prune_layer != PRUNE_LAYER,
            f"--prior {SHALLOW}": self.prior_source == SHALLOW,
        }
        only_vlm = {**inside, "--prompt": self.prompt is not None}
        for option, given in only_vlm.items():
            if given and self.scope != "vlm":
                raise UsageError(
                    f"{option} goes with scope 'vlm', not '{self.scope}'",
                    "Leave it out, or pass --scope vlm.",
                )
            if given and option in inside and not self.prunes_inside:
                raise UsageError(
                    f"{option} goes with pruning inside the language model, but selector "
                    f"'{self.selector}' with importance '{self.importance_source or 'none'}' "
                    "prunes before it",
                    "Leave it out, or pass --selector d2 --importance llm.",
                )
        if self.prompt_embeds is not None and self.scope == "vlm":
            raise UsageError(
                "--prompt-embeds goes with scope 'vision'; scope 'vlm' reads the prompt itself",
                "Leave it out, or pass --prompt.",
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
    def chosen(self) -> Selector:
        """The selector's record."""
        return selector(self.selector)

    @property
    def importance_source(self) -> str | None:
        """`importance`, or the selector's own in this scope; None if it reads none."""
        return self.importance or next(iter(self.chosen.sources(self.scope)), None)

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

    def _check_rows_ahead(self, text: TextSpec) -> None:
        """Raise a UsageError if attention is read of layers that the language model has not."""
        rows = ROWS.get(str(self.chosen.resolve(self.settings).get("rows")))
        if rows is not None and self.prune_layer + rows.ahead > text.layers:
            raise UsageError(
                f"selector '{self.selector}' with --prune-layer {self.prune_layer} reads "
                f"attention of {rows.said(self.prune_layer)}: this language model has "
                f"{text.layers} layers",
                f"Pass --set rows=both, or --prune-layer up to {text.layers - rows.ahead}.",
            )

    @property
    def prunes_inside(self) -> bool:
        """Whether tokens are pruned inside the language model."""
        return self._plan(0).in_decoder

    def plan(self, spec: ModelSpec) -> Plan:
        """How the graphs of a model prune.

        Raises:
            UsageError: the model lacks what the selector reads, or has no such layer.
        """
        plan = self._plan(0)
        if plan.in_vision and plan.importance == "cls":
            plan = self._plan(self.cls_layer(spec.vision))
        if plan.in_decoder:
            self.check_prune_layer(spec.text)
            self._check_rows_ahead(spec.text)
        return plan

    def _plan(self, importance_layer: int) -> Plan:
        keep, keep_permille = parse_keep(self.keep or KEEP)
        budget: Budget = self.budget  # type: ignore[assignment]
        return make_plan(
            self.chosen,
            self.scope,
            self.importance_source,
            self.chosen.resolve(self.settings),
            keep=keep,
            keep_permille=keep_permille,
            min_keep=1 if self.min_keep is None else self.min_keep,
            max_keep=NO_LIMIT if self.max_keep is None else self.max_keep,
            importance_layer=importance_layer,
            prune_layer=self.prune_layer,
            prior=self.prior_source,
            budget=budget,
        )

    def cls_layer(self, vision: VisionSpec) -> int:
        """The layer of the CLS row, counted from 0.

        Raises:
            UsageError: the tower has no CLS token, no such layer, or does not run it.
        """
        if not vision.class_token:
            others = alternatives(self.scope, "cls")
            raise UsageError(
                f"--selector {self.selector} with importance 'cls' reads the vision tower's CLS "
                "token, which this model does not have",
                f"Pass another importance, or one of these selectors: {others}.",
            )
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
