"""One run of `eval caltech101`, from the folder to a report: search and classification through the product's own path.

The pictures go to the model host over the TensorFlow Serving API and to a real server by AddImage and
SearchSimilarImages; classifiers are trained on the same vectors, and on hand-crafted features for comparison.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagewarden_eval import caltech101_classify as classify
from imagewarden_eval import caltech101_pictures as pictures
from imagewarden_eval import caltech101_report as reporting
from imagewarden_eval import caltech101_search as searching
from imagewarden_eval import caltech101_vectors as vectors
from imagewarden_eval import handcrafted_sift as sift
from imagewarden_eval.caltech101_data import Dataset, Split, halves, load, splits
from imagewarden_eval.caltech101_metrics import METRICS, average_precision
from imagewarden_eval.datasets import DEFAULT_SHARE
from imagewarden_eval.progress import Progress
from imagewarden_eval.service import serving, wait_for_model

KNOWN_ARCHITECTURES = ("inception_v3", "resnet50", "googlenet")
"""Those that `imagewarden model export` makes."""

_QUICK_CATEGORIES, _QUICK_PICTURES, _QUICK_SPLITS = 12, 20, 1
_PANEL_ROWS, _PANEL_NEIGHBOURS, _MAP_CATEGORIES = 6, 9, 10
_PANEL_FEATURES = ("semantic", "embedding", "sift pyramid", "hog", "colour")
_WORDS, _PYRAMID_WORDS, _LEVELS = 500, 200, 3
_LEAST_A_PICTURE = 10


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is asked: the command's options.

    Attributes:
        images: the folder of Caltech101.
        out: the folder of the report.
        model_base_paths: the first is the model that the server searches with; the others' features are compared.
        model_address: a model host that runs, instead of the first base path.
        training: numbers of training pictures a category.
        splits: random divisions for each of them.
        seed: of all chance.
        fitting_share: one picture in so many is for fitting, and is never tested.
        cache: where vectors are kept between runs; None: OUT/cache.
        quick: a few categories and one division.
        quiet: nothing is said on standard error.
    """

    images: Path
    out: Path
    model_base_paths: tuple[Path, ...] = ()
    model_address: str | None = None
    training: tuple[int, ...] = (15, 20, 30)
    splits: int = 3
    seed: int = 0
    fitting_share: int = DEFAULT_SHARE
    cache: Path | None = None
    quick: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class _Searched:
    """What the server and the first model answered."""

    own: vectors.ModelVectors
    gallery: NDArray[np.int64]
    served: reporting.Served
    by_cosine: Sequence[searching.Answer]


def run(options: Options) -> reporting.Result:
    """Measure, and write report.json, report.md and the pictures into `options.out`.

    Raises:
        EvaluationError: the folder is not Caltech101's, or the service or a picture is not as it must be.
    """
    begin = time.monotonic()
    progress = Progress(quiet=options.quiet)
    cache = options.cache or options.out / "cache"
    data, left_out = _data(options)
    split = halves(data, options.seed)
    searched = _search(options, data, split, cache, progress)
    others, said = _others(options, data, cache, progress)
    features = _features(data, {**searched.own.by_output, **others}, cache, progress)
    matrices = {name: feature.vectors(split.training) for name, feature in features.items()}
    queries = split.test.tolist()
    exact = {name: searching.exact(data, matrix, searched.gallery, queries) for name, matrix in matrices.items()}
    accuracy, too_small = _accuracies(options, data, features, progress)
    result = reporting.Result(
        data=data,
        model=searched.own.label,
        gallery=len(searched.gallery),
        queries=len(queries),
        served=searched.served,
        exact={name: {metric: found for metric, (found, _) in metrics.items()} for name, metrics in exact.items()},
        accuracy=accuracy,
        splits=_splits(options),
        dimensions={name: matrix.shape[1] for name, matrix in matrices.items()},
        too_small=too_small,
        left_out=(*left_out, *said),
        seconds=time.monotonic() - begin,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "report.json").write_text(json.dumps(reporting.to_json(result), indent=1) + "\n", encoding="utf-8")
    (options.out / "report.md").write_text(reporting.to_markdown(result), encoding="utf-8")
    rankings = {name: places for name, metrics in exact.items() for places in [metrics["cosine"][1]]}
    _draw(options, data, queries, searched.by_cosine, rankings)
    _map(options, data, {name: matrices[name] for name in vectors.OUTPUTS}, progress)
    return result


