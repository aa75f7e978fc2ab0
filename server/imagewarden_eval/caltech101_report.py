"""What was measured, as JSON for programs and as Markdown for docs/evaluation.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from imagewarden_eval.caltech101_classify import Accuracy
from imagewarden_eval.caltech101_data import Dataset, few
from imagewarden_eval.caltech101_metrics import CUTS, Retrieval
from imagewarden_eval.caltech101_search import MOST, Agreement

DIGITS = 4
_TITLES = {"cosine": "cosine", "euclidean": "Euclidean", "svm": "linear SVM", "logistic": "logistic regression"}


@dataclass(frozen=True, slots=True)
class Served:
    """What the server answered.

    Attributes:
        by_metric: what its rankings count, at most `MOST` deep.
        agreement: its rankings beside the exact ones, by metric.
        refused: pictures that the gallery does not have, a sentence each.
    """

    by_metric: Mapping[str, Retrieval]
    agreement: Mapping[str, Agreement]
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """A whole run.

    Attributes:
        data: the pictures.
        model: the label of the model whose vectors the server compared.
        gallery: how many pictures were searched in.
        queries: how many were asked for.
        served: what the server answered.
        exact: the whole ranking by feature and metric.
        accuracy: by feature and classifier, one for each number of training pictures.
        splits: how many random divisions each accuracy is over.
        dimensions: of each feature.
        too_small: the categories that were left out of the accuracy, by the number of training pictures.
        left_out: what else was not measured, a sentence each.
        seconds: how long the run took.
    """

    data: Dataset
    model: str
    gallery: int
    queries: int
    served: Served
    exact: Mapping[str, Mapping[str, Retrieval]]
    accuracy: Mapping[str, Mapping[str, Sequence[Accuracy]]]
    splits: int
    dimensions: Mapping[str, int]
    too_small: Mapping[int, tuple[str, ...]]
    left_out: tuple[str, ...]
    seconds: float


def to_json(result: Result) -> dict[str, Any]:
    """The run as JSON has it."""
    return {
        "images": str(result.data.root),
        "pictures": len(result.data),
        "categories": len(result.data.categories),
        "model": result.model,
        "fitting": int(result.data.fitted.sum()),
        "gallery": result.gallery,
        "queries": result.queries,
        "served": {
            "most": MOST,
            "metrics": {metric: _retrieval(found) for metric, found in result.served.by_metric.items()},
            "agreement": {metric: asdict(found) for metric, found in result.served.agreement.items()},
            "refused": list(result.served.refused),
        },
        "exact": {
            feature: {metric: _retrieval(found) for metric, found in metrics.items()}
            for feature, metrics in result.exact.items()
        },
        "accuracy": {
            feature: {name: [asdict(one) for one in found] for name, found in classifiers.items()}
            for feature, classifiers in result.accuracy.items()
        },
        "dimensions": dict(result.dimensions),
        "too_small": {str(count): list(names) for count, names in result.too_small.items()},
        "left_out": [*result.data.left_out, *result.left_out],
        "seconds": round(result.seconds, 1),
    }


def _retrieval(found: Retrieval) -> dict[str, Any]:
    return {
        **{f"precision@{k}": round(value, DIGITS) for k, value in found.precision.items()},
        "map": round(found.mean_average_precision, DIGITS),
        "depth": found.depth,
        "queries": found.queries,
    }


def to_markdown(result: Result) -> str:
    """The tables, with what they are of."""
    data = result.data
    divided = (
        f"Similarity search: {result.gallery:,} pictures in the gallery (half of each category), {result.queries:,} "
        f"others are the queries. {int(data.fitted.sum()):,} pictures are for fitting: they stand in the gallery and "
        "among the training pictures, and are never tested."
    )
    lines = [
        f"{len(data):,} pictures of {len(data.categories)} categories; model {result.model}.",
        "",
        divided,
        "",
        f"Answered by `SearchSimilarImages` over gRPC, {MOST} neighbours a query at most:",
        "",
        *_search_table(
            {_TITLES[metric]: found for metric, found in result.served.by_metric.items()}, "metric", f"mAP@{MOST}"
        ),
        "",
    ]
    for metric, agreement in result.served.agreement.items():
        lines.append(
            f"Beside the exact ranking ({_TITLES[metric]}, {agreement.queries:,} queries): the same nearest in "
            f"{agreement.same_first:.1%}, {agreement.overlap:.2%} of the nearest {MOST} in common, no similarity "
            f"farther off than {agreement.largest_difference:.5f}: "
            + ("the same answers." if agreement.agrees else "**not the same answers.**")
        )
    lines += ["", "The whole ranking, exactly, by feature:", ""]
    lines += _search_table(
        {
            f"{feature} ({result.dimensions[feature]:,}), {_TITLES[metric]}": found
            for feature, metrics in result.exact.items()
            for metric, found in metrics.items()
        },
        "feature (dimensions), metric",
        "mAP",
    )
    lines += ["", *_accuracy_table(result), ""]
    for count, names in result.too_small.items():
        if names:
            lines.append(
                f"With {count} training pictures {len(names)} of {len(data.categories)} categories are left out, which "
                f"have no more than that: {few(names)}."
            )
    lines += [f"Left out: {one}." for one in (*data.left_out, *result.left_out)]
    lines += [f"Not in the gallery: {one}." for one in result.served.refused]
    return "\n".join(lines).rstrip() + "\n"


def _search_table(rows: Mapping[str, Retrieval], first: str, last: str) -> list[str]:
    cuts = [cut for cut in CUTS if all(cut in found.precision for found in rows.values())]
    lines = [
        f"| {first} | " + " | ".join([*(f"precision@{cut}" for cut in cuts), last]) + " |",
        "|---|" + "---|" * (len(cuts) + 1),
    ]
    for name, found in rows.items():
        values = [*(found.precision[cut] for cut in cuts), found.mean_average_precision]
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    return lines


def _accuracy_table(result: Result) -> list[str]:
    first = next(iter(result.accuracy.values()), {})
    columns = [(classifier, one.per_category) for classifier, found in first.items() for one in found]
    if not columns:
        return ["No category has enough pictures for a classifier to be trained."]
    lines = [
        "Mean accuracy by class and its deviation over "
        + (f"{result.splits} random splits" if result.splits > 1 else "one random split")
        + ", C chosen on the training pictures:",
        "",
        "| feature | " + " | ".join(f"{_TITLES[name]}, {count} training" for name, count in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for feature, classifiers in result.accuracy.items():
        cells = [f"{one.mean:.3f} ± {one.deviation:.3f}" for found in classifiers.values() for one in found]
        lines.append(f"| {feature} | " + " | ".join(cells) + " |")
    return lines
