"""One run of `eval copies`, from folders to a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagewarden_eval import copies, judging, metrics, panels, plots, report
from imagewarden_eval.attacks import ATTACKS
from imagewarden_eval.baselines import Baseline, Pdq, PHash, Sscd, Textbook
from imagewarden_eval.copies import Asked
from imagewarden_eval.datasets import Photograph, find_photographs, part, read_same_pictures, split
from imagewarden_eval.errors import EvaluationError
from imagewarden_eval.judging import Method
from imagewarden_eval.progress import Progress
from imagewarden_eval.service import serving

_PANEL_ROWS = 8
_PAIRS = 40


@dataclass(frozen=True)
class Options:
    """What a run is asked: the command's options."""

    images: tuple[Path, ...]
    out: Path
    command: str
    exclude: tuple[str, ...] = ()
    fitting_share: int = 6
    same_pictures: Path | None = None
    references: int = 500
    attacks_each: int = 6
    negatives: int | None = None
    sscd: Path | None = None
    baselines: bool = True
    model_base_path: Path | None = None
    model_address: str | None = None
    address: str | None = None
    seed: int = 1
    callers: int = 4
    cache: Path | None = None
    quiet: bool = False
    fitting: bool = False


def photographs(options: Options, *, fitting: bool) -> list[Photograph]:
    """The pictures of one part.

    Raises:
        EvaluationError: there are none.
    """
    found = part(find_photographs(options.images, options.exclude), fitting=fitting, share=options.fitting_share)
    if not found:
        raise EvaluationError("no pictures are left in the part that is asked for; name more folders")
    return found


def _baselines(options: Options, model_address: str | None) -> list[Baseline]:
    if not options.baselines:
        return []
    chosen: list[Baseline] = [PHash(), Pdq()]
    if model_address is not None:
        chosen.append(Textbook(model_address))
    if options.sscd is not None:
        chosen.append(Sscd(options.sscd))
    return chosen


