"""What a soak came to: figures by minute and by kind, what must hold, a plot and a JSON file."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tests.soak.tally import Tally, percentile

from imagewarden_eval.plots import figure_of, save

Series = Mapping[str, Sequence[tuple[float, float]]]

MOST_GROWTH = {"server memory": 2.0, "decoders memory": 2.0, "host memory": 2.0}
"""MiB a minute by which the least memory of each minute may grow over the last half.

The least: what a process uses for a moment goes up and down by more than any leak of twenty minutes.
"""

MOST_HANDLES = 4
"""So many more handles than in the second quarter a process may have in the last: some come and go with its work."""

_HANDLES = ("server handles", "host handles", "decoders handles")


def summed_up(tally: Tally, series: Series, minutes: float) -> dict[str, Any]:
    """All figures of a run."""
    latencies = tally.latencies()
    seconds = 60 * minutes
    return {
        "minutes": minutes,
        "machine": f"{platform.machine()}, {_processors()} processors, Python {platform.python_version()}",
        "errors": tally.failures,
        "errors_said": tally.errors,
        "answers": {kind: len(took) for kind, took in sorted(latencies.items())},
        "answers_a_minute": [
            sum(60 * minute <= when < 60 * (minute + 1) for took in latencies.values() for when, _ in took)
            for minute in range(round(minutes))
        ],
        "latency_ms": {
            kind: {
                name: round(1_000 * percentile([one for _, one in took], share), 1)
                for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
            }
            for kind, took in sorted(latencies.items())
        },
        "growth_mib_a_minute": {name: round(growth(series[name], seconds / 2), 3) for name in MOST_GROWTH},
        "more_handles": {name: more(series[name], seconds) for name in _HANDLES},
        "series": {name: [[round(when, 1), value] for when, value in values] for name, values in series.items()},
    }


def broken(figures: Mapping[str, Any]) -> list[str]:
    """What does not hold, in sentences."""
    found = [f"{figures['errors']} errors; the first: {figures['errors_said'][:3]}"] if figures["errors"] else []
    found += [
        f"{name} grows by {figures['growth_mib_a_minute'][name]:.2f} MiB a minute, and {most:g} is the most"
        for name, most in MOST_GROWTH.items()
        if figures["growth_mib_a_minute"][name] > most
    ]
    found += [
        f"{name}: {count} more than before, and {MOST_HANDLES} is the most"
        for name, count in figures["more_handles"].items()
        if count > MOST_HANDLES
    ]
    return found


def growth(values: Sequence[tuple[float, float]], since: float) -> float:
    """By how much a value's least of each minute grows a minute, by the straight line that fits best since a time."""
    least: dict[int, float] = {}
    for when, value in values:
        if when >= since:
            minute = int(when // 60)
            least[minute] = min(value, least.get(minute, value))
    return float(np.polyfit(list(least), list(least.values()), 1)[0]) if len(least) > 1 else 0.0


def more(values: Sequence[tuple[float, float]], seconds: float) -> int:
    """How many more there are in the last quarter than in the second one, by their medians."""
    second = [value for when, value in values if seconds / 4 <= when < seconds / 2]
    last = [value for when, value in values if when >= 3 * seconds / 4]
    return round(float(np.median(last) - np.median(second))) if second and last else 0


def write(figures: Mapping[str, Any], tally: Tally, folder: Path) -> None:
    """The JSON file and the plot."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "soak.json").write_text(json.dumps(figures, indent=1) + "\n")
    draw(figures, tally.latencies(), folder / "soak.png")


def draw(figures: Mapping[str, Any], latencies: Mapping[str, Sequence[tuple[float, float]]], path: Path) -> None:
    """Memory, handles and threads, answers a minute, and latencies, over the minutes of the run."""
    series: Series = figures["series"]
    figure, axes = figure_of(9, 10, rows=4)
    for name in MOST_GROWTH:
        _line(axes[0], series, name)
    axes[0].set_ylabel("memory, MiB")
    for name in (*_HANDLES, "server threads", "host threads"):
        _line(axes[1], series, name)
    axes[1].set_ylabel("handles, threads")
    counts = figures["answers_a_minute"]
    axes[2].bar([minute + 0.5 for minute in range(len(counts))], counts, width=0.9, label="answers a minute", alpha=0.6)
    axes[2].set_ylabel(f"answers ({figures['errors']} errors)")
    for kind in ("check banned", "check copy", "check new", "ban and unban"):
        took = latencies.get(kind, [])
        axes[3].plot(
            [when / 60 for when, _ in took], [1_000 * one for _, one in took], ".", ms=3, label=kind, alpha=0.5
        )
    axes[3].set_yscale("log")
    axes[3].set_ylabel("milliseconds")
    axes[3].set_xlabel("minutes")
    for one in axes:
        one.set_xlim(0, figures["minutes"])
        one.grid(alpha=0.3)
        one.legend(fontsize=8, loc="upper right")
    for one in axes[:2]:
        one.set_ylim(bottom=0)
    save(figure, path)


def _line(axes: Any, series: Series, name: str) -> None:
    values = series[name]
    axes.plot([when / 60 for when, _ in values], [value for _, value in values], lw=1, label=name)


def _processors() -> int:
    text = Path("/proc/cpuinfo").read_text()
    return text.count("\nprocessor\t") + text.startswith("processor\t")
