"""What a run leaves behind: report.json with all figures, report.md with the tables, and plots."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imagewarden_eval import judging

BREAKDOWN_RATE = 1e-3
_NO = "-"


def conditions(command: str, seed: int, **said: Any) -> dict[str, Any]:
    """Under what a run was made, for the top of its report."""
    return {
        "command": command,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "seed": seed,
        **said,
    }


def write(folder: Path, record: Mapping[str, Any], markdown: str) -> None:
    """Write report.json and report.md."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.md").write_text(markdown, encoding="utf-8")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def share(value: Mapping[str, Any] | None, *, bounds: bool = True) -> str:
    """A proportion for people: its value and, on demand, its 95% interval."""
    if value is None or value["value"] is None:
        return _NO
    text = f"{value['value']:.3f}"
    return f"{text} ({value['low']:.3f}-{value['high']:.3f})" if bounds else text


def rate_text(rate: float) -> str:
    """A rate as people write it."""
    return f"{rate:.0e}".replace("e-0", "e-")


def methods_table(methods: Sequence[Mapping[str, Any]], *, average_precision: bool = True) -> str:
    """A row a method: micro-AP, recall@1, recall at each rate."""
    rates = sorted({at["rate"] for one in methods for at in one["at"]}, reverse=True)
    precision = ["micro-AP", "micro-AP of best matches"] if average_precision else []
    columns = ["method", *precision, "right one first", *(f"recall at {rate_text(rate)}" for rate in rates)]
    rows = []
    for one in methods:
        row: list[object] = [one["method"]]
        if average_precision:
            row += [f"{one['micro_ap']:.3f}", f"{one['micro_ap_best_matches']:.3f}"]
        row.append(share(one["recall_first"], bounds=False))
        for rate in rates:
            at = judging.recall_of(one, rate)
            row.append(share(at["recall"]) if at else _NO)
        rows.append(row)
    return table(columns, rows)


def breakdown_table(methods: Sequence[Mapping[str, Any]], kind: str, rate: float) -> str:
    """A row a value of the kind, a column a method: recall at the rate."""
    with_rate = [(one, at) for one in methods if (at := judging.recall_of(one, rate)) is not None]
    values = list(dict.fromkeys(value for _, at in with_rate for value in at[f"by_{kind}"]))
    rows = []
    for value in values:
        cells = [at[f"by_{kind}"].get(value) for _, at in with_rate]
        count = next((cell["of"] for cell in cells if cell), 0)
        rows.append([value, count, *(share(cell, bounds=False) for cell in cells)])
    return table([kind, "queries", *(one["method"] for one, _ in with_rate)], rows)


def breakdown_rate(methods: Sequence[Mapping[str, Any]]) -> float | None:
    """The rate that breakdowns are stated at: 1e-3, or the least that the queries allow."""
    rates = sorted({at["rate"] for one in methods for at in one["at"]})
    return next((rate for rate in rates if rate >= BREAKDOWN_RATE), None)


def points_table(methods: Sequence[Mapping[str, Any]]) -> str:
    """A row a method and rate: the threshold, the alarms, and what they prove."""
    rows = []
    for one in methods:
        for at in one["at"]:
            threshold = "any" if at["threshold"] is None else f"{at['threshold']:.4g}"
            alarms = f"{at['false_alarms']} of {at['negative_queries']}"
            proven = f"{at['false_alarm_rate_proven_under']:.2e}"
            rows.append([one["method"], rate_text(at["rate"]), threshold, alarms, proven])
    return table(["method", "asked rate", "threshold", "false alarms", "proven under (95%)"], rows)


def shipped_text(shipped: Mapping[str, Any]) -> str:
    """What the shipped thresholds do, in a sentence."""
    limits = ", ".join(f"{signal.upper()} {value:g}" for signal, value in shipped["thresholds"].items())
    return (
        f"At the thresholds that a new bank has ({limits}): recall {share(shipped['recall'])}, "
        f"{shipped['false_alarms']} of {shipped['negative_queries']} queries without a copy raise an alarm "
        f"(proven under {shipped['false_alarm_rate_proven_under']:.2e} at 95%).\n"
    )


def head(title: str, record: Mapping[str, Any]) -> str:
    """The title, and under what the run was made."""
    said = record["conditions"]
    lines = [f"# {title}", "", f"`{said['command']}`", ""]
    lines += [f"- {key}: {value}" for key, value in said.items() if key != "command"]
    return "\n".join(lines) + "\n\n"


def copies_markdown(record: Mapping[str, Any]) -> str:
    """The report of `eval copies`."""
    methods = record["methods"]
    text = head("Copies", record)
    text += (
        f"{record['references']} references in one bank; {record['copies']} edited copies of them and "
        f"{record['negative_queries']} edited pictures that are not in it, each one CheckImage call.\n"
        "A rate is the share of queries without a copy that raise any alarm; recall counts the right reference at the "
        "threshold of that rate. Intervals are Wilson's, 95%.\n\n"
    )
    text += methods_table(methods) + "\n" + shipped_text(record["shipped"]) + "\n"
    if "pdq_at_31" in record:
        at = record["pdq_at_31"]
        text += (
            f"Plain PDQ at 31 bits: recall {share(at['recall'])}, {at['false_alarms']} false alarms in "
            f"{at['negative_queries']} queries.\n\n"
        )
    rate = breakdown_rate(methods)
    if rate is not None:
        text += f"## Recall by attack at {rate_text(rate)}\n\n{breakdown_table(methods, 'attack', rate)}\n"
    text += "## Thresholds\n\n" + points_table(methods) + "\n"
    seconds = record["check_seconds"]
    text += f"One check took {seconds['median'] * 1e3:.0f} ms (median), {seconds['p95'] * 1e3:.0f} ms (95%), "
    text += f"under {record['conditions'].get('callers', '?')} callers at once.\n\n## Attacks\n\n"
    text += table(["attack", "what is done"], list(record["attacks"].items()))
    if record["undecided_queries"]:
        text += "\n## Queries with a reason to be undecided\n\n"
        text += table(["reason", "queries"], list(record["undecided_queries"].items()))
    return text


def logos_markdown(record: Mapping[str, Any]) -> str:
    """The report of `eval logos`."""
    methods = record["methods"]
    text = head("Logos in photographs", record)
    text += (
        f"{record['brands']} brands, each registered once from one vector file; {record['scenes']} photographs with "
        f"one of them pasted in, {record['negative_queries']} without, each one CheckImage call.\n\n"
    )
    text += methods_table(methods) + "\n"
    for one in methods:
        found = one.get("found")
        if found:
            text += (
                f"- {one['method']} at {rate_text(found['rate'])}: right brand first in {share(found['brand_first'])} "
                f"of those found; median IoU {_median(found['median_iou'])} (where a box was answered: "
                f"{found['boxes']} of {found['queries']})\n"
            )
    text += "\n" + shipped_text(record["shipped"]) + "\n"
    for rate in sorted({at["rate"] for one in methods for at in one["at"]}, reverse=True):
        for kind, title in (("width", "width of the logo"), ("variant", "variant"), ("range", "range of widths")):
            text += f"## Recall by {title} at {rate_text(rate)}\n\n{breakdown_table(methods, kind, rate)}\n"
    return text + "## Thresholds\n\n" + points_table(methods)


def _median(value: float | None) -> str:
    return _NO if value is None else f"{value:.2f}"
