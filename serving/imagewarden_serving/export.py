"""`imagewarden model export`: from weights to a SavedModel version directory, whole or not at all."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from imagewarden_serving import card as cards
from imagewarden_serving import weights as weight_sources
from imagewarden_serving.architectures import ARCHITECTURES, NORMALISATIONS, SIDE, Architecture, WrongBackend
from imagewarden_serving.folding import FoldingError, fold_batch_norms
from imagewarden_serving.logo_head import COARSE_LAYER, FINE_LAYER, LogoHead, LogoHeadError, load_head
from imagewarden_serving.projection import Projection, ProjectionError, load_projection
from imagewarden_serving.semantic_head import SemanticHead, SemanticHeadError, load_semantic_head

DEFAULT_NAME = "inception"
DEFAULT_ARCHITECTURE = "inception_v3"

BUNDLED_PROJECTION = Path(__file__).parent / "data" / "inception_v3-mixed3.npz"
"""The projection that comes with the package, from mixed3's 768 channels to 512, fitted by `fit` on the weights of
nsfwjs: for `export(projection=BUNDLED_PROJECTION)`. Other weights or another layer need one of their own."""

BUNDLED_LOGO_HEAD = Path(__file__).parent / "data" / "inception_v3-logos.npz"
"""The logo head that comes with the package, fitted by `imagewarden model fit-logos` on the weights of nsfwjs."""

BUNDLED_SEMANTIC_HEAD = Path(__file__).parent / "data" / "inception_v3-semantic.npz"
"""The semantic head that comes with the package, fitted by `imagewarden model fit-semantic` on nsfwjs' weights."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_MAX_VERSION = 2**63 - 1


class ExportError(Exception):
    """The model cannot be exported; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written: the version's directory and the model card."""

    directory: Path
    card: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Layers:
    """The folded network and its two layers: names, and the maps' channels and side in cells."""

    folded: Any
    copy: str
    copy_channels: int
    cells: int
    semantic: str
    semantic_channels: int


def export(
    out_base: Path,
    name: str = DEFAULT_NAME,
    version: int | None = None,
    architecture: str = DEFAULT_ARCHITECTURE,
    weights: str = weight_sources.DEFAULT,
    projection: Path | None = None,
    layer: str | None = None,
    logo_head: Path | None = None,
    semantic_head: Path | None = None,
    *,
    normalisation: str | None = None,
    windows: Sequence[int] = cards.WINDOW_SIZES,
    progress: Callable[[str], None] = lambda _: None,
) -> ExportResult:
    """Write OUT_BASE/NAME/VERSION: SavedModel, warm-up requests and model card.

    The version appears by one rename, so that a host that polls the directory never sees half of it.

    Args:
        out_base: the directory of models; OUT_BASE/NAME is the base path that a host is given.
        name: the model's name.
        version: its number; None: the next free one.
        architecture: one of `ARCHITECTURES`.
        weights: `nsfwjs`, `imagenet` or the path of a .keras file.
        projection: a fitted projection's .npz (see `projection`); None: the pooled layer as it is.
        layer: the layer that the copy descriptor pools; None: the architecture's.
        logo_head: a fitted logo head's .npz (see `logo_head`), for inception_v3; None: `logos` are `regions`.
        semantic_head: a fitted semantic head's .npz (see `semantic_head`) for just these weights; None: `semantic` is
            the average of the last map.
        normalisation: what the weights of a .keras file take, one of `NORMALISATIONS`; None: as the architecture's
            ImageNet weights. The named weights know their own.
        windows: the sizes of the windows of `regions`, in cells of a map of 17; the whole map is always the first.
        progress: told what is done, a line each.

    Raises:
        ExportError: a name is wrong, the version exists, weights or projection do not fit or cannot be had.
    """
    chosen = _architecture(architecture, normalisation, weights)
    if not _NAME.fullmatch(name):
        raise ExportError(f"{name!r} is no model name; use letters, digits, '_', '.' and '-'")
    home = out_base / name
    number = _version(home, version)
    try:
        loaded = weight_sources.load(chosen, weights, progress)
        progress("folding the batch norms")
        head = None if logo_head is None else load_head(logo_head)
        if head is not None and chosen.name != DEFAULT_ARCHITECTURE:
            raise ExportError(f"a logo head is for {DEFAULT_ARCHITECTURE}, not for {chosen.name}; leave it out")
        if head is not None:
            head.check(loaded.digest)
        meaning = None if semantic_head is None else load_semantic_head(semantic_head)
        also = (
            *(() if head is None else (FINE_LAYER, COARSE_LAYER)),
            *(() if meaning is None else meaning.layers),
        )
        layers = _layers(loaded.model, layer or chosen.copy_layer, chosen.semantic_layer, also)
        fitted = None if projection is None else load_projection(projection, layers.copy_channels)
        places = cards.windows(layers.cells, windows)
        if meaning is not None:
            channels = sum(int(layers.folded.output[name].shape[3]) for name in meaning.layers)
            meaning.check(channels, loaded.digest)
    except (
        weight_sources.WeightsError,
        WrongBackend,
        FoldingError,
        ProjectionError,
        LogoHeadError,
        SemanticHeadError,
        ValueError,
    ) as error:
        raise ExportError(str(error)) from error
    card = _card(chosen, loaded, name, number, layers, places, (fitted, head, meaning))
    # TensorFlow is loaded here, after all that can be refused without it.
    from imagewarden_serving import graph, warmup  # noqa: PLC0415 -- as said

    progress("freezing the graph")
    made_of = graph.Head(layers.copy, layers.semantic, places, fitted, head, meaning)
    frozen, outputs = graph.freeze(layers.folded, loaded, made_of)
    none = np.zeros((0, 1, 1), np.float32)
    backgrounds = {
        "copy_background": none if fitted is None else fitted.background,
        "logo_background": none if head is None else head.background,
    }
    built = graph.build(frozen, outputs, cards.to_json(card), backgrounds)
    progress("writing the SavedModel")
    try:
        home.mkdir(parents=True, exist_ok=True)
        # A name that no host takes for a version, on the same file system.
        scratch = Path(tempfile.mkdtemp(prefix=f".{number}-", dir=home))
        try:
            made = scratch / "model"
            graph.save(built, made)
            warmup.write(name, made)
            (made / cards.FILE_NAME).write_text(cards.to_json(card), encoding="utf-8")
            target = home / str(number)
            made.rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise ExportError(f"{home / str(number)} could not be written: {error}") from error
    return ExportResult(target, card)


