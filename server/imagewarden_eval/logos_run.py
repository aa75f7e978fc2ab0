"""One run of `eval logos`, from folders to a report."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagewarden import BankKind, InvalidRequest
from imagewarden_eval import judging, metrics, panels, plots, report
from imagewarden_eval.datasets import find_photographs, part
from imagewarden_eval.errors import EvaluationError
from imagewarden_eval.judging import Method
from imagewarden_eval.logo_files import LogoFile, chosen, read_logos
from imagewarden_eval.logo_scenes import Drawn, Scene, make, plan
from imagewarden_eval.progress import Progress
from imagewarden_eval.service import Answer, Service, in_order, patiently, serving, wait_for_model

BANK = "eval-logos"
RATES = (1e-2, 1e-3)
_PANEL_ROWS = 8
_WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Options:
    """What a run is asked: the command's options."""

    images: tuple[Path, ...]
    logos: Path
    out: Path
    command: str
    redrawn: Path | None = None
    brands: int = 0
    negatives: int = 1_500
    exclude: tuple[str, ...] = ()
    fitting_share: int = 6
    model_base_path: Path | None = None
    model_address: str | None = None
    address: str | None = None
    seed: int = 1
    callers: int = 4
    quiet: bool = False
    fitting: bool = False
    widths: tuple[float, ...] = (0.10, 0.15, 0.25, 0.40, 0.60)


@dataclass(frozen=True)
class Asked:
    """What a run of the product gave, scene by scene."""

    scenes: tuple[Scene, ...]
    drawn: tuple[Drawn, ...]
    answers: tuple[Answer, ...]
    shipped: dict[str, float]
    refused: dict[str, str]
    brands: int
    seconds: float

    @property
    def truths(self) -> list[str | None]:
        """The right brand of each scene."""
        return [None if one.logo is None else one.logo.brand for one in self.scenes]


def register(
    service: Service, logos: Sequence[LogoFile], callers: int, progress: Progress, bank: str = BANK
) -> tuple[list[LogoFile], dict[str, str]]:
    """Register each logo once, from its one file; those that were taken, and why others were refused."""

    def one(logo: LogoFile) -> str:
        try:
            patiently(
                lambda request_id: service.client.register_logo(
                    bank, logo.brand, [logo.svg], external_id=logo.brand, request_id=request_id
                )
            )
        except InvalidRequest as error:
            return error.message
        return ""

    taken, refused = [], {}
    with progress.task("registering logos", len(logos)) as step:
        for logo, problem in zip(logos, in_order(one, logos, callers), strict=True):
            step(1)
            if problem:
                refused[logo.brand] = problem
            else:
                taken.append(logo)
    return taken, refused


def ask(service: Service, options: Options, progress: Progress) -> Asked:
    """Register the logos and send every scene, through the API alone.

    Raises:
        EvaluationError: there are no photographs, or no logo was taken.
    """
    photographs = part(
        find_photographs(options.images, options.exclude), fitting=options.fitting, share=options.fitting_share
    )
    logos = chosen(read_logos(options.logos, options.redrawn, measured=not options.fitting), options.brands)
    if not photographs or not logos:
        raise EvaluationError(
            f"{len(photographs)} photographs and {len(logos)} brands are left in the part that is asked for; name more"
        )
    shipped = service.create_open_bank(BANK, BankKind.BRAND)
    wait_for_model(service, photographs[0].path.read_bytes())
    taken, refused = register(service, logos, options.callers, progress)
    if not taken:
        raise EvaluationError(f"no logo was taken; the first was refused: {next(iter(refused.values()))}")
    scenes = plan(taken, photographs, options.negatives, options.seed, options.widths)

    def send(scene: Scene) -> tuple[Drawn, Answer]:
        drawn = make(scene, options.seed)
        return drawn, service.check(drawn.data, [BANK])

    begin = time.perf_counter()
    found: list[tuple[Drawn, Answer]] = []
    with progress.task("checking scenes", len(scenes)) as step:
        for one in in_order(send, scenes, options.callers):
            found.append(one)
            step(1)
    return Asked(
        tuple(scenes),
        tuple(drawn for drawn, _ in found),
        tuple(answer for _, answer in found),
        shipped,
        refused,
        len(taken),
        time.perf_counter() - begin,
    )


