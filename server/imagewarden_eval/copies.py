"""`eval copies`: edited copies of registered pictures, and edited pictures of others, sent through CheckImage."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagewarden import BankKind
from imagewarden_eval import judging, metrics
from imagewarden_eval.attacks import ATTACKS, BY_NAME, Attack, attacked
from imagewarden_eval.baselines import Baseline, Vectors, described, rankings
from imagewarden_eval.datasets import Photograph, Split
from imagewarden_eval.progress import Progress
from imagewarden_eval.service import Answer, Service, in_order, patiently, wait_for_model

BANK = "eval-copies"
PDQ_POINT = 1 - 31 / 256
"""PDQ at the 31 bits that its authors recommend, as a share of equal bits."""


@dataclass(frozen=True, slots=True)
class Query:
    """One picture that is sent: which, how edited, and the reference that it is a copy of; None: none."""

    picture: Photograph
    attack: Attack
    truth: str | None


@dataclass(frozen=True)
class Asked:
    """What a run of the product gave: the queries, their files, the answers, and the bank's shipped thresholds."""

    queries: tuple[Query, ...]
    files: tuple[bytes, ...]
    answers: tuple[Answer, ...]
    references: tuple[Photograph, ...]
    reference_files: tuple[bytes, ...]
    shipped: dict[str, float]
    seconds: float

    @property
    def truths(self) -> list[str | None]:
        """The right reference of each query."""
        return [one.truth for one in self.queries]


