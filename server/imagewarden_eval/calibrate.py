"""`eval calibrate`: thresholds that keep the false alarms of ordinary pictures under a rate, as a policy for a bank."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagewarden import BankKind
from imagewarden_eval import logos_run, metrics, report
from imagewarden_eval.datasets import Photograph, find_photographs, groups, part, read_same_pictures, split
from imagewarden_eval.errors import EvaluationError
from imagewarden_eval.logo_files import collected
from imagewarden_eval.ordinary import plan, reader
from imagewarden_eval.progress import Progress
from imagewarden_eval.service import Answer, Service, in_order, patiently, serving, wait_for_model

BANK = "eval-calibrate"
PDQ_AT_MOST = 31
"""PDQ's authors recommend no more (Meta, 2019): few pictures would let it seem safe to go further."""

_BITS = 256


@dataclass(frozen=True)
class Options:
    """What a run is asked: the command's options."""

    images: tuple[Path, ...]
    out: Path
    command: str
    fpr: float = 1e-4
    banks: tuple[str, ...] = ()
    lower_thresholds: bool = False
    logos: tuple[Path, ...] = ()
    left_out_logos: tuple[Path, ...] = ()
    fitting: bool = False
    edits: int = 0
    exclude: tuple[str, ...] = ()
    same_pictures: Path | None = None
    references: int = 500
    model_base_path: Path | None = None
    model_address: str | None = None
    address: str | None = None
    seed: int = 1
    callers: int = 4
    quiet: bool = False


def run(options: Options) -> dict[str, Any]:
    """Check ordinary pictures, find the thresholds, and write them as a policy file; answers its content.

    Raises:
        EvaluationError: something it needs is missing; the message says what.
    """
    if not 0 < options.fpr < 1:
        raise EvaluationError(f"--fpr {options.fpr} is no rate; it is between 0 and 1, such as 1e-4")
    if options.address is not None and not options.banks:
        raise EvaluationError("--address needs the bank of that server to calibrate: --bank NAME")
    if options.address is None and options.banks:
        raise EvaluationError("--bank needs the server that has it: --address HOST:PORT")
    if options.address is not None and not options.lower_thresholds:
        raise EvaluationError(
            "a bank answers the scores of what matches alone, so its thresholds are lowered while the pictures are "
            "checked, its action is NOTE meanwhile, and both are put back in the end; say --lower-thresholds where "
            "that is no harm, as on a server over a copy of the state"
        )
    progress = Progress(quiet=options.quiet)
    photographs = find_photographs(options.images, options.exclude)
    if options.fitting:
        photographs = part(photographs, fitting=True)
    with serving(options.model_base_path, model_address=options.model_address, address=options.address) as service:
        if options.address is not None:
            with service.opened(options.banks):
                answers = _answers(service, photographs, list(options.banks), options, progress)
            against = f"{', '.join(options.banks)} of {options.address}"
        else:
            queries, against = _fill(service, options, photographs, progress)
            answers = _answers(service, queries, [BANK], options, progress)
    policy = calibrated(answers, options.fpr)
    policy["record"] = {
        **report.conditions(options.command, options.seed),
        "against": against,
        "images": ", ".join(str(one) for one in options.images),
        "edits": options.edits,
        **policy.pop("record"),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(policy, indent=2) + "\n", encoding="utf-8")
    return policy


def _fill(
    service: Service, options: Options, photographs: Sequence[Photograph], progress: Progress
) -> tuple[Sequence[Photograph], str]:
    """A bank of a held-out part of the pictures, or of logos; the pictures that are none of it, and what it is."""
    if options.logos:
        logos = collected(options.logos, options.left_out_logos, measured=not options.fitting)
        service.create_open_bank(BANK, BankKind.BRAND)
        wait_for_model(service, photographs[0].path.read_bytes())
        taken, refused = logos_run.register(service, logos, options.callers, progress, BANK)
        folders = ", ".join(map(str, options.logos))
        if not taken:
            raise EvaluationError(
                f"none of the {len(logos)} logos of {folders} was taken; the first: {next(iter(refused.values()))}"
            )
        return photographs, f"a bank of {len(taken)} logos of {folders}"
    pairs = read_same_pictures(options.same_pictures)
    parts = split(photographs, options.references, pairs, options.seed)
    service.create_open_bank(BANK, BankKind.BANNED)
    wait_for_model(service, parts.references[0].path.read_bytes())

    def add(one: Photograph) -> None:
        patiently(
            lambda request_id: service.client.add_image(BANK, one.path, external_id=one.name, request_id=request_id)
        )

    with progress.task("registering references", len(parts.references)) as step:
        for _ in in_order(add, parts.references, options.callers):
            step(1)
    joined = len(set(groups(pairs)))
    text = (
        f"a bank of {len(parts.references)} of the pictures; the others are no copies, by a list of {joined} that are"
    )
    return parts.others, text


