"""`eval everyday`: a bank of many pictures and logos, ordinary pictures that show none of them, the shipped thresholds.

How many of them raise an alarm, and how long a check takes beside the textbook descriptor of the same picture.
"""

from __future__ import annotations

import io
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagewarden import BankKind, CheckResult, Match
from imagewarden_eval import logos_run, metrics, report
from imagewarden_eval.baselines import Textbook, opened
from imagewarden_eval.datasets import Photograph, find_photographs, part, read_same_pictures, split
from imagewarden_eval.errors import EvaluationError
from imagewarden_eval.logo_files import LogoFile, collected
from imagewarden_eval.ordinary import Query, plan, reader
from imagewarden_eval.progress import Progress
from imagewarden_eval.service import Service, in_order, patiently, serving, wait_for_model

PICTURES, LOGOS = "pictures", "logos"
UPLOAD_SIDE = 1_280
"""The longer side of a picture as people upload it, in pixels."""

_WARM_UP = 10


@dataclass(frozen=True)
class Options:
    """What a run is asked: the command's options."""

    images: tuple[Path, ...]
    logos: tuple[Path, ...]
    out: Path
    command: str
    left_out_logos: tuple[Path, ...] = ()
    exclude: tuple[str, ...] = ()
    fitting_share: int = 6
    same_pictures: Path | None = None
    references: int = 1_000
    brands: int = 300
    queries: int = 3_000
    timed: int = 100
    rounds: int = 3
    model_base_path: Path | None = None
    seed: int = 1
    callers: int = 4
    quiet: bool = False


def run(options: Options) -> dict[str, Any]:
    """Make a run and write its report; answers the record.

    Raises:
        EvaluationError: something it needs is missing; the message says what.
    """
    progress = Progress(quiet=options.quiet)
    pictures = part(find_photographs(options.images, options.exclude), fitting=False, share=options.fitting_share)
    parts = split(pictures, options.references, read_same_pictures(options.same_pictures), options.seed)
    queries = plan(parts.others, options.queries)
    logos = collected(options.logos, options.left_out_logos, options.brands)
    with serving(options.model_base_path) as service:
        brands = _register(service, parts.references, logos, options, progress)
        alarms = _alarms(service, parts.others, queries, options, progress)
        costs = {
            name: _cost(service, parts.others[: options.timed], len(parts.references), side, options.rounds, progress)
            for name, side in (("of their own size", None), (f"{UPLOAD_SIDE} pixels wide", UPLOAD_SIDE))
        }
    record = {
        "kind": "everyday",
        "conditions": report.conditions(
            options.command,
            options.seed,
            images=", ".join(str(one) for one in options.images),
            left_out=", ".join(options.exclude) or "nothing",
            logos=", ".join(map(str, options.logos)),
            left_out_logos=", ".join(map(str, options.left_out_logos)) or "none",
            callers=f"{options.callers} for the alarms, one for the times",
        ),
        "pictures": len(parts.references),
        "logos": brands,
        "ordinary": alarms,
        "cost": costs,
    }
    report.write(options.out, record, markdown(record))
    return record


def _register(
    service: Service,
    references: Sequence[Photograph],
    logos: Sequence[LogoFile],
    options: Options,
    progress: Progress,
) -> int:
    service.client.create_bank(PICTURES, BankKind.BANNED)
    service.client.create_bank(LOGOS, BankKind.BRAND)
    wait_for_model(service, references[0].path.read_bytes())

    def add(one: Photograph) -> None:
        patiently(
            lambda request_id: service.client.add_image(PICTURES, one.path, external_id=one.name, request_id=request_id)
        )

    with progress.task("registering pictures", len(references)) as step:
        for _ in in_order(add, references, options.callers):
            step(1)
    taken, _ = logos_run.register(service, logos, options.callers, progress, LOGOS)
    return len(taken)


def _alarms(
    service: Service, others: Sequence[Photograph], queries: Sequence[Query], options: Options, progress: Progress
) -> dict[str, Any]:
    read = reader(others, options.seed)

    def check(query: Query) -> CheckResult:
        data = read(query)
        return patiently(lambda _: service.client.check(data))

    found: list[dict[str, Any]] = []
    by: Counter[str] = Counter()
    undecided = 0
    with progress.task("checking ordinary pictures", len(queries)) as step:
        for query, answer in zip(queries, in_order(check, queries, options.callers), strict=True):
            step(1)
            undecided += bool(answer.undecided_reasons)
            if answer.matches:
                first = answer.matches[0]
                by[f"{first.bank.removeprefix('banks/')}, {first.signal.name}"] += 1
                found.append({"picture": query.name, "matches": [_said(one) for one in answer.matches]})
    return {
        "queries": len(queries),
        "edited": sum(one.attack is not None for one in queries),
        "undecided": undecided,
        "alarms": len(found),
        "rate": round(len(found) / len(queries), 6),
        "proven_under": round(metrics.proven_rate(len(found), len(queries)), 6),
        "by": dict(by.most_common()),
        "each": found,
    }


