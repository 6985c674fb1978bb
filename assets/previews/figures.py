"""Pictures of what the numbers mean, as PNG bytes. The only module that imports matplotlib.

It draws with Agg, which needs no display. Every function takes plain arrays and tables, draws one
titled figure with units, and returns a PNG of at most LIMIT bytes whose bytes depend on its
arguments alone. Frames are [H, W, 3] uint8 RGB.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from assets.previews import style

__all__ = [
    "Figure", "cluster_sheet", "contact_sheet", "drawn", "embedding_map", "film_strip",
    "mixture_bars", "table_bars", "titled", "training_curves",
]  # fmt: skip

P = ParamSpec("P")


def drawn(draw: Callable[P, Figure]) -> Callable[P, bytes]:
    """Draw in the house's style and return the PNG."""

    def wrapped(*args: P.args, **kwargs: P.kwargs) -> bytes:
        with matplotlib.rc_context(cast(Any, style.STYLE)):
            figure = draw(*args, **kwargs)
            canvas = FigureCanvasAgg(figure)

            def at(dpi: int) -> np.ndarray:
                figure.set_dpi(dpi)
                canvas.draw()
                return np.asarray(canvas.buffer_rgba())[..., :3]

            return style.fitted_png(at)

    wrapped.__name__, wrapped.__doc__ = draw.__name__, draw.__doc__
    return wrapped