def _splits(options: Options) -> int:
    return _QUICK_SPLITS if options.quick else options.splits


def _data(options: Options) -> tuple[Dataset, list[str]]:
    """The pictures; for a quick run those of a few categories."""
    data = load(options.images, options.fitting_share)
    if not options.quick:
        return data, []
    rng = np.random.default_rng(options.seed)
    chosen = rng.permutation(len(data.categories))[:_QUICK_CATEGORIES]
    kept = [np.flatnonzero(data.labels == label)[:_QUICK_PICTURES] for label in np.sort(chosen)]
    few = data.only(np.concatenate(kept))
    return few, [f"all but {len(few)} pictures of {len(few.categories)} categories, since the run is a quick one"]


def _search(options: Options, data: Dataset, split: Split, cache: Path, progress: Progress) -> _Searched:
    """Ask the model for its vectors and the server for neighbours, and hold one against the other."""
    first = options.model_base_paths[0] if options.model_base_paths else None
    queries = split.test.tolist()
    with serving(first, model_address=options.model_address) as service:
        wait_for_model(service, (data.root / data.paths[0]).read_bytes())
        own = vectors.model_vectors(service.model_address or "", data, cache, progress)
        gallery = searching.fill(service.client, data, split, progress)
        answers = {metric: searching.ask(service.client, data, queries, metric, progress) for metric in METRICS}
    served = reporting.Served(
        {metric: searching.judge(data, gallery.places, queries, found) for metric, found in answers.items()},
        {
            metric: searching.agreement(own.by_output["semantic"], gallery.places, queries, found)
            for metric, found in answers.items()
        },
        gallery.refused,
    )
    return _Searched(own, gallery.places, served, answers["cosine"])


def _others(
    options: Options, data: Dataset, cache: Path, progress: Progress
) -> tuple[dict[str, vectors.Matrix], list[str]]:
    """The vectors of the other models, and which architectures are not among those measured."""
    known = [_architecture(path) for path in options.model_base_paths]
    found: dict[str, vectors.Matrix] = {}
    for path, architecture in list(zip(options.model_base_paths, known, strict=True))[1:]:
        with serving(path) as service:
            made = vectors.model_vectors(service.model_address or "", data, cache, progress)
        name = architecture if f"{architecture} semantic" not in found else path.name
        found |= {f"{name} {output}": matrix for output, matrix in made.by_output.items()}
    missing = [name for name in KNOWN_ARCHITECTURES if name not in known]
    if options.model_address is not None:
        missing = missing[1:] if not known else missing
    said = [
        f"{name}, of which no model was given: `imagewarden model export --architecture {name}` makes one where its "
        "weights are at hand, and --model-base-path takes it"
        for name in missing
    ]
    return found, said


def _architecture(base_path: Path) -> str:
    """What the newest version's card says it is; the directory's name where there is no card."""
    versions = sorted((int(one.name), one) for one in base_path.glob("*") if one.name.isdecimal())
    try:
        return str(json.loads((versions[-1][1] / "model_card.json").read_text(encoding="utf-8"))["architecture"])
    except (IndexError, OSError, ValueError, KeyError, TypeError):
        return base_path.name


