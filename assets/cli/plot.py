"""Curves in a terminal: plain characters, so that they survive a log and a pipe."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

WIDTH, HEIGHT = 64, 10
MARKS = "o+x*#"


def plotted(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], width: int = WIDTH, height: int = HEIGHT
) -> list[str]:
    """Lines that show curves over each other: name -> (steps [N], finite values [N]).

    A column shows the mean of the values whose steps fall into it; of two curves at one place the
    later one is seen. Legend and range of the steps stand below.
    """
    steps = np.concatenate([at for at, _ in curves.values()])
    values = np.concatenate([value for _, value in curves.values()])
    low, high = float(values.min()), float(values.max())
    first, last = int(steps.min()), int(steps.max())
    grid = np.full((height, width), " ")
    for mark, (at, value) in zip(MARKS, curves.values(), strict=False):
        columns = ((at - first) * (width - 1) / max(last - first, 1)).round().astype(int)
        for column in np.unique(columns):
            share = (value[columns == column].mean() - low) / ((high - low) or 1.0)
            grid[height - 1 - round(share * (height - 1)), column] = mark
    margins = [f"{high:.4g}", *[""] * (height - 2), f"{low:.4g}"]
    edge = max(map(len, margins))
    lines = [f"{margin:>{edge}} |{''.join(row)}" for margin, row in zip(margins, grid, strict=True)]
    legend = "   ".join(f"{mark} {name}" for mark, name in zip(MARKS, curves, strict=False))
    return [*(line.rstrip() for line in lines), f"{'':>{edge}}  steps {first} to {last}   {legend}"]
