"""`imagewarden model export`: from weights to a SavedModel version directory, whole or not at all."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from imagewarden_serving import card as cards
from imagewarden_serving import weights as weight_sources
from imagewarden_serving.architectures import ARCHITECTURES, SIDE, Architecture
from imagewarden_serving.projection import Projection, ProjectionError, load_projection

DEFAULT_PROJECTION = Path(__file__).parent / "data" / "inception_v3-mixed3.npz"
"""The projection of the package, for the default weights and layer; docs/descriptor.md tells how it was made."""

REGION_FRACTIONS = (12 / 17, 9 / 17, 6 / 17, 4 / 17)
"""Window sides of `regions` as shares of the map: 12, 9, 6 and 4 of mixed3's 17 cells."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


class ExportError(Exception):
    """The model cannot be exported; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written: the version's directory and the model card."""

    directory: Path
    card: dict[str, Any]


def export(
    base: Path,
    *,
    name: str = "inception",
    version: int | None = None,
    architecture: str = "inception_v3",
    weights: str = "nsfwjs",
    layer: str | None = None,
    projection: Path | None = None,
    plain: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> ExportResult:
    """Write BASE/NAME/VERSION: SavedModel, warm-up requests and model card.

    The version appears by one rename, so that a host that polls the directory never sees half of it.

    Args:
        base: the directory of models.
        name: the model's name.
        version: its number; None: the next free one.
        architecture: one of `ARCHITECTURES`.
        weights: `nsfwjs`, `imagenet` or a .keras file.
        layer: the layer that the copy descriptor pools; None: the architecture's.
        projection: a fitted projection's .npz; None: the package's own where it was fitted for this layer and weights.
        plain: True: no projection at all, the pooled layer as it is.
        progress: told what is done, a line each.

    Raises:
        ExportError: a name is wrong, the version exists, weights or projection do not fit.
    """
    chosen = ARCHITECTURES.get(architecture)
    if chosen is None:
        raise ExportError(f"no architecture {architecture!r}; there are {', '.join(sorted(ARCHITECTURES))}")
    if not _NAME.fullmatch(name):
        raise ExportError(f"{name!r} is no model name; use letters, digits, '_', '.' and '-'")
    home = base / name
    number = _version(home, version)
    try:
        loaded = weight_sources.load(chosen, weights, progress)
        copy_layer = layer or chosen.copy_layer
        channels, cells = _map_size(loaded.model, copy_layer)
        fitted = _projection(projection, plain=plain, default_for=(weights, copy_layer), channels=channels)
    except (weight_sources.WeightsError, ProjectionError) as error:
        raise ExportError(str(error)) from error
    places = cards.windows(cells, REGION_FRACTIONS)
    card = _card(chosen, loaded, name, number, copy_layer, channels, places, fitted)
    progress("building and freezing the graph")
    # TensorFlow is loaded here, after all that can be refused without it.
    from imagewarden_serving import graph, warmup  # noqa: PLC0415

    frozen, outputs = graph.freeze(chosen, loaded, copy_layer, places, fitted)
    built = graph.build(frozen, outputs, cards.to_json(card))
    home.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{number}-", dir=home))
    try:
        made = scratch / "model"
        progress("writing the SavedModel")
        graph.save(built, made)
        warmup.write(name, made)
        (made / cards.FILE_NAME).write_text(cards.to_json(card))
        target = home / str(number)
        if target.exists():
            raise ExportError(f"{target} came into being meanwhile; export again")
        made.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return ExportResult(target, card)


def _version(home: Path, asked: int | None) -> int:
    taken = [int(path.name) for path in home.iterdir() if path.name.isdigit()] if home.is_dir() else []
    if asked is None:
        return max(taken, default=0) + 1
    if asked < 1:
        raise ExportError(f"version {asked} is no positive number")
    if asked in taken:
        raise ExportError(f"{home / str(asked)} exists; a version is never overwritten, choose another number")
    return asked


def _map_size(model: Any, layer: str) -> tuple[int, int]:
    """Channels and side of a layer's map."""
    try:
        shape = model.get_layer(layer).output.shape
    except ValueError:
        raise ExportError(f"the network has no layer {layer!r}") from None
    if len(shape) != 4 or shape[1] != shape[2]:
        raise ExportError(f"layer {layer!r} gives {tuple(shape)}, no square map")
    return int(shape[3]), int(shape[1])


def _projection(path: Path | None, *, plain: bool, default_for: tuple[str, str], channels: int) -> Projection | None:
    if plain:
        if path is not None:
            raise ExportError("a projection and --plain exclude each other")
        return None
    if path is not None:
        return load_projection(path, channels)
    if default_for == ("nsfwjs", "mixed3"):
        return load_projection(DEFAULT_PROJECTION, channels)
    return None


def _card(
    architecture: Architecture,
    loaded: weight_sources.Loaded,
    name: str,
    version: int,
    layer: str,
    channels: int,
    places: cards.Windows,
    projection: Projection | None,
) -> dict[str, Any]:
    semantic = loaded.model.get_layer(architecture.semantic_layer).output.shape
    card: dict[str, Any] = {
        "schema": cards.SCHEMA,
        "name": name,
        "version": version,
        "architecture": architecture.name,
        "weights": {**loaded.source, "tensors_sha256": loaded.digest},
        "input": {
            "shape": [SIDE, SIDE, 3],
            "dtype": "uint8",
            "normalisation": loaded.normalisation,
            "resize": "plain, antialiased bilinear; the aspect ratio is not kept",
        },
        "embedding": {
            "layer": layer,
            "pooling": "gem",
            "gem_p": 3.0,
            "dimension": channels if projection is None else int(projection.matrix.shape[1]),
            "projection_sha256": None if projection is None else projection.sha256,
        },
        "regions": {
            "windows": list(dict.fromkeys(size for _, _, size in places.places)),
            "cells": places.cells,
            "count": len(places.places),
            "boxes": [[round(edge, 6) for edge in box] for box in places.boxes],
        },
        "semantic": {"layer": architecture.semantic_layer, "pooling": "average", "dimension": int(semantic[3])},
        "nsfw": {"classes": list(loaded.nsfw_classes)} if loaded.nsfw else None,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "tools": {package: metadata.version(package) for package in ("tensorflow", "keras", "numpy")},
    }
    card["fingerprint"] = cards.fingerprint(card)
    return card