def _said(match: Match) -> dict[str, Any]:
    """A match with all that was compared of it, so that other thresholds can be tried on a report afterwards."""
    return {
        "entry": match.external_id,
        "bank": match.bank,
        "signal": match.signal.name,
        "score": round(match.score, 4),
        "evidence": {one.signal.name: round(one.value, 6) for one in match.evidence},
    }


def uploaded(path: Path, side: int | None, number: int) -> bytes:
    """A picture as a JPEG file, scaled to what people upload; by its number another file of other pixels.

    A server knows a picture that it has seen, and what it costs then is not what is measured.
    """
    picture = opened(path.read_bytes())
    if side is not None:
        scale = side / max(picture.size)
        size = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90 - number)
    return buffer.getvalue()


def _cost(
    service: Service,
    pictures: Sequence[Photograph],
    entries: int,
    side: int | None,
    rounds: int,
    progress: Progress,
) -> dict[str, Any]:
    """Milliseconds a check takes, and the textbook descriptor with a search among as many, by turns, one at a time."""
    if service.model_address is None:
        raise EvaluationError("the textbook descriptor needs the model host's address")
    textbook = Textbook(service.model_address)
    warm = [uploaded(one.path, side, rounds) for one in pictures[:_WARM_UP]]
    stored = textbook.vectors([opened(warm[0])])
    chance = np.random.default_rng(1)
    bank = chance.normal(size=(entries, stored.shape[1])).astype(np.float32)
    stages: dict[str, list[float]] = {}

    def ours(data: bytes) -> float:
        begin = time.perf_counter()
        answer = service.client.check(data)
        seconds = time.perf_counter() - begin
        for one in answer.timings:
            stages.setdefault(one.stage, []).append(one.duration.total_seconds())
        return seconds

    def theirs(data: bytes) -> float:
        begin = time.perf_counter()
        textbook.similarity(textbook.vectors([opened(data)]), bank).max()
        return time.perf_counter() - begin

    for data in warm:
        ours(data)
        theirs(data)
    stages.clear()
    times: dict[str, list[list[float]]] = {"check": [], "textbook": []}
    with progress.task("timing checks", rounds * len(pictures)) as step:
        for turn in range(rounds):
            check, text = [], []
            files = [uploaded(one.path, side, turn) for one in pictures]
            for number, data in enumerate(files):
                # By turns, and each as often first as second.
                if number % 2:
                    check.append(ours(data))
                    text.append(theirs(data))
                else:
                    text.append(theirs(data))
                    check.append(ours(data))
                step(1)
            times["check"].append(check)
            times["textbook"].append(text)
    ratios = sorted(
        statistics.median(one) / statistics.median(two)
        for one, two in zip(times["check"], times["textbook"], strict=True)
    )
    medians = {name: statistics.median(value for part_ in rows for value in part_) for name, rows in times.items()}
    return {
        "pictures": len(pictures),
        "rounds": rounds,
        "check_ms": round(1e3 * medians["check"], 1),
        "textbook_ms": round(1e3 * medians["textbook"], 1),
        "ratio": round(medians["check"] / medians["textbook"], 3),
        "ratio_by_round": [round(one, 3) for one in ratios],
        "stages_ms": {name: round(1e3 * statistics.median(took), 1) for name, took in stages.items()},
    }


def markdown(record: dict[str, Any]) -> str:
    """The report for people."""
    return "\n".join(_lines(record)) + "\n"


def _lines(record: dict[str, Any]) -> Iterator[str]:
    ordinary = record["ordinary"]
    yield "# Ordinary pictures against a bank of many"
    yield ""
    yield f"`{record['conditions']['command']}`"
    yield ""
    yield (
        f"{record['pictures']:,} banned pictures and {record['logos']:,} logos, at the thresholds that new banks have. "
        f"{ordinary['queries']:,} ordinary pictures that show none of them, {ordinary['edited']:,} of them edited: "
        f"{ordinary['alarms']} alarms, a rate of {ordinary['rate']:.2e} (under {ordinary['proven_under']:.2e} at 95%); "
        f"{ordinary['undecided']} checks had a signal that said nothing."
    )
    if ordinary["each"]:
        yield ""
        yield report.table(
            ["picture", "matches", "signal", "score", "evidence"],
            [
                [
                    one["picture"],
                    match["entry"],
                    match["signal"],
                    match["score"],
                    ", ".join(f"{signal} {value:g}" for signal, value in match["evidence"].items()),
                ]
                for one in ordinary["each"]
                for match in one["matches"]
            ],
        )
    yield ""
    yield report.table(
        ["pictures", "a check, ms", "textbook, ms", "ratio", "by round"],
        [
            [
                name,
                one["check_ms"],
                one["textbook_ms"],
                one["ratio"],
                ", ".join(f"{value:.2f}" for value in one["ratio_by_round"]),
            ]
            for name, one in record["cost"].items()
        ],
    )
    yield ""
    for name, one in record["cost"].items():
        stages = ", ".join(f"{stage} {took}" for stage, took in one["stages_ms"].items())
        yield f"- {name}, median of each stage in ms: {stages}"
