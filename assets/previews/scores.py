"""Pictures of evaluations: ranks, confusion, scores with intervals, energies. PNG bytes.

Every function takes plain arrays and tables and draws one titled figure with units, in the style of
`figures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from assets.previews import style
from assets.previews.figures import Figure, drawn, titled


@drawn
def ranking_histogram(ranks: np.ndarray, candidates: int, gap: Mapping[str, float]) -> Figure:
    """Where the true action ranks among `candidates` (0 = best), and the loss with each action.

    ranks: [held-out steps]; gap: {"true actions": loss, "shuffled": loss, ...}.
    """
    chance, mean, title = (candidates - 1) / 2, float(np.mean(ranks)), "Which action was taken?"
    figure, (left, right) = titled((7.4, 3.1), title, columns=2, width_ratios=(2, 1))
    left.hist(
        ranks, bins=list(np.arange(candidates + 1) - 0.5), color=style.BLUE, edgecolor=style.PAPER
    )
    left.axvline(mean, color=style.INK, label=f"mean {mean:.1f}")
    left.axvline(chance, color=style.RED, linestyle="--", label=f"chance {chance:.1f}")
    left.set(
        xlabel=f"rank of the true action among {candidates}, 0 = best", ylabel="held-out steps"
    )
    left.legend()
    colours = (style.GREEN, style.ORANGE, style.GREY, *style.PALETTE)[: len(gap)]
    bars = right.bar(list(gap), list(gap.values()), color=colours, width=0.6)
    right.bar_label(bars, fmt="%.3f", fontsize=8)
    right.set_title("held-out loss (L1)")
    return figure


@drawn
def confusion(matrix: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Counts [true, predicted], shaded by the share of the true class."""
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = 2.4 + 0.42 * len(classes)
    figure, (axis,) = titled((size + 0.8, size), title)
    axis.grid(visible=False)
    shown = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        colour = style.PAPER if share[row, column] > 0.55 else style.INK
        axis.text(column, row, f"{count:g}", ha="center", va="center", fontsize=7, color=colour)
    axis.set_xticks(range(len(classes)), list(classes), rotation=45, ha="right", fontsize=8)
    axis.set_yticks(range(len(classes)), list(classes), fontsize=8)
    axis.set(xlabel="predicted", ylabel="true")
    figure.colorbar(shown, ax=axis, label="share of the true class", shrink=0.8)
    return figure


@drawn
def score_bars(
    scores: Mapping[str, tuple[float, float, float]], chance: float | None, unit: str, title: str
) -> Figure:
    """Scores with their intervals (value, low, high) beside each other, and the chance level."""
    values = np.array(list(scores.values()), dtype=float)
    errors = np.abs(values[:, 1:] - values[:, :1]).T
    figure, (axis,) = titled((1.5 * len(scores) + 2.2, 3.2), title)
    colours = [style.BLUE, *[style.GREY] * (len(scores) - 1)]
    axis.bar(
        list(scores), values[:, 0], 0.55, yerr=errors, color=colours, capsize=4, ecolor=style.INK
    )
    for at, (value, _, high) in enumerate(values):
        axis.text(at, high, f"{value:.3g}", ha="center", va="bottom", fontsize=8)
    if chance is not None:
        axis.axhline(chance, color=style.RED, linestyle="--", label=f"chance {chance:.3g}")
        axis.legend()
    axis.set_ylabel(unit)
    axis.margins(y=0.15)
    return figure


@drawn
def benchmark_bars(
    scores: Mapping[str, tuple[float, float, float]], chance: float | None,
    paper: tuple[str, float] | None, title: str, unit: str = "accuracy",
) -> Figure:  # fmt: skip
    """Scores with their intervals (value, low, high), the chance level, and a published number as a
    line with its label.
    """
    values = np.array(list(scores.values()), dtype=float)
    errors = np.abs(values[:, 1:] - values[:, :1]).T
    figure, (axis,) = titled((0.95 * len(scores) + 1.6, 3.6), title)
    kinds = [name.rpartition("\n")[2] for name in scores]
    colours = [style.BLUE if kind in ("pretrained", kinds[0]) else style.GREY for kind in kinds]
    axis.bar(
        list(scores), values[:, 0], 0.6, yerr=errors, color=colours, capsize=3, ecolor=style.INK
    )
    for at, (value, _, high) in enumerate(values):
        axis.text(at, high, f"{value:.3g}", ha="center", va="bottom", fontsize=7)
    if chance is not None:
        axis.axhline(chance, color=style.RED, linestyle="--", label=f"chance {chance:.3g}")
    if paper is not None:
        axis.axhline(
            paper[1], color=style.GREEN, linestyle=":", label=f"{paper[0]}: {paper[1]:.3g}"
        )
    axis.legend()
    axis.tick_params(axis="x", labelsize=7)
    axis.set(ylabel=unit, ylim=(0, 1.12))
    return figure