def _answers(
    service: Service, photographs: Sequence[Photograph], banks: list[str], options: Options, progress: Progress
) -> list[Answer]:
    queries = plan(photographs, len(photographs) * (1 + options.edits))
    read = reader(photographs, options.seed)
    found: list[Answer] = []
    with progress.task("checking ordinary pictures", len(queries)) as step:
        for one in in_order(lambda query: service.check(read(query), banks), queries, options.callers):
            found.append(one)
            step(1)
    return found


def calibrated(answers: Sequence[Answer], rate: float) -> dict[str, Any]:
    """The policy and its record: for each signal the threshold that keeps its false alarms under the rate.

    None of the pictures is in the bank, so that every alarm is false. Thresholds are rounded to the safe side.

    Raises:
        EvaluationError: no signal said anything of any picture.
    """
    signals = sorted({name for one in answers for candidate in one.candidates.values() for name in candidate.scores})
    thresholds: dict[str, float] = {}
    said: dict[str, Any] = {}
    for signal in signals:
        if signal == "digest":
            continue
        scores = [_best(one, signal) for one in answers]
        point = metrics.operating_point(scores, rate)
        thresholds[signal] = _rounded(signal, point.threshold)
        alarms = sum(_reaches(signal, score, thresholds[signal]) for score in scores)
        said[signal] = {
            "highest": sorted((_shown(signal, one) for one in scores if one > -math.inf), reverse=signal != "pdq")[:5],
            "false_alarms": alarms,
            "proven_under": round(metrics.proven_rate(alarms, len(answers)), 6),
        }
    if not thresholds:
        raise EvaluationError("no signal of any entry said anything of any picture: is the bank empty?")
    alarms = sum(
        any(_reaches(signal, _best(one, signal), limit) for signal, limit in thresholds.items()) for one in answers
    )
    proven = metrics.proven_rate(alarms, len(answers))
    return {
        "thresholds": thresholds,
        "record": {
            "asked_rate": rate,
            "queries": len(answers),
            "signals": said,
            "false_alarms_of_any_signal": alarms,
            "proven_under": round(proven, 6),
            "note": (
                f"{alarms} alarms in {len(answers)} queries prove a rate under {proven:.2e} at 95%"
                + (
                    ""
                    if rate * len(answers) >= 1
                    else f"; {math.ceil(3 / rate):,} queries without any would prove {rate:g}"
                )
            ),
        },
    }


def _best(answer: Answer, signal: str) -> float:
    """The best of a signal over the candidates, more is more alike: PDQ's bits with a minus."""
    values = [one.scores[signal] for one in answer.candidates.values() if signal in one.scores]
    if not values:
        return -math.inf
    return -min(values) if signal == "pdq" else max(values)


def _shown(signal: str, score: float) -> float:
    return -score if signal == "pdq" else round(score, 4)


def _reaches(signal: str, score: float, threshold: float) -> bool:
    return score >= (-threshold if signal == "pdq" else threshold)


def _rounded(signal: str, threshold: float) -> float:
    """To the unit that people write, towards fewer matches."""
    if signal == "pdq":
        bits = math.ceil(threshold) if math.isfinite(threshold) else -_BITS
        return float(max(0, min(PDQ_AT_MOST, -bits)))
    if not math.isfinite(threshold) or threshold < -1e300:
        return 1.0  # nothing was ever found: any candidate would be new, and only a perfect one is let through
    if signal == "local":
        return float(math.ceil(threshold))
    return min(1.0, math.ceil(threshold * 1e4) / 1e4) if signal == "combined" else math.ceil(threshold * 1e3) / 1e3
