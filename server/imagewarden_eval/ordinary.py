"""Ordinary pictures: as they are, and edited as copies are, so that what edits do to scores is in the false alarms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from imagewarden_eval.attacks import ATTACKS, attacked
from imagewarden_eval.baselines import opened
from imagewarden_eval.datasets import Photograph
from imagewarden_eval.errors import EvaluationError


@dataclass(frozen=True, slots=True)
class Query:
    """One ordinary picture: as it is, or after an edit."""

    picture: Photograph
    attack: int | None

    @property
    def name(self) -> str:
        """For the report."""
        return self.picture.name if self.attack is None else f"{self.picture.name}, {ATTACKS[self.attack].name}"


def plan(pictures: Sequence[Photograph], count: int) -> list[Query]:
    """All pictures as they are, then edited ones, each by another edit than before, until there are enough.

    Raises:
        EvaluationError: there are no pictures.
    """
    if not pictures:
        raise EvaluationError(
            "no picture is left that is not registered; ask for fewer references, or name more folders"
        )
    plain = [Query(one, None) for one in pictures]
    edited = (
        Query(pictures[number % len(pictures)], (number + number // len(pictures)) % len(ATTACKS))
        for number in range(max(0, count - len(plain)))
    )
    return [*plain, *edited][:count]


def reader(pictures: Sequence[Photograph], seed: int) -> Callable[[Query], bytes]:
    """What makes the file of a query; edits that put a picture into another take that from `pictures`."""
    pool: list[Callable[[], Image.Image]] = [lambda one=one: opened(one.path.read_bytes()) for one in pictures]  # type: ignore[misc]

    def read(query: Query) -> bytes:
        data = query.picture.path.read_bytes()
        if query.attack is None:
            return data
        return attacked(ATTACKS[query.attack], opened(data), query.picture.name, seed, pool)

    return read