@drawn
def label_curves(
    curves: Mapping[tuple[str, str], Sequence[tuple[float, float, float, float]]],
    chance: float,
    title: str,
) -> Figure:
    """Accuracy over the number of labels, one line for every (readout, variant).

    A point of a line is (labels, value, low, high). Variants have colours, readouts have strokes.
    """
    figure, (axis,) = titled((7.4, 4.0), title)
    readouts, variants = (list(dict.fromkeys(names)) for names in zip(*curves, strict=True))
    for (readout, variant), points in curves.items():
        number = readouts.index(readout)
        labels, values, low, high = np.array(points, dtype=float).T
        # Side by side, or the intervals of one number of labels would hide each other.
        shift = 1 + 0.02 * (number - (len(readouts) - 1) / 2)
        axis.errorbar(
            labels * shift, values, np.abs([values - low, high - values]), marker="os^Dv"[number],
            linestyle=("-", "--", ":", "-.")[number % 4], color=style.PALETTE[
                variants.index(variant) % len(style.PALETTE)
            ], capsize=2, markersize=4, linewidth=1.4, label=f"{variant}, {readout}",
        )  # fmt: skip
    axis.axhline(chance, color=style.RED, linestyle="--", linewidth=1, label=f"chance {chance:.3g}")
    numbers = sorted({point[0] for points in curves.values() for point in points})
    axis.set_xscale("log")
    axis.set_xticks(numbers, [f"{number:,.0f}" for number in numbers])
    axis.minorticks_off()
    axis.set(xlabel="labelled clips", ylabel="accuracy", ylim=(0, 1))
    figure.legend(loc="outside right center", fontsize=7)
    return figure


@drawn
def energy_landscape(
    energy: np.ndarray, axes_cm: tuple[np.ndarray, np.ndarray], truth_cm: tuple[float, float]
) -> Figure:
    """Energy [Y, X] over two components of one action (cm), its minimum and the true action."""
    across, up = axes_cm
    figure, (axis,) = titled((5.4, 4.4), "Energy of one action: where the model sees the goal")
    axis.grid(visible=False)
    shown = axis.contourf(across, up, energy, levels=24, cmap="viridis")
    row, column = np.unravel_index(int(np.argmin(energy)), energy.shape)
    axis.plot(
        across[column],
        up[row],
        "o",
        color=style.PAPER,
        markeredgecolor=style.INK,
        markersize=9,
        label="lowest energy",
    )
    axis.plot(
        *truth_cm,
        "*",
        color=style.ORANGE,
        markeredgecolor=style.INK,
        markersize=14,
        label="true action",
    )
    axis.set(xlabel="action x (cm)", ylabel="action y (cm)", aspect="equal")
    axis.legend(loc="upper right", frameon=True)
    figure.colorbar(shown, ax=axis, label="energy (L1 in feature space)")
    return figure


@drawn
def arms_by_seed(
    panels: Mapping[str, Mapping[str, Sequence[float]]], chance: float | None, unit: str, title: str
) -> Figure:
    """Panel -> arm -> value of each seed: points, their mean as a bar, and the chance level."""
    arms = list(next(iter(panels.values())))
    size = (3.4 * len(panels) + 1.8, 0.34 * len(arms) + 1.5)
    figure, axes = titled(size, title, columns=len(panels))
    for axis, (name, values) in zip(axes, panels.items(), strict=True):
        for row, arm in enumerate(arms):
            mean = float(np.mean(values[arm]))
            axis.barh(row, mean, 0.62, color=style.BLUE if row == 0 else style.GREY)
            axis.plot(values[arm], [row] * len(values[arm]), "o", color=style.INK, markersize=3)
            axis.text(max(values[arm]), row, f"  {mean:.3f}", va="center", fontsize=8)
        if chance is not None:
            axis.axvline(chance, color=style.RED, linestyle="--", label=f"chance {chance:.3g}")
        axis.set_yticks(range(len(arms)), arms if axis is axes[0] else [""] * len(arms))
        axis.set(title=name, xlabel=unit)
        axis.invert_yaxis()
        axis.margins(x=0.18)
    if chance is not None:
        axes[0].legend(loc="lower right")
    return figure