def run(options: Options) -> dict[str, Any]:
    """Make a run and write its report; answers the record.

    Raises:
        EvaluationError: something it needs is missing; the message says what.
    """
    progress = Progress(quiet=options.quiet)
    pictures = photographs(options, fitting=False)
    parts = split(pictures, options.references, read_same_pictures(options.same_pictures), options.seed)
    queries = copies.plan(parts, options.attacks_each, options.negatives)
    progress.say(
        f"{len(pictures)} pictures: {len(parts.references)} references, {len(parts.others)} others; "
        f"{len(queries)} queries"
    )
    with serving(options.model_base_path, model_address=options.model_address, address=options.address) as service:
        asked = copies.ask(service, parts, queries, options.seed, options.callers, progress)
        others, vectors = copies.baseline_methods(
            asked, _baselines(options, service.model_address), options.cache or options.out / "cache", progress
        )
    methods = [*judging.own_methods(asked.answers), *others]
    record = {
        "kind": "copies",
        "conditions": report.conditions(
            options.command,
            options.seed,
            images=", ".join(str(one) for one in options.images),
            pictures=len(pictures),
            left_out=", ".join(options.exclude) or "nothing",
            fitting_part=f"one picture in {options.fitting_share}, by the SHA-256 of its name; not measured",
            callers=options.callers,
        ),
        "pictures": len(pictures),
        **copies.judge(asked, methods),
    }
    pairs = copies.suspects(asked, vectors)
    record["suspect_pairs"] = [
        {"picture": one.picture.name, "reference": one.reference.name, "attack": one.attack, "why": one.why}
        for one in pairs
    ]
    report.write(options.out, record, report.copies_markdown(record))
    with (options.out / "answers.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in copies.lines(asked))
    _draw(options.out, asked, methods, record, pairs)
    return record


def _draw(
    out: Path, asked: Asked, methods: Sequence[Method], record: dict[str, Any], pairs: Sequence[copies.Suspect]
) -> None:
    rate = report.breakdown_rate(record["methods"])
    if rate is not None:
        plots.recall_by(record["methods"], "attack", rate, out / "recall-by-attack.png")
    plots.precision_recall_curves(methods, asked.truths, out / "precision-recall.png")
    plots.false_alarm_curves(methods, asked.truths, out / "recall-over-false-alarms.png")
    rows = [
        [
            panels.Tile(one.picture.path, one.picture.name),
            panels.Tile(one.reference.path, f"{one.reference.name}\n{one.why}"),
        ]
        for one in pairs[:_PAIRS]
    ]
    for begin in range(0, len(rows), _PANEL_ROWS):
        panels.save(rows[begin : begin + _PANEL_ROWS], out / "suspects" / f"{begin // _PANEL_ROWS:02}.jpg")
    if rate is not None:
        at = judging.recall_of(record["methods"][0], rate)
        threshold = -math.inf if at is None or at["threshold"] is None else at["threshold"]
        panels.save(best_by_attack(asked, methods[0], threshold), out / "panels" / "found.jpg")
        panels.save(missed(asked, methods[0], threshold), out / "panels" / "missed.jpg")
    panels.save(worst_alarms(asked, methods[0]), out / "panels" / "false-alarms.jpg")


def _row(asked: Asked, method: Method, number: int) -> list[panels.Tile]:
    """The query, the right reference, and what ranked first, each with its score."""
    query, ranking = asked.queries[number], method.rankings[number]
    paths = {one.name: one.path for one in asked.references}
    ranked = sorted(ranking.items(), key=lambda pair: -pair[1])[:3]
    shown = query.truth if query.truth is not None else (ranked[0][0] if ranked else None)
    candidate = asked.answers[number].candidates.get(shown) if shown is not None else None
    box = candidate.box if candidate is not None else None
    tiles = [panels.Tile(asked.files[number], f"{query.attack.name}\n{query.picture.name}", box)]
    if query.truth is not None:
        score = ranking.get(query.truth)
        text = "not found" if score is None else f"{score:.3f}"
        tiles.append(panels.Tile(query.picture.path, f"right: {text}\n{query.truth}"))
    tiles += [panels.Tile(paths[name], f"{rank}: {score:.3f}\n{name}") for rank, (name, score) in enumerate(ranked, 1)]
    return tiles


def best_by_attack(asked: Asked, method: Method, threshold: float) -> list[list[panels.Tile]]:
    """One found query of each strong attack, with what it ranked."""
    rows = []
    for attack in ATTACKS[:_PANEL_ROWS]:
        for number, query in enumerate(asked.queries):
            if query.attack.name == attack.name and metrics.found_at(method.rankings[number], query.truth, threshold):
                rows.append(_row(asked, method, number))
                break
    return rows


def missed(asked: Asked, method: Method, threshold: float) -> list[list[panels.Tile]]:
    """The copies that are not found, those furthest from it first, one an attack."""
    numbers = [
        number
        for number, query in enumerate(asked.queries)
        if query.truth is not None and not metrics.found_at(method.rankings[number], query.truth, threshold)
    ]
    numbers.sort(key=lambda number: method.rankings[number].get(asked.queries[number].truth or "", -math.inf))
    first: dict[str, int] = {}
    for number in numbers:
        first.setdefault(asked.queries[number].attack.name, number)
    chosen = [*first.values(), *(number for number in numbers if number not in first.values())][:_PANEL_ROWS]
    return [_row(asked, method, number) for number in chosen]


def worst_alarms(asked: Asked, method: Method) -> list[list[panels.Tile]]:
    """The queries without a copy that score highest."""
    numbers = [number for number, query in enumerate(asked.queries) if query.truth is None and method.rankings[number]]
    numbers.sort(key=lambda number: -metrics.best_score(method.rankings[number]))
    return [_row(asked, method, number) for number in numbers[:_PANEL_ROWS]]
