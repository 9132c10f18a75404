"""The file of INT8 scales: what `calibrate int8` measures once and any number of builds read.

    {"format": "d2export-int8-scales", "version": 1, "model": ..., "pictures": {...},
     "products": {"text.layers.0.attention.q":
                  {"weight": SHA-256, "range": 3.1, "sqnr_db": 38.2, "int8": true}, ...},
     "smoothing": {"text.layers.0.norm1": [0, 1, -2, ...], ...}}

Each product has the digest of its weight, so that a file is refused for other weights, and fits any
graph of the same model: whatever is pruned, in whichever scope.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from d2export.bundle.disk import replace_file
from d2export.bundle.folder import Bundle
from d2export.bundle.records import Count, Name, NonNegative, Positive, Sha256
from d2export.bundle.strict_json import JsonError, Range, decode, encode, parse
from d2export.calibration.int8_ranges import Method
from d2export.calibration.int8_smoothing import LARGEST_EXPONENT
from d2export.errors import UsageError
from d2export.models.safetensors_file import TensorRef

if TYPE_CHECKING:
    from d2export.export.quantize import Quantization

AGAIN = "Calibrate again: d2export calibrate int8 --help"
CHUNK_BYTES = 16 * 2**20

Exponent = Annotated[int, Range(-LARGEST_EXPONENT, LARGEST_EXPONENT)]


@dataclass(frozen=True)
class Inputs:
    """What was looked at: how many, and the SHA-256 of all of it in order."""

    count: Positive
    sha256: Sha256


@dataclass(frozen=True)
class ProductScale:
    """One product.

    Attributes:
        weight: SHA-256 of its weight as the checkpoint stores it.
        range: magnitude of its activation, smoothed if it is, that becomes 127.
        sqnr_db: of its output when nothing but it is INT8, in decibels; null if it is exact.
        int8: whether it becomes INT8.
    """

    weight: Sha256
    range: NonNegative
    sqnr_db: float | None
    int8: bool


@dataclass(frozen=True)
class Int8Scales:
    """A calibration.

    Attributes:
        model, model_id, revision, random_seed: of the bundle it was measured on.
        tiles: of all pictures together.
        prompts: asked about them, in turn; null in scope `vision`.
        method, percentile: how ranges were chosen from what was seen.
        alpha: of SmoothQuant; null without it.
        keep_fp16_below: decibels; products whose error is larger stay as they are.
        answer_tokens: of the model's own answers, at most, read behind each prompt; null in scope
            `vision`.
        products: by name.
        smoothing: by the name of a norm, powers of two that its output is divided by.
        d2export: version that wrote the file.
    """

    model: Name
    model_id: Name | None
    revision: Name | None
    random_seed: Count | None
    pictures: Inputs
    tiles: Positive
    prompts: Inputs | None
    method: Method
    percentile: Annotated[float, Range(0, 100)]
    alpha: Annotated[float, Range(0, 1)] | None
    keep_fp16_below: NonNegative | None
    answer_tokens: Count | None
    products: dict[Name, ProductScale]
    smoothing: dict[Name, tuple[Exponent, ...]]
    d2export: Name
    format: Literal["d2export-int8-scales"] = "d2export-int8-scales"
    version: Literal[1] = 1

    @property
    def narrow(self) -> list[str]:
        """Names of the products that become INT8."""
        return [name for name, scale in self.products.items() if scale.int8]

    @property
    def errors(self) -> dict[str, float | None]:
        """Signal to noise of each product, in decibels; None if it is exact."""
        return {name: scale.sqnr_db for name, scale in self.products.items()}

    @property
    def quantization(self) -> Quantization:
        """What the exporter is told. Needs onnx_ir."""
        from d2export.export.quantize import Quantization

        return Quantization(
            {name: self.products[name].range for name in self.narrow},
            {name: np.array(row, np.int32) for name, row in self.smoothing.items()},
        )

    def write(self, path: Path) -> None:
        """Write it; `path` holds the old or the new file whatever happens.

        Raises:
            OutputError: it cannot be written.
        """
        replace_file(path, json.dumps(encode(self), indent=1, ensure_ascii=False) + "\n")


def read_scales(path: Path) -> Int8Scales:
    """The calibration in a file.

    Raises:
        UsageError: the file is missing, damaged, something else, or of another version.
    """
    try:
        value = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"cannot read scales {path}: {error.strerror}", "Check the path."
        ) from None
    except (JsonError, UnicodeDecodeError) as error:
        raise UsageError(f"scales {path} are damaged: {error}", AGAIN) from None
    if not isinstance(value, dict) or value.get("format") != "d2export-int8-scales":
        raise UsageError(
            f"{path} is no file of scales: 'format' is not 'd2export-int8-scales'", AGAIN
        )
    if value.get("version") != 1:
        raise UsageError(
            f"scales {path} have version {value.get('version')!r}, this d2export reads 1", AGAIN
        )
    try:
        return decode(Int8Scales, value)
    except JsonError as error:
        raise UsageError(f"scales {path} are damaged: {error}", AGAIN) from None


def stored_scales(bundle: Bundle) -> Int8Scales | None:
    """The calibration in a bundle; None for another precision than INT8.

    Raises:
        BundleError: it leads out of the bundle.
        UsageError: it cannot be read.
    """
    quantization = bundle.manifest.quantization
    return read_scales(bundle.path(quantization.path)) if quantization is not None else None


def check_scales(
    scales: Int8Scales, path: Path, products: Iterable[str], refs: Mapping[str, TensorRef]
) -> None:
    """Refuse scales that were measured on other weights, or lack a product.

    Args:
        path: their file, for messages.
        products: names of those in the graphs that are to be built.
        refs: where each weight lies, by canonical name.

    Raises:
        UsageError: the first product that does not fit.
    """
    for name in products:
        if name not in scales.products:
            raise UsageError(
                f"scales {path} were measured on '{scales.model}' without a product '{name}', "
                "which this build has",
                "Calibrate with a bundle of the same model and scope.",
            )
        if scales.products[name].weight != weight_digest(refs[f"{name}.weight"]):
            raise UsageError(
                f"scales {path} were measured on other weights ('{scales.model}'): "
                f"that of '{name}' is not this model's",
                "Calibrate with a bundle of this model.",
            )


def weight_digest(ref: TensorRef) -> str:
    """SHA-256 of a weight's type, shape and bytes, wherever it is stored."""
    digest = hashlib.sha256(f"{ref.dtype} {list(ref.shape)}\n".encode())
    with ref.path.open("rb") as file:
        file.seek(ref.offset)
        left = ref.nbytes
        while left and (chunk := file.read(min(CHUNK_BYTES, left))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()