def titled(
    inches: tuple[float, float], title: str, rows: int = 1, columns: int = 1, **layout: Any
) -> tuple[Figure, list[Axes]]:
    """A titled figure and its panels, row by row. Dagster shows a picture some 7 inches wide."""
    figure = Figure(figsize=inches, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure, list(np.atleast_1d(figure.subplots(rows, columns, **layout)).ravel())


def _pairs(count: int, title: str) -> tuple[Figure, list[Axes]]:
    """A titled figure of `count` panels, two in a row."""
    columns, rows = min(2, count), math.ceil(count / 2)
    figure, panels = titled((3.8 * columns, 2.4 * rows + 0.3), title, rows, columns)
    for spare in panels[count:]:
        spare.remove()
    return figure, panels[:count]


@drawn
def contact_sheet(
    frames: Sequence[np.ndarray], captions: Sequence[str], title: str, columns: int = 4
) -> Figure:
    """Small frames in rows, each with its caption: what is in here, at a glance."""
    width, height, gap = 160, 112, 18  # pixels of a cell; the gap is the caption's
    rows = max(1, math.ceil(len(frames) / columns))
    sheet = np.full((rows * (height + gap), columns * (width + gap), 3), 255, np.uint8)
    figure, (axis,) = titled((sheet.shape[1] / 110, sheet.shape[0] / 110 + 0.4), title)
    for i, (frame, caption) in enumerate(zip(frames, captions, strict=True)):
        top, left = i // columns * (height + gap) + gap, i % columns * (width + gap)
        small = np.asarray(ImageOps.contain(Image.fromarray(frame), (width, height)))
        sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
        axis.text(left, top - 4, caption, fontsize=6.5)
    axis.imshow(sheet, interpolation="none")
    axis.axis("off")
    return figure


@drawn
def table_bars(groups: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """One panel of horizontal bars per group: {"codec": {"h264": 80, ...}, "container": ...}."""
    figure, panels = _pairs(len(groups), title)
    for axis, (name, counts), colour in zip(panels, groups.items(), style.PALETTE, strict=False):
        bars = axis.barh(range(len(counts)), list(counts.values()), color=colour, height=0.65)
        axis.bar_label(bars, fmt="%.4g", padding=3, fontsize=8)
        axis.set_yticks(range(len(counts)), list(counts))
        axis.set_title(name)
        axis.invert_yaxis()
        axis.margins(x=0.15)
        axis.grid(axis="y", visible=False)
    return figure


@drawn
def embedding_map(points: np.ndarray, groups: Sequence[str], title: str) -> Figure:
    """Embeddings [N, D] on their first two principal axes, coloured by group."""
    centred = points.astype(np.float64) - points.mean(axis=0)
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    # The sign of a principal axis is arbitrary: fix it, or a rebuild could mirror the picture.
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    flat = centred @ (axes * signs[:, None])[:2].T
    share = spread**2 / max(float((spread**2).sum()), 1e-12)
    figure, (axis,) = titled((6.4, 4.6), title)
    for name, colour in zip(dict.fromkeys(groups), style.PALETTE * len(groups), strict=False):
        across, up = flat[np.array([group == name for group in groups])].T
        axis.scatter(across, up, s=14, color=colour, alpha=0.7, label=f"{name} ({len(up)})")
    axis.set(xlabel=f"axis 1 ({share[0]:.0%} of the variance)", ylabel=f"axis 2 ({share[1]:.0%})")
    if len(set(groups)) > 1:
        axis.legend()
    return figure


@drawn
def cluster_sheet(clusters: Mapping[str, np.ndarray]) -> Figure:
    """Clusters kept and dropped: scenes above, the target videos that decide below.

    `clusters` are columns [K]: scenes, kept, weight and one n_<target> a target; the 80 heaviest
    are drawn.
    """
    kept, weight, scenes_in = (clusters[name] for name in ("kept", "weight", "scenes"))
    order = np.lexsort((-scenes_in, -weight))[:80]
    at, targets = np.arange(len(order)), [n[2:] for n in clusters if n.startswith("n_")]
    title = f"{kept.sum()} of {len(kept)} clusters kept (green): a target video falls in them"
    figure, (scenes, votes) = titled((7.4, 4.6), title, 2, sharex=True)
    colours = [style.GREEN if green else style.GREY for green in kept[order]]
    scenes.bar(at, scenes_in[order], color=colours, width=0.8)
    scenes.set_ylabel("scenes")
    floor = np.zeros(len(order))
    for target, colour in zip(targets, style.PALETTE, strict=False):
        counts = clusters[f"n_{target}"][order].astype(float)
        votes.bar(at, counts, bottom=floor, color=colour, width=0.8, label=target)
        floor += counts
    votes.set(ylabel="target videos", xlabel="clusters, by falling retrieval weight", xticks=[])
    votes.legend(ncols=max(1, min(4, len(targets))))
    return figure


@drawn
def mixture_bars(weights: Mapping[str, float], samples: Mapping[str, int]) -> Figure:
    """The weight a source is drawn with beside the share of samples that it has."""
    names, at, total = list(weights), np.arange(len(weights)), max(sum(samples.values()), 1)
    figure, (axis,) = titled((6.8, 3.4), "The mixture: what is drawn, and what there is")
    held = [samples.get(name, 0) / total for name in names]
    bars = axis.bar(
        at - 0.2, list(weights.values()), 0.38, color=style.BLUE, label="drawn with weight"
    )
    axis.bar_label(bars, fmt="%.3f", fontsize=8)
    bars = axis.bar(at + 0.2, held, 0.38, color=style.GREY, label="share of samples (their number)")
    axis.bar_label(bars, [f"{samples.get(name, 0):,}" for name in names], fontsize=8)
    axis.set_xticks(at, names)
    axis.legend(title="share")
    return figure


def _curve(axis: Axes, steps: np.ndarray, values: np.ndarray, label: str, colour: str) -> None:
    steps, values, marker = steps[np.isfinite(values)], values[np.isfinite(values)], "o"
    if len(values) > 60:
        axis.plot(steps, values, color=colour, alpha=0.25, linewidth=0.7)
        width, marker = len(values) // 40 + 1, ""
        values = np.convolve(
            np.pad(values, (width - 1, 0), "edge"), np.full(width, 1 / width), "valid"
        )
    axis.plot(steps, values, color=colour, linewidth=1.6, label=label, marker=marker, markersize=3)


@drawn
def training_curves(
    steps: np.ndarray, panels: Mapping[str, Mapping[str, np.ndarray]], title: str
) -> Figure:
    """Curves over steps, one panel per key: {"loss (L1)": {"train": ...}, "effective rank": ...}.

    Values [steps]; NaN marks a step at which that number was not taken and is left out. Above 60
    points the bold line is a running mean over one fortieth of them.
    """
    figure, axes = _pairs(len(panels), title)
    for first, (axis, (name, curves)) in enumerate(zip(axes, panels.items(), strict=True)):
        for i, (label, values) in enumerate(curves.items()):
            _curve(
                axis, steps, np.asarray(values, dtype=float), label, style.PALETTE[(first + i) % 8]
            )
        axis.set(title=name, xlabel="step")
        if len(curves) > 1:
            axis.legend()
    return figure


@drawn
def film_strip(
    frames: Sequence[np.ndarray],
    captions: Sequence[str],
    tracks: Mapping[str, np.ndarray],
    labels: tuple[str, str],
    title: str,
) -> Figure:
    """Frames in a row with captions, above curves over the same span, [T] each.

    `labels` name the curves' axes with their units; a frame whose caption is "goal" is framed.
    """
    figure = Figure(figsize=(7.4, 3.4), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    grid = figure.add_gridspec(2, max(1, len(frames)))
    for i, (frame, caption) in enumerate(zip(frames, captions, strict=True)):
        axis, marked = figure.add_subplot(grid[0, i]), caption == "goal"
        axis.imshow(frame, interpolation="nearest")
        axis.set_title(caption, fontsize=8, color=style.ORANGE if marked else style.INK)
        axis.set(xticks=[], yticks=[])
        for side in axis.spines.values():
            side.set(visible=marked, color=style.ORANGE, linewidth=2.5)
    axis = figure.add_subplot(grid[1, :])
    for (name, values), colour in zip(tracks.items(), style.PALETTE, strict=False):
        axis.plot(np.arange(len(values)), values, label=name, color=colour, marker=".")
    axis.set(xlabel=labels[0], ylabel=labels[1])
    axis.legend(ncols=max(1, len(tracks)))
    return figure