def judge(asked: Asked, methods: Sequence[Method]) -> dict[str, Any]:
    """All figures of a run, as JSON has them."""
    truths = asked.truths
    kinds = {
        "width": [f"{one.width:.0%}" for one in asked.scenes],
        "variant": [one.variant for one in asked.drawn],
        "range": ["25% and more" if one.width >= 0.25 else f"{one.width:.0%}" for one in asked.scenes],
    }
    found = []
    for method in methods:
        judgement = judging.judged(method, truths, kinds, RATES)
        judgement["found"] = _found(asked, method, judgement)
        found.append(judgement)
    negatives = sum(truth is None for truth in truths)
    seconds = sorted(one.seconds for one in asked.answers)
    return {
        "brands": asked.brands,
        "refused": asked.refused,
        "scenes": len(truths) - negatives,
        "negative_queries": negatives,
        "methods": found,
        "shipped": judging.at_thresholds(asked.answers, truths, asked.shipped),
        "check_seconds": {
            "median": round(seconds[len(seconds) // 2], 4),
            "p95": round(seconds[len(seconds) * 19 // 20], 4),
        },
        "queries_per_second": round(len(truths) / max(asked.seconds, 1e-9), 2),
    }


def _found(asked: Asked, method: Method, judgement: dict[str, Any]) -> dict[str, Any] | None:
    """Of the logos found at the greatest rate: right brand first, and how well the box fits.

    A match without a box stands for the whole picture.
    """
    if not judgement["at"]:
        return None
    at = judgement["at"][0]
    threshold = -math.inf if at["threshold"] is None else at["threshold"]
    first = boxes = total = 0
    overlaps: list[float] = []
    for number, truth in enumerate(asked.truths):
        ranking = method.rankings[number]
        if truth is None or not metrics.found_at(ranking, truth, threshold):
            continue
        total += 1
        first += metrics.ranks_first(ranking, truth)
        answered, right = asked.answers[number].candidates[truth].box, asked.drawn[number].box
        boxes += answered is not None
        overlaps.append(metrics.intersection_over_union(answered or _WHOLE, right or _WHOLE))
    return {
        "rate": at["rate"],
        "queries": total,
        "brand_first": judging.interval(metrics.wilson(first, total)),
        "boxes": boxes,
        "median_iou": round(statistics.median(overlaps), 4) if overlaps else None,
    }


def run(options: Options) -> dict[str, Any]:
    """Make a run and write its report; answers the record.

    Raises:
        EvaluationError: something it needs is missing; the message says what.
    """
    progress = Progress(quiet=options.quiet)
    with serving(options.model_base_path, model_address=options.model_address, address=options.address) as service:
        asked = ask(service, options, progress)
    methods = judging.own_methods(asked.answers)
    record = {
        "kind": "logos",
        "conditions": report.conditions(
            options.command,
            options.seed,
            images=", ".join(str(one) for one in options.images),
            logos=str(options.logos),
            redrawn=str(options.redrawn or "none"),
            brands_measured="one brand in 4, by the SHA-256 of its word; one file each, NAME-icon where there is one",
            photographs="longer side 640 px, with a logo and without; JPEG 40 to 90",
            logo="turned up to 15 degrees, corners up to 8% inwards, half of them covered by up to 20%",
            variants="colour 50%, grey 20%, one colour 15%, redrawn by simple-icons 15% (colour where it has none)",
            callers=options.callers,
        ),
        **judge(asked, methods),
    }
    report.write(options.out, record, report.logos_markdown(record))
    for rate in RATES:
        for kind in ("width", "variant"):
            plots.recall_by(
                record["methods"], kind, rate, options.out / f"recall-by-{kind}-{report.rate_text(rate)}.png"
            )
    plots.false_alarm_curves(methods, asked.truths, options.out / "recall-over-false-alarms.png")
    _draw(options.out, asked, methods[0], record["methods"][0])
    return record


def _draw(out: Path, asked: Asked, method: Method, judgement: dict[str, Any]) -> None:
    at = judgement["at"][0] if judgement["at"] else None
    threshold = -math.inf if at is None or at["threshold"] is None else at["threshold"]
    found, missed, alarms = [], [], []
    for number, truth in enumerate(asked.truths):
        if truth is None:
            alarms.append(number)
        elif metrics.found_at(method.rankings[number], truth, threshold):
            found.append(number)
        else:
            missed.append(number)
    alarms.sort(key=lambda number: -metrics.best_score(method.rankings[number]))
    missed.sort(key=lambda number: -asked.scenes[number].width)
    for name, numbers in (("found", _spread(found)), ("missed", _spread(missed)), ("false-alarms", alarms)):
        tiles = [_tile(asked, method, number) for number in numbers[: _PANEL_ROWS * 4]]
        rows = [tiles[begin : begin + 4] for begin in range(0, len(tiles), 4)]
        panels.save(rows, out / "panels" / f"{name}.jpg")


def _spread(numbers: Sequence[int]) -> list[int]:
    """As many as the panel takes, evenly over all."""
    step = max(1, len(numbers) // (_PANEL_ROWS * 4))
    return list(numbers[::step])


def _tile(asked: Asked, method: Method, number: int) -> panels.Tile:
    scene, drawn, ranking = asked.scenes[number], asked.drawn[number], method.rankings[number]
    truth = None if scene.logo is None else scene.logo.brand
    first = max(ranking, key=lambda name: ranking[name]) if ranking else "nothing"
    shown = first if truth is None else truth
    candidate = asked.answers[number].candidates.get(shown)
    score = ranking.get(shown)
    text = f"{truth or 'no logo'} {scene.width:.0%} {drawn.variant}" if truth else "no logo"
    text += f"\n{'-' if score is None else f'{score:.2f}'}, first: {first}"
    return panels.Tile(drawn.data, text, candidate.box if candidate else None, drawn.box)