def _features(
    data: Dataset, learned: Mapping[str, vectors.Matrix], cache: Path, progress: Progress
) -> dict[str, classify.Feature]:
    """All features by name, the model's first."""
    fixed = {**learned, **vectors.handcrafted_vectors(data, cache, progress)}
    features: dict[str, classify.Feature] = {name: classify.Fixed(matrix) for name, matrix in fixed.items()}
    at_keypoints, on_grid = [], []
    with progress.task("SIFT", len(data)) as advance:
        for path in data.paths:
            picture = vectors.pixels(data.root / path)
            at_keypoints.append(sift.keypoint_sift(picture))
            on_grid.append(sift.dense_sift(picture))
            advance(1)
    # Of a part of the set there may be fewer descriptors than words.
    words = min(_WORDS, _LEAST_A_PICTURE * len(data) // 4)
    features["sift words"] = classify.BagOfWords(at_keypoints, words, 1)
    features["sift pyramid"] = classify.BagOfWords(on_grid, min(_PYRAMID_WORDS, words), _LEVELS)
    return features


def _accuracies(
    options: Options, data: Dataset, features: Mapping[str, classify.Feature], progress: Progress
) -> tuple[dict[str, dict[str, list[classify.Accuracy]]], dict[int, tuple[str, ...]]]:
    """Train and test on every feature; and the categories that are too small for a number of training pictures."""
    divided = {count: splits(data, count, _splits(options), options.seed) for count in options.training}
    too_small = {count: small for count, (_, small) in divided.items()}
    usable = {count: parts for count, (parts, _) in divided.items() if parts}
    found: dict[str, dict[str, list[classify.Accuracy]]] = {}
    total = len(features) * len(classify.CLASSIFIERS) * len(usable) * _splits(options)
    with progress.task("classifiers", total) as advance:
        for name, feature in features.items():
            remembered = classify.Remembered(feature)
            found[name] = {
                classifier: [
                    classify.accuracy(remembered, data.labels, parts, classifier, lambda: advance(1))
                    for parts in usable.values()
                ]
                for classifier in classify.CLASSIFIERS
            }
    return found, too_small


def _draw(
    options: Options,
    data: Dataset,
    queries: Sequence[int],
    answers: Sequence[searching.Answer],
    rankings: Mapping[str, NDArray[np.int64]],
) -> None:
    """Three panels: queries by chance, those that went worst, and one query by several features."""
    rng = np.random.default_rng(options.seed)
    shown = rng.permutation(len(queries))[:_PANEL_ROWS].tolist()
    rows = [pictures.Row(queries[one], answers[one].places[:_PANEL_NEIGHBOURS]) for one in shown]
    pictures.save_jpeg(pictures.panel(data, rows), options.out / "caltech101-neighbours.jpg")
    worst = np.argsort([_precision(data, query, answer) for query, answer in zip(queries, answers, strict=True)])
    rows = [pictures.Row(queries[one], answers[one].places[:_PANEL_NEIGHBOURS]) for one in worst[:_PANEL_ROWS].tolist()]
    pictures.save_jpeg(pictures.panel(data, rows), options.out / "caltech101-worst.jpg")
    one = shown[0]
    rows = [
        pictures.Row(queries[one], rankings[name][one, :_PANEL_NEIGHBOURS].tolist(), name)
        for name in _PANEL_FEATURES
        if name in rankings
    ]
    pictures.save_jpeg(pictures.panel(data, rows), options.out / "caltech101-features.jpg")


def _precision(data: Dataset, query: int, answer: searching.Answer) -> float:
    hits = data.labels[list(answer.places)] == data.labels[query]
    return average_precision(hits, max(int(hits.sum()), 1))


def _map(options: Options, data: Dataset, features: Mapping[str, vectors.Matrix], progress: Progress) -> None:
    rng = np.random.default_rng(options.seed)
    chosen = np.sort(rng.permutation(len(data.categories))[:_MAP_CATEGORIES])
    with progress.task("t-SNE", 1) as advance:
        names = [data.categories[label] for label in chosen]
        pictures.tsne(features, data, names, options.out / "caltech101-tsne.png", options.seed)
        advance(1)