def _architecture(name: str, normalisation: str | None, weights: str) -> Architecture:
    chosen = ARCHITECTURES.get(name)
    if chosen is None:
        raise ExportError(f"no architecture {name!r}; there are {', '.join(sorted(ARCHITECTURES))}")
    if normalisation is None:
        return chosen
    if normalisation not in NORMALISATIONS:
        raise ExportError(f"no normalisation {normalisation!r}; there are {', '.join(NORMALISATIONS)}")
    if not weights.endswith(".keras"):
        raise ExportError(f"the weights {weights!r} know their normalisation; it is said for .keras files alone")
    return replace(chosen, normalisation=normalisation)


def _version(home: Path, asked: int | None) -> int:
    taken = [int(path.name) for path in home.iterdir() if path.name.isdecimal()] if home.is_dir() else []
    if asked is None:
        return max(taken, default=0) + 1
    if not 1 <= asked <= _MAX_VERSION:
        raise ExportError(f"version {asked} is no positive 64-bit number")
    if asked in taken:
        raise ExportError(f"{home / str(asked)} exists, and a version is never overwritten; choose another number")
    return asked


def _layers(model: Any, copy: str, semantic: str, also: tuple[str, ...]) -> _Layers:
    folded = fold_batch_norms(model, SIDE, tuple(dict.fromkeys((copy, semantic, *also))))
    shapes = {name: tuple(tensor.shape) for name, tensor in folded.output.items()}
    for name, shape in shapes.items():
        if len(shape) != 4 or shape[1] != shape[2] or shape[1] is None:
            raise ExportError(f"the layer {name!r} gives {shape}, no square map; choose one before the last pooling")
    return _Layers(folded, copy, int(shapes[copy][3]), int(shapes[copy][1]), semantic, int(shapes[semantic][3]))


def _card(
    architecture: Architecture,
    loaded: weight_sources.Loaded,
    name: str,
    version: int,
    layers: _Layers,
    places: cards.Windows,
    fitted: tuple[Projection | None, LogoHead | None, SemanticHead | None],
) -> dict[str, Any]:
    projection, head, meaning = fitted
    dimension = layers.copy_channels if projection is None else projection.dimension
    card: dict[str, Any] = {
        "schema_version": cards.SCHEMA_VERSION,
        "name": name,
        "version": version,
        "architecture": architecture.name,
        "weights": {**loaded.source, "tensors_sha256": loaded.digest},
        "input": {
            "shape": [SIDE, SIDE, 3],
            "dtype": "uint8",
            "range": [0, 255],
            "colour": "RGB",
            "normalisation": loaded.normalisation,
            "resize": "plain to the input's shape (the aspect ratio is not kept), bilinear, antialiased",
        },
        "embedding": {
            "layer": layers.copy,
            "pooling": "gem",
            "gem_p": 3.0,
            "dimension": dimension,
            "projection_sha256": None if projection is None else projection.sha256,
            "background": [0, 0] if projection is None else list(projection.background.shape[:2]),
        },
        "regions": {
            "windows": list(places.sizes),
            "cells": places.cells,
            "count": len(places.places),
            "boxes": places.boxes,
        },
        "logos": {
            "head_sha256": None if head is None else head.sha256,
            "dimension": dimension if head is None else head.dimension,
            "boxes": places.boxes if head is None else [list(box) for box in head.boxes],
            "background": [0, 0] if head is None else list(head.background.shape[:2]),
        },
        "semantic": {
            "layer": layers.semantic if meaning is None else "+".join(meaning.layers),
            "pooling": "average" if meaning is None else "averages of nine windows, with the mirror's",
            "dimension": layers.semantic_channels if meaning is None else meaning.dimension,
            "head_sha256": None if meaning is None else meaning.sha256,
        },
        "nsfw": {"classes": list(loaded.nsfw_classes)} if loaded.nsfw else None,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "tools": {package: metadata.version(package) for package in ("tensorflow", "keras", "numpy")},
    }
    card["fingerprint"] = cards.fingerprint(card)
    return card
