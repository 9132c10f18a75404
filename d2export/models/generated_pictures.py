"""Pictures to check a graph with when the user brings none: drawn, the same every time."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

SIZES = {"square": (448, 448), "landscape": (900, 600), "four-by-three": (640, 480)}


def generated_pictures() -> dict[str, Image.Image]:
    """RGB pictures by name: smooth colour, coarse texture and shapes, at three aspect ratios."""
    return {
        name: _draw(np.random.default_rng(seed), width, height)
        for seed, (name, (width, height)) in enumerate(SIZES.items())
    }


def _draw(random: np.random.Generator, width: int, height: int) -> Image.Image:
    texture = random.integers(0, 256, (height // 24, width // 24, 3), dtype=np.uint8)
    picture = Image.fromarray(texture).resize((width, height), Image.Resampling.BICUBIC)
    canvas = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y = random.integers(0, width), random.integers(0, height)
        radius = random.integers(height // 20, height // 6)
        colour = tuple(int(channel) for channel in random.integers(0, 256, 3))
        box = (int(x - radius), int(y - radius), int(x + radius), int(y + radius))
        (canvas.ellipse if random.random() < 0.5 else canvas.rectangle)(box, fill=colour)
    return picture
