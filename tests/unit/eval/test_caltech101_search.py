"""How the server's answers are counted and held against the exact ones, and how a gallery is filled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imagewarden import AlreadyExists, Client, InvalidRequest, Unavailable
from imagewarden_eval import caltech101_search as search
from imagewarden_eval.caltech101_data import Dataset, Split
from imagewarden_eval.caltech101_metrics import rank, unit
from imagewarden_eval.progress import Progress

LABELS = np.asarray([0, 0, 0, 0, 1, 1, 1, 1])
GALLERY = np.asarray([0, 1, 4, 5])
QUERIES = [2, 3, 6, 7]
QUIET = Progress(quiet=True)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    paths = tuple(f"{'ab'[label]}/image_{place:04}.jpg" for place, label in enumerate(LABELS))
    return Dataset(tmp_path, paths, ("a", "b"), LABELS, LABELS < 0, ())


@pytest.fixture
def vectors() -> NDArray[np.float32]:
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(2, 8))
    return unit(centres[LABELS] + 0.3 * rng.normal(size=(8, 8))).astype(np.float32)


def answers_of(vectors: NDArray[np.float32]) -> list[search.Answer]:
    """What a server would answer that is exact."""
    order, distances = rank(vectors[QUERIES], vectors[GALLERY], "cosine")
    return [
        search.Answer(tuple(GALLERY[row].tolist()), tuple(far.tolist()), tuple((1 - far).tolist()))
        for row, far in zip(order, distances, strict=True)
    ]


def test_exact_answers_agree(data: Dataset, vectors: NDArray[np.float32]) -> None:
    found = search.agreement(vectors, GALLERY, QUERIES, answers_of(vectors))
    assert found.agrees
    assert (found.queries, found.same_first, found.overlap) == (4, 1, 1)
    assert found.largest_difference < 1e-6
    counted = search.judge(data, GALLERY, QUERIES, answers_of(vectors))
    exact = search.exact(data, vectors, GALLERY, QUERIES)
    assert counted.mean_average_precision == pytest.approx(exact["cosine"][0].mean_average_precision)
    assert counted.precision == exact["cosine"][0].precision
    assert exact["euclidean"][0] == exact["cosine"][0]


def test_two_that_changed_places_do_not_agree(vectors: NDArray[np.float32]) -> None:
    answers = answers_of(vectors)
    first = answers[0]
    answers[0] = search.Answer(
        (first.places[-1], *first.places[1:-1], first.places[0]), first.distances, first.similarities
    )
    found = search.agreement(vectors, GALLERY, QUERIES, answers)
    assert not found.agrees
    assert found.same_first == pytest.approx(3 / 4)
    assert found.overlap == 1


def test_a_similarity_that_is_another_one_does_not_agree(vectors: NDArray[np.float32]) -> None:
    answers = answers_of(vectors)
    off = tuple(value + 0.003 for value in answers[1].similarities)
    answers[1] = search.Answer(answers[1].places, answers[1].distances, off)
    found = search.agreement(vectors, GALLERY, QUERIES, answers)
    assert not found.agrees
    assert found.largest_difference == pytest.approx(0.003, abs=1e-4)


def test_what_the_index_rounds_still_agrees(vectors: NDArray[np.float32]) -> None:
    halved = vectors.astype(np.float16).astype(np.float32)
    assert search.agreement(vectors, GALLERY, QUERIES, answers_of(halved)).agrees


def test_counting_by_hand(data: Dataset) -> None:
    answer = search.Answer((0, 4, 1, 5), (0.1,) * 4, (0.9,) * 4)
    found = search.judge(data, GALLERY, [2], [answer])
    assert found.precision == {1: 1.0}
    assert found.mean_average_precision == pytest.approx((1 + 2 / 3) / 2)
    found = search.judge(data, GALLERY, [6], [answer])
    assert found.precision == {1: 0.0}
    assert found.mean_average_precision == pytest.approx((1 / 2 + 2 / 4) / 2)


def test_a_short_answer_is_no_ranking(data: Dataset) -> None:
    answer = search.Answer((0, 4, 1), (0.1,) * 3, (0.9,) * 3)
    with pytest.raises(
        search.SearchError, match=r"1 answers do not have 4 neighbours, the first of them to a/image_0002"
    ):
        search.judge(data, GALLERY, [2], [answer])


class Refusing:
    """A client whose server has opinions about some pictures."""

    def __init__(self, problems: dict[str, Exception]) -> None:
        self.problems = problems
        self.added: list[str] = []

    def create_bank(self, *_: object) -> None:
        return None

    def add_image(self, _: str, path: Path, *, external_id: str, request_id: str) -> None:
        assert str(path).endswith(external_id)
        assert request_id
        if external_id in self.problems:
            raise self.problems[external_id]
        self.added.append(external_id)


def error(kind: Any, message: str) -> Exception:
    made: Exception = kind(message)
    return made


def test_pictures_that_the_server_refuses_are_named_and_not_in_the_gallery(data: Dataset) -> None:
    client: Any = Refusing(
        {
            "a/image_0001.jpg": error(AlreadyExists, "it is there"),
            "b/image_0005.jpg": error(InvalidRequest, "it is one flat colour"),
        }
    )
    gallery = search.fill(client, data, Split(GALLERY, np.asarray(QUERIES)), QUIET)
    assert gallery.places.tolist() == [0, 4]
    assert gallery.refused == (
        "a/image_0001.jpg: the same bytes are in the gallery already",
        "b/image_0005.jpg: it is one flat colour",
    )
    assert sorted(client.added) == ["a/image_0000.jpg", "b/image_0004.jpg"]


def test_a_server_that_is_not_there_ends_the_run(data: Dataset) -> None:
    client: Any = Refusing({"a/image_0000.jpg": error(Unavailable, "nobody answers")})
    with pytest.raises(search.SearchError, match="the gallery could not be filled: nobody answers"):
        search.fill(client, data, Split(GALLERY, np.asarray(QUERIES)), QUIET)


def test_the_client_has_what_is_used_of_it() -> None:
    assert all(hasattr(Client, name) for name in ("create_bank", "add_image", "search"))
