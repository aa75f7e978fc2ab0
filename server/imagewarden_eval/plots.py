"""Plots of a run, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imagewarden_eval import judging, metrics
from imagewarden_eval.judging import Method
from imagewarden_eval.report import rate_text

_DPI = 110
_MARKS = "osD^vP*X<>"


def figure_of(width: float, height: float, rows: int = 1) -> Any:
    """A figure of so many inches and its axes; of several rows, which share what is below, an array of them."""
    import matplotlib as mpl  # noqa: PLC0415 -- it takes a second, and the help needs none

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 -- the same

    return plt.subplots(rows, sharex=rows > 1, figsize=(width, height), dpi=_DPI, layout="constrained")


def save(figure: Any, path: Path) -> None:
    """Write a figure to a file, and forget it."""
    from matplotlib import pyplot as plt  # noqa: PLC0415 -- loaded by `figure_of` already

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def recall_by(methods: Sequence[Mapping[str, Any]], kind: str, rate: float, path: Path) -> None:
    """Recall at a rate by kind: a row a value, a mark a method, the first method's 95% interval as a line."""
    with_rate = [(one["method"], at[f"by_{kind}"]) for one in methods if (at := judging.recall_of(one, rate))]
    if not with_rate:
        return
    values = list(dict.fromkeys(value for _, found in with_rate for value in found))
    figure, axes = figure_of(8.5, 1.6 + 0.26 * len(values))
    for number, (name, found) in enumerate(with_rate):
        known = [(place, found[value]) for place, value in enumerate(values) if value in found]
        places = [place for place, _ in known]
        if number == 0:
            axes.hlines(
                places, [one["low"] for _, one in known], [one["high"] for _, one in known], color="C0", lw=5, alpha=0.3
            )
        mark, size = _MARKS[number % len(_MARKS)], 9 if number == 0 else 6
        axes.plot([one["value"] for _, one in known], places, mark, ms=size, label=name, alpha=0.85)
    axes.set_yticks(range(len(values)), values)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(f"recall at {rate_text(rate)} false alarms per query")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    save(figure, path)


def precision_recall_curves(methods: Sequence[Method], truths: Sequence[str | None], path: Path) -> None:
    """Precision over recall of each method, over all predictions together."""
    figure, axes = figure_of(7, 5)
    for method in methods:
        precisions, recalls = metrics.precision_recall(method.rankings, truths)
        area = metrics.micro_average_precision(method.rankings, truths)
        axes.plot([0.0, *recalls], [1.0, *precisions], label=f"{method.name}: {area:.3f}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.grid(alpha=0.3)
    axes.legend(title="micro-AP", fontsize=8)
    save(figure, path)


def false_alarm_curves(methods: Sequence[Method], truths: Sequence[str | None], path: Path) -> None:
    """Recall over false alarms per query, logarithmic, as far as the queries resolve it."""
    figure, axes = figure_of(7, 5)
    for method in methods:
        negatives = [
            metrics.best_score(one) for one, truth in zip(method.rankings, truths, strict=True) if truth is None
        ]
        rates = [count / len(negatives) for count in range(1, len(negatives) // 5 + 1)]
        shown = rates[:50] + rates[50::10]
        points = [metrics.operating_point(negatives, rate) for rate in shown]
        recalls = [metrics.recall_at(method.rankings, truths, point.threshold).value for point in points]
        axes.plot(shown, recalls, label=method.name)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("false alarms per query")
    axes.set_ylabel("recall")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save(figure, path)