def plan(split: Split, each: int, negatives: int | None = None, attacks: Sequence[Attack] = ATTACKS) -> list[Query]:
    """The queries: of each reference some edits, so that all edits come equally often; then pictures of no reference.

    Args:
        split: what is registered, and the others.
        each: how many edits a reference; 0: all.
        negatives: how many queries without a copy; None: as many as copies. Where they are more than there are
            pictures, a picture comes again with another edit.
        attacks: the edits.
    """
    count = len(attacks) if each == 0 else min(each, len(attacks))
    copies = [
        Query(picture, attacks[(place * count + step) % len(attacks)], picture.name)
        for place, picture in enumerate(split.references)
        for step in range(count)
    ]
    wanted = len(copies) if negatives is None else negatives
    others = len(split.others)
    return copies + [
        Query(split.others[number % others], attacks[(number + number // others) % len(attacks)], None)
        for number in range(wanted)
    ]


class Editor:
    """Makes a query's file; photographs that it puts pictures into are those that are in no bank."""

    def __init__(self, split: Split, seed: int) -> None:
        self._seed = seed
        self._pool = [_opener(one.path) for one in split.others]

    def __call__(self, query: Query) -> bytes:
        """The file, the same for the same seed."""
        with Image.open(query.picture.path) as image:
            return attacked(query.attack, image, query.picture.name, self._seed, self._pool)


def _opener(path: Path) -> Any:
    def opened() -> Image.Image:
        with Image.open(path) as image:
            return image.convert("RGB")

    return opened


def as_registered(picture: Photograph) -> bytes:
    """A reference's file, as it lies on disk."""
    return picture.path.read_bytes()


def ask(service: Service, split: Split, queries: Sequence[Query], seed: int, callers: int, progress: Progress) -> Asked:
    """Register the references and send every query, through the API alone."""
    shipped = service.create_open_bank(BANK, BankKind.BANNED)
    files = [as_registered(one) for one in split.references]
    wait_for_model(service, files[0])

    def register(number: int) -> None:
        name = split.references[number].name
        patiently(
            lambda request_id: service.client.add_image(BANK, files[number], external_id=name, request_id=request_id)
        )

    with progress.task("registering references", len(files)) as step:
        for _ in in_order(register, range(len(files)), callers):
            step(1)
    edit = Editor(split, seed)

    def send(query: Query) -> tuple[bytes, Answer]:
        data = edit(query)
        return data, service.check(data, [BANK])

    begin = time.perf_counter()
    found: list[tuple[bytes, Answer]] = []
    with progress.task("checking queries", len(queries)) as step:
        for one in in_order(send, queries, callers):
            found.append(one)
            step(1)
    return Asked(
        tuple(queries),
        tuple(data for data, _ in found),
        tuple(answer for _, answer in found),
        split.references,
        tuple(files),
        shipped,
        time.perf_counter() - begin,
    )


def baseline_methods(
    asked: Asked, baselines: Sequence[Baseline], cache_folder: Path, progress: Progress
) -> tuple[list[judging.Method], dict[str, tuple[Vectors, Vectors]]]:
    """The baselines' rankings of the same files, and their vectors of queries and references."""
    methods, kept = [], {}
    names = [one.name for one in asked.references]
    for baseline in baselines:
        with progress.task(f"describing by {baseline.name}", len(asked.files) + len(names)) as step:
            vectors = described(baseline, [*asked.reference_files, *asked.files], cache_folder, step)
        references, queries = vectors[: len(names)], vectors[len(names) :]
        kept[baseline.name] = (queries, references)
        methods.append(judging.Method(baseline.name, baseline.says, rankings(baseline, queries, references, names)))
    return methods, kept


def judge(asked: Asked, methods: Sequence[judging.Method]) -> dict[str, Any]:
    """All figures of a run, as JSON has them."""
    truths = asked.truths
    kinds = {"attack": [one.attack.name for one in asked.queries]}
    judgements = [judging.judged(method, truths, kinds) for method in methods]
    negatives = sum(truth is None for truth in truths)
    seconds = sorted(one.seconds for one in asked.answers)
    undecided: dict[str, int] = {}
    for answer in asked.answers:
        for reason in set(answer.undecided):
            undecided[reason] = undecided.get(reason, 0) + 1
    found = {
        "references": len(asked.references),
        "copies": len(truths) - negatives,
        "negative_queries": negatives,
        "attacks": {one.name: one.says for one in ATTACKS if one.name in set(kinds["attack"])},
        "methods": judgements,
        "shipped": judging.at_thresholds(asked.answers, truths, asked.shipped),
        "undecided_queries": undecided,
        "check_seconds": {
            "median": round(seconds[len(seconds) // 2], 4),
            "p95": round(seconds[len(seconds) * 19 // 20], 4),
        },
        "queries_per_second": round(len(truths) / max(asked.seconds, 1e-9), 2),
    }
    for method in methods:
        if method.name == "PDQ":
            found["pdq_at_31"] = _at(method, truths, PDQ_POINT)
    return found


def _at(method: judging.Method, truths: Sequence[str | None], threshold: float) -> dict[str, Any]:
    negatives = [one for one, truth in zip(method.rankings, truths, strict=True) if truth is None]
    alarms = sum(metrics.best_score(one) >= threshold for one in negatives)
    return {
        "recall": judging.interval(metrics.recall_at(method.rankings, truths, threshold)),
        "false_alarms": alarms,
        "negative_queries": len(negatives),
    }


@dataclass(frozen=True, slots=True)
class Suspect:
    """A query without a copy and a reference that an independent judge takes for the same picture."""

    picture: Photograph
    reference: Photograph
    attack: str
    why: str


SUSPECT_SSCD, SUSPECT_BITS, SUSPECT_INLIERS = 0.75, 31, 25


def suspects(asked: Asked, vectors: dict[str, tuple[Vectors, Vectors]]) -> list[Suspect]:
    """Pairs that may show the same picture: SSCD over 0.75, PDQ at most 31 bits, or 25 inliers and more.

    They are to be looked at by a person: what shows the same picture goes into the list of same pictures, and what does
    not is a false alarm.
    """
    places = {one.name: place for place, one in enumerate(asked.references)}
    found: dict[tuple[str, str], Suspect] = {}

    def note(query: Query, reference: int, why: str) -> None:
        other = asked.references[reference]
        found.setdefault((query.picture.name, other.name), Suspect(query.picture, other, query.attack.name, why))

    for number, query in enumerate(asked.queries):
        if query.truth is not None:
            continue
        if "SSCD" in vectors:
            alike = vectors["SSCD"][0][number] @ vectors["SSCD"][1].T
            for place in np.flatnonzero(alike > SUSPECT_SSCD):
                note(query, int(place), f"SSCD {alike[place]:.2f}")
        for name, candidate in asked.answers[number].candidates.items():
            bits, inliers = candidate.scores.get("pdq", 256.0), candidate.scores.get("local", 0.0)
            if bits <= SUSPECT_BITS:
                note(query, places[name], f"PDQ {bits:.0f} bits")
            if inliers >= SUSPECT_INLIERS:
                note(query, places[name], f"LOCAL {inliers:.0f} inliers")
    return list(found.values())


def lines(asked: Asked) -> Iterator[str]:
    """Each query with all that was answered, a JSON object a line."""
    for query, answer in zip(asked.queries, asked.answers, strict=True):
        yield json.dumps(
            {
                "picture": query.picture.name,
                "attack": query.attack.name,
                "truth": query.truth,
                "seconds": round(answer.seconds, 4),
                "undecided": answer.undecided,
                "candidates": {name: {"scores": one.scores, "box": one.box} for name, one in answer.candidates.items()},
            }
        )


@cache
def attack_of(name: str) -> Attack:
    """An edit by its name.

    Raises:
        KeyError: there is none.
    """
    return BY_NAME[name]


def picture_of(data: bytes) -> Image.Image:
    """A file's pixels."""
    return Image.open(io.BytesIO(data)).convert("RGB")
