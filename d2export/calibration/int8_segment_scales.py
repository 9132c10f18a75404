"""Ranges, smoothing and errors of the products of one segment, in up to three passes.

1. The largest magnitude in each channel, from which SmoothQuant's factors follow.
2. A histogram of magnitudes, from which the range follows.
3. On some of the pictures, the product computed both ways: the error that INT8 makes by itself.

An activation goes through the last two as it is and smoothed, with the range of each rule that was
asked for. Of these the one is taken whose least exact product is the most exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from d2export.calibration.int8_histogram import Histogram
from d2export.calibration.int8_ranges import RULES, Rule, range_of
from d2export.calibration.int8_scales import ProductScale, weight_digest
from d2export.calibration.int8_segments import Arrays, Segment
from d2export.calibration.int8_settings import Settings
from d2export.calibration.int8_smoothing import smoothing_exponents
from d2export.export.quantize_products import Float32, Product
from d2export.export.quantize_weights import NarrowWeight, activation_scale, round_trip
from d2export.models.safetensors_file import TensorRef

ROWS_COMPARED = 128  # of an activation in a picture, evenly spaced, for the error of a product

Pass = Callable[[], Iterator[Arrays]]


@dataclass(frozen=True)
class SegmentScales:
    """What is found for a segment: products by name, exponents by `Product.smoothed_at`."""

    products: dict[str, ProductScale]
    smoothing: dict[str, tuple[int, ...]]


def measure_segment(
    segment: Segment,
    refs: Mapping[str, TensorRef],
    settings: Settings,
    everything: Pass,
    some: Pass,
) -> SegmentScales:
    """The scales of a segment's products.

    Args:
        refs: where each weight lies, by canonical name.
        everything: gives, each time it is called, what the products read: picture by picture, by
            name.
        some: the same, of the pictures that errors are measured on.
    """
    read = segment.read
    weights = {
        product.name: NarrowWeight(
            product.name, product.node.op_type, refs[f"{product.name}.weight"]
        )
        for product in segment.products
    }
    channels = _largest_by_channel(read, everything)
    forms = [
        form
        for name, products in read.items()
        for form in _forms(name, products, weights, channels[name], settings)
    ]
    _find_ranges(forms, everything, settings)
    _find_errors(forms, some)
    found = SegmentScales({}, {})
    for name, products in read.items():
        tried = [(form, rule) for form in forms if form.name == name for rule in form.tried]
        form, rule = max(tried, key=lambda one: one[0].tried[one[1]].worst)
        best = form.tried[rule]
        if form.exponents is not None:
            found.smoothing[products[0].smoothed_at] = tuple(form.exponents.tolist())
        for product in products:
            error, floor = best.errors[product.name], settings.keep_fp16_below
            stays = floor is not None and error is not None and error < floor
            digest = weight_digest(refs[f"{product.name}.weight"])
            found.products[product.name] = ProductScale(digest, best.range, error, not stays)
    return found


@dataclass
class _Form:
    """An activation with its products, as it is or smoothed.

    Attributes:
        name: the activation's.
        product: one of those that read it.
        weights: what it is multiplied with, smoothed.
        channels: largest magnitude of each channel, smoothed.
        exponents: what it is divided by.
        tried: by rule, the range and what becomes of the products with it.
    """

    name: str
    product: Product
    weights: Sequence[NarrowWeight]
    channels: Float32
    exponents: npt.NDArray[np.int32] | None
    histogram: Histogram = field(default_factory=Histogram)
    tried: dict[Rule, _Trial] = field(default_factory=dict)

    def smoothed(self, values: Float32) -> Float32:
        """The activation divided."""
        return values if self.exponents is None else np.ldexp(values, -self.exponents)


@dataclass
class _Trial:
    """A range, and the errors of the products with it, in decibels by name."""

    range: float
    errors: dict[str, float | None] = field(default_factory=dict)

    @property
    def worst(self) -> float:
        """Decibels of the product with the largest error."""
        return min((error for error in self.errors.values() if error is not None), default=math.inf)


def decibels(exact: Float32, other: Float32) -> float | None:
    """Signal to noise of an answer; None without noise."""
    signal = float(np.square(exact, dtype=np.float64).sum())
    noise = float(np.square(exact.astype(np.float64) - other).sum())
    if noise == 0:
        return None
    return 10 * math.log10(signal / noise) if signal else 0.0


def _largest_by_channel(
    read: Mapping[str, Sequence[Product]], everything: Pass
) -> dict[str, Float32]:
    """Of each activation the largest magnitude of each channel that its products sum over."""
    channels: dict[str, Float32] = {}
    for values in everything():
        for name, found in values.items():
            axis = 1 if read[name][0].node.op_type == "Conv" else found.ndim - 1
            others = tuple(other for other in range(found.ndim) if other != axis)
            largest: Float32 = np.abs(found).max(axis=others)
            channels[name] = np.maximum(channels.get(name, largest), largest)
    return channels


def _forms(
    name: str,
    products: Sequence[Product],
    weights: Mapping[str, NarrowWeight],
    channels: Float32,
    settings: Settings,
) -> Iterator[_Form]:
    plain = [weights[product.name] for product in products]
    yield _Form(name, products[0], plain, channels, None)
    if settings.alpha is None or products[0].node.op_type == "Conv":
        return
    exponents = smoothing_exponents(channels, [weight.values() for weight in plain], settings.alpha)
    smoothed = [NarrowWeight(w.name, w.op_type, w.ref, exponents) for w in plain]
    yield _Form(name, products[0], smoothed, np.ldexp(channels, -exponents), exponents)


def _find_ranges(forms: Sequence[_Form], everything: Pass, settings: Settings) -> None:
    rules = tuple(rule for rule in RULES if settings.method in (rule, "best"))
    if rules == ("max",):
        for form in forms:
            form.tried["max"] = _Trial(float(form.channels.max()))
        return
    for values in everything():
        for form in forms:
            form.histogram.add(form.smoothed(values[form.name]))
    for form in forms:
        for rule in rules:
            form.tried[rule] = _Trial(range_of(form.histogram, rule, settings.percentile))


def _find_errors(forms: Sequence[_Form], some: Pass) -> None:
    """Each product computed both ways, on rows of all pictures at once: its weight is read once."""
    found: dict[str, list[Float32]] = {}
    products = {form.name: form.product for form in forms}
    for values in some():
        for name, value in values.items():
            found.setdefault(name, []).append(_rows(value, products[name]))
    for form in forms:
        rows = form.smoothed(np.concatenate(found[form.name]))
        for weight in form.weights:
            exact, narrow = weight.matrices()
            answer = rows @ exact
            for trial in form.tried.values():
                rounded = round_trip(rows, activation_scale(trial.range))
                trial.errors[weight.name] = decibels(answer, rounded @ narrow)


def _rows(values: Float32, product: Product) -> Float32:
    """`[rows, in]`, at most `ROWS_COMPARED`: what a product multiplies with its weight."""
    if product.node.op_type == "Conv":
        values = _patches(values, *product.node.attributes["kernel_shape"].as_ints())
    rows = values.reshape(-1, values.shape[-1])
    return rows[:: max(1, math.ceil(len(rows) / ROWS_COMPARED))]


def _patches(pixels: Float32, height: int, width: int) -> Float32:
    """`[T, C, H, W]` cut into patches side by side, `[T, rows, columns, C * height * width]`."""
    tiles, channels, rows, columns = pixels.shape
    cut = pixels.reshape(tiles, channels, rows // height, height, columns // width, width)
    return cut.transpose(0, 2, 4, 1, 3, 5).reshape(
        tiles, rows // height, columns // width, channels * height * width
    )
