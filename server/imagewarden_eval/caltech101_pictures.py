"""What the evaluation shows: queries with their neighbours, framed by whether they are right, and a t-SNE map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imagewarden_eval.caltech101_data import Dataset
from imagewarden_eval.caltech101_vectors import pixels

MOST_BYTES = 300_000
"""Of one picture that is written: a page that shows them is to load at once."""

_TILE, _GAP, _FRAME, _LABEL = 96, 6, 4, 16
_MARGIN = 110
_RIGHT, _WRONG, _QUERY = "#1a9641", "#d7191c", "#404040"
_QUALITIES = (88, 80, 70, 60, 45)
_PERPLEXITY = 20.0
_EXACT_UP_TO = 1_000


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a panel: places in the dataset, the query's and its neighbours', nearest first.

    Attributes:
        query: its place.
        neighbours: theirs.
        title: what stands before the row.
    """

    query: int
    neighbours: Sequence[int]
    title: str = ""


def panel(data: Dataset, rows: Sequence[Row]) -> Image.Image:
    """Draw rows of a query and its neighbours: those of its category framed green, others red, names below."""
    font = ImageFont.load_default(11)
    columns = 1 + max(len(row.neighbours) for row in rows)
    titled = any(row.title for row in rows)
    margin = _MARGIN if titled else 0
    width, height = _TILE + 2 * _FRAME + _GAP, _TILE + 2 * _FRAME + _LABEL + _GAP
    sheet = Image.new("RGB", (margin + columns * width + 3 * _GAP, len(rows) * height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = _GAP + number * height
        if titled:
            draw.text((_GAP, top + _TILE // 2), row.title, fill="black", font=font)
        for column, place in enumerate([row.query, *row.neighbours]):
            # The query stands a little apart from what was found.
            left = margin + _GAP + column * width + (2 * _GAP if column else 0)
            same = data.labels[place] == data.labels[row.query]
            colour = _QUERY if not column else _RIGHT if same else _WRONG
            draw.rectangle((left, top, left + _TILE + 2 * _FRAME - 1, top + _TILE + 2 * _FRAME - 1), fill=colour)
            sheet.paste(_tile(data.root / data.paths[place]), (left + _FRAME, top + _FRAME))
            name = data.categories[data.labels[place]]
            draw.text((left, top + _TILE + 2 * _FRAME + 1), name[:16], fill="black", font=font)
    return sheet


def _tile(path: Path) -> Image.Image:
    small = Image.fromarray(pixels(path))
    small.thumbnail((_TILE, _TILE))
    tile = Image.new("RGB", (_TILE, _TILE), "white")
    tile.paste(small, ((_TILE - small.width) // 2, (_TILE - small.height) // 2))
    return tile


def save_jpeg(picture: Image.Image, path: Path) -> None:
    """Write a JPEG of at most `MOST_BYTES`, at the best of some qualities that keeps to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for quality in _QUALITIES:
        picture.save(path, "JPEG", quality=quality, optimize=True, progressive=True)
        if path.stat().st_size <= MOST_BYTES:
            return


def tsne(
    features: Mapping[str, NDArray[np.float32]], data: Dataset, categories: Sequence[str], path: Path, seed: int = 0
) -> None:
    """Write a PNG with a map of some categories' pictures for each feature, side by side.

    t-SNE (van der Maaten and Hinton, 2008) on unit vectors, from their principal components; near in it is near in
    the feature, far says little.

    Args:
        features: float32 [n, D] of the whole dataset, by name.
        data: the dataset.
        categories: those to show, at least two.
        path: the PNG.
        seed: of the map.
    """
    # A figure is drawn in this process and shown by none: no display is looked for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 -- takes a second
    from matplotlib.figure import Figure  # noqa: PLC0415 -- the same
    from sklearn.manifold import TSNE  # noqa: PLC0415 -- the same
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 -- comes with sklearn

    shown = np.flatnonzero(np.isin(data.labels, [data.categories.index(name) for name in categories]))
    figure = Figure(figsize=(5.2 * len(features) + 1.6, 5.0), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(1, len(features), squeeze=False)[0]
    colours = [f"C{number}" for number in range(10)]
    marks = "os^DvP*X<>"
    for axis, (name, vectors) in zip(axes, features.items(), strict=True):
        chosen = vectors[shown]
        chosen = chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-12)
        perplexity = min(_PERPLEXITY, (len(shown) - 1) / 3)
        how = "exact" if len(shown) <= _EXACT_UP_TO else "barnes_hut"
        # One thread: sums by several come out in another order each time, and a busy machine stalls them.
        with threadpool_limits(1):
            places = TSNE(2, method=how, init="pca", perplexity=perplexity, random_state=seed).fit_transform(chosen)
        for number, category in enumerate(categories):
            mine = data.labels[shown] == data.categories.index(category)
            axis.scatter(
                *places[mine].T,
                s=22,
                c=colours[number % len(colours)],
                marker=marks[number % len(marks)],
                label=category,
                linewidths=0,
            )
        axis.set_title(name)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
