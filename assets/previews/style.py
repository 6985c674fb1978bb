"""How this house's pictures look, and how they are kept small."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

LIMIT = 300_000  # bytes: a picture lives in Dagster's event log, so it has to stay small
INK, GREY, PAPER = "#22313f", "#c9d1d8", "#ffffff"
BLUE, ORANGE, GREEN, RED = "#2f6db3", "#e08a2e", "#3c9a6b", "#c8443c"
PALETTE = (BLUE, ORANGE, GREEN, "#8560a8", RED, "#3aa5b8", "#a3823f", "#6c7a89")
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8ecef",
    "legend.fontsize": 8,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
}
"""Settings of matplotlib, by its own names."""


def fitted_png(drawn_at: Callable[[int], np.ndarray]) -> bytes:
    """Encode a picture as a PNG of at most LIMIT bytes.

    A picture full of photographs is given 256 colours of its own, then fewer dots.

    Args:
        drawn_at: dots per inch -> the picture, [H, W, 3] uint8.
    """
    for dpi, photographs in ((110, False), (110, True), (80, True), (56, True), (40, True)):
        image = Image.fromarray(np.ascontiguousarray(drawn_at(dpi)))
        if photographs:  # a copy of a quarter of the size has the same colours
            palette = image.reduce(4).quantize(256, kmeans=3)
            image = image.quantize(palette=palette, dither=Image.Dither.NONE)
        stream = io.BytesIO()
        image.save(stream, format="png")
        if stream.tell() <= LIMIT:
            break
    return stream.getvalue()
