"""Numbers as colours: viridis, which colour-blind readers and grey printers tell apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# matplotlib's viridis (CC0) at nine even steps; between them it is nearly straight.
STOPS = (
    (68, 1, 84),
    (71, 45, 123),
    (59, 82, 139),
    (44, 114, 142),
    (33, 145, 140),
    (40, 174, 128),
    (94, 201, 98),
    (173, 220, 48),
    (253, 231, 37),
)
OUTLIERS = (2, 98)  # percentiles where the scale ends; what is further out gets the end's colour


@dataclass(frozen=True)
class Scale:
    """From the value `low`, the first colour, to `high`, the last, by their logarithm."""

    low: float
    high: float

    def places(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Each value's place on the scale, 0 to 1; what is no number is at 0."""
        with np.errstate(all="ignore"):
            logs = np.log(np.clip(values.astype(np.float64), self.low, self.high))
            places = (logs - np.log(self.low)) / max(np.log(self.high / self.low), 1e-12)
        found: npt.NDArray[np.float64] = np.nan_to_num(places)
        return found


def scale_of(*values: npt.NDArray[np.float32] | None) -> Scale:
    """The scale that shows all of them, outliers left aside."""
    there = np.concatenate([part.ravel() for part in values if part is not None])
    positive = there[np.isfinite(there) & (there > 0)].astype(np.float64)
    if not len(positive):
        return Scale(1.0, 1.0)
    low, high = np.percentile(positive, OUTLIERS)
    return Scale(float(low), float(high))


def colours_of(places: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """`[..., 3]` RGB of places from 0 to 1."""
    stops = np.array(STOPS, np.float64)
    at = np.linspace(0, 1, len(stops))
    channels = [np.interp(places, at, stops[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)
