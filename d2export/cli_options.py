"""Options that several commands share, and a refusal of those that have no effect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from d2export.errors import UsageError

BundleArg = Annotated[Path, typer.Argument(help="Folder that `build` or `export` wrote.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Warnings and results only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="More detail.")]
RunImages = Annotated[list[Path], typer.Option("--image", help="Picture; may be repeated.")]
Provider = Annotated[str, typer.Option(help="ONNX Runtime provider: cpu or cuda.")]
EngineProvider = Annotated[
    str, typer.Option("--provider", help="What runs it: cpu, cuda (ONNX Runtime), or tensorrt.")
]
RunPlugin = Annotated[
    Path | None,
    typer.Option("--plugin", help="With tensorrt: the plugin's library; default: the installed."),
]
PictureFolder = Annotated[Path, typer.Option("--images", help="Folder of pictures.")]
CalibrationPrompt = Annotated[
    str | None, typer.Option("--prompt", help="Asked about each picture.")
]
Limit = Annotated[int | None, typer.Option(help="The first so many pictures; default: all.")]
ScalesOutput = Annotated[Path, typer.Option("-o", "--output", help="File of the new scales.")]
Method = Annotated[str, typer.Option(help="How ranges are chosen: best, max, percentile, entropy.")]
Percentile = Annotated[float, typer.Option(help="Method percentile: what does not saturate.")]
Alpha = Annotated[float, typer.Option(help="SmoothQuant: what the weights take, 0 to 1.")]
NoSmoothing = Annotated[bool, typer.Option("--no-smoothing", help="Leave SmoothQuant out.")]
KeepFp16Below = Annotated[
    float | None, typer.Option(help="Products with a larger error, in dB, stay FP16: 30.")
]
AnswerTokens = Annotated[
    int, typer.Option(help="Of the model's own answers, measured too; 0: prompts only.")
]
PriorOutput = Annotated[Path, typer.Option("-o", "--output", help="File of the new prior.")]
ForceFile = Annotated[bool, typer.Option("--force", help="Replace the file; start over.")]
Threads = Annotated[int | None, typer.Option(help="Threads per operator; default: all cores.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder of the new bundle.")]
Model = Annotated[str, typer.Option("-m", "--model", help="Preset, checkpoint folder or hub id.")]
SelectorName = Annotated[
    str, typer.Option("--selector", help="How tokens are chosen: `d2export selectors`.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the selector; may be repeated."),
]
Keep = Annotated[str | None, typer.Option(help="Tokens kept per image: 64 (default), 25% or all.")]
MinKeep = Annotated[int | None, typer.Option(help="Selector sms: tokens kept at least.")]
MaxKeep = Annotated[int | None, typer.Option(help="Selector sms: tokens kept at most.")]
Budget = Annotated[str, typer.Option("--budget", help="--keep is per image, tile or prompt.")]
Scope = Annotated[str, typer.Option(help="vision, or vlm: the language model too.")]
Importance = Annotated[
    str | None, typer.Option(help="Selector d2: cls, text, uniform; llm in scope vlm.")
]
PruneLayer = Annotated[int, typer.Option(help="Scope vlm: prune before this layer.")]
ImportanceLayer = Annotated[int, typer.Option(help="Vision layer whose CLS attention counts.")]
PriorFile = Annotated[
    Path | None, typer.Option("--prior", help="Positional prior (JSON); scope vlm: or 'shallow'.")
]
ReferencePrompt = Annotated[
    str | None, typer.Option("--prompt", help="Scope vlm: prompt of the stored answers.")
]
Precision = Annotated[str, typer.Option(help="fp32, fp16, bf16, or int8 with --scales or --calib.")]
Scales = Annotated[
    Path | None, typer.Option(help="Precision int8: file that `calibrate int8` wrote.")
]
CalibrationFolder = Annotated[
    Path | None, typer.Option("--calib", help="Precision int8: folder of pictures to measure on.")
]
CalibrationPrompts = Annotated[
    Path | None, typer.Option("--prompts", help="Asked about the pictures, one on each line.")
]
Opset = Annotated[int, typer.Option(help="ONNX opset, 17 to 24.")]
Images = Annotated[
    list[Path] | None, typer.Option("--image", help="Picture to check with; may be repeated.")
]
PromptEmbeds = Annotated[
    Path | None, typer.Option(help="Prompt as .npy, float32 [P, hidden]; for importance text.")
]
RandomWeights = Annotated[
    bool, typer.Option("--random-weights", help="Random weights for a preset.")
]
Seed = Annotated[int, typer.Option(help="Seed of random weights.")]
WeightsInBundle = Annotated[
    bool, typer.Option("--weights-in-bundle", help="Copy the weights instead of linking them.")
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")]
TargetName = Annotated[
    str | None, typer.Option("--target", help="Build engines for this device: `d2export targets`.")
]
Workspace = Annotated[
    str | None, typer.Option(help="Engines: memory for one layer, 4G; default: the target's.")
]
TimingCache = Annotated[
    Path | None, typer.Option(help="Engines: file that remembers how fast kernels were.")
]
HardwareCompatible = Annotated[
    bool, typer.Option("--hw-compat", help="Engines that other GPUs from Ampere on run, too.")
]
VersionCompatible = Annotated[
    bool,
    typer.Option("--version-compatible", help="Engines that later TensorRT versions run, too."),
]
OptimizationLevel = Annotated[
    int | None, typer.Option("--opt-level", help="Engines: how long to search, 0 to 5; default 3.")
]
Plugin = Annotated[
    Path | None, typer.Option(help="Engines: the plugin's library; default: the installed one.")
]
TensorRTVersion = Annotated[
    str | None, typer.Option("--tensorrt", help="Engines: plan for this version, 10.16.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the bundle at the output path.")]


def refuse_others(
    ctx: typer.Context, what: str, allowed: Sequence[str], hint: str = "Leave one of the two out."
) -> None:
    """Raise a UsageError if an option was typed that has no effect together with `what`."""
    for parameter in ctx.command.params:
        name = parameter.name or ""
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE" and name not in allowed:
            raise UsageError(f"{parameter.opts[-1]} has no effect with {what}", hint)


def pairs_of(settings: Sequence[str] | None) -> dict[str, str]:
    """The values of `--set`, by name.

    Raises:
        UsageError: one is not `NAME=VALUE`.
    """
    return dict(map(_setting, settings or ()))


def _setting(text: str) -> tuple[str, str]:
    """`name=value` in two."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise UsageError(
            f"--set is '{text}', expected NAME=VALUE",
            "For example --set alpha=1.0; `d2export selectors` lists the names.",
        )
    return name.strip(), value.strip()
