"""What a head sees of windows: two maps pooled over them, then standardised and reduced to principal components."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from imagewarden_serving import weights as weight_sources
from imagewarden_serving.architectures import ARCHITECTURES, SIDE, WrongBackend
from imagewarden_serving.fitting.edits import Box
from imagewarden_serving.fitting.features import Array
from imagewarden_serving.fitting.logos_scenes import Scene, shown
from imagewarden_serving.fitting.pictures import FitError
from imagewarden_serving.folding import FoldingError, fold_batch_norms
from imagewarden_serving.logo_head import COARSE_LAYER, FINE_LAYER
from imagewarden_serving.logo_windows import averaging, quarters

Pooling = Callable[[NDArray[np.uint8], Sequence[Sequence[Box]]], list[Array]]
"""From pictures, uint8 [n, 299, 299, 3], and windows of each: of each picture pooled features [its windows, C]."""

Progress = Callable[[str, int, int], None]
"""Told what is done, how many of it, of how many."""

COMPONENTS = 512
"""How many principal components of the pooled features are kept."""

FLOOR = 0.01
"""Added to their variances, as a share of the mean of those kept, so that what is hardly there is not blown up."""

FIRST_SCENES = 2000
"""The components are found on so many scenes; what comes later is reduced at once."""

_ARCHITECTURE = "inception_v3"
_BATCH = 16
_DRAWING_THREADS = 3
_LEAST_DEVIATION = 1e-4
_LEAST_VARIANCE = 1e-7
# Where the processor multiplies in bfloat16, three times as fast.
_FASTER = {"auto_mixed_precision_onednn_bfloat16": True}

_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class Rows:
    """Reduced features of windows.

    Attributes:
        features: float16 [n, K], in a file.
        owners: int32 [n], the identity that a window shows, -1 for none.
        sizes: float32 [n], the natural logarithm of the square root of a window's area.
    """

    features: NDArray[np.float16]
    owners: NDArray[np.int32]
    sizes: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Entry:
    """z = x @ matrix + bias, of pooled features x: matrix float32 [C, K], bias float32 [K]."""

    matrix: Array
    bias: Array

    def reduce(self, features: NDArray[Any]) -> NDArray[np.float16]:
        """Of pooled features [n, C] the principal components [n, K]."""
        import tensorflow as tf  # noqa: PLC0415 -- loaded for the pooling already; see there why not numpy

        return (np.asarray(tf.linalg.matmul(features.astype(np.float32), self.matrix)) + self.bias).astype(np.float16)


def pooling(weights: str, say: Callable[[str], None]) -> tuple[Pooling, dict[str, Any]]:
    """The network up to the two layers and their pooling over any windows, and what it is: for the record of a fit.

    All of it runs in TensorFlow's own threads: numpy's beside them would fight for the same cores.

    Args:
        weights: `nsfwjs`, `imagenet` or the path of a .keras file, of Inception v3.
        say: told what is done, a line each.

    Raises:
        FitError: the weights cannot be had.
    """
    try:
        loaded = weight_sources.load(ARCHITECTURES[_ARCHITECTURE], weights, say)
        folded = fold_batch_norms(loaded.model, SIDE, (FINE_LAYER, COARSE_LAYER))
    except (weight_sources.WeightsError, WrongBackend, FoldingError) as error:
        raise FitError(str(error)) from error
    import tensorflow as tf  # noqa: PLC0415 -- takes seconds: after all that can be refused without it

    from imagewarden_serving.graph import normalise_pixels  # noqa: PLC0415 -- imports TensorFlow

    @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3], tf.uint8)])  # type: ignore[untyped-decorator]
    def maps_of(images: Any) -> Any:
        layers = folded(normalise_pixels(images, loaded.normalisation), training=False)
        return layers[FINE_LAYER], layers[COARSE_LAYER]

    def pooled(images: NDArray[np.uint8], windows: Sequence[Sequence[Box]]) -> list[Array]:
        before = tf.config.optimizer.get_experimental_options()
        tf.config.optimizer.set_experimental_options(_FASTER)
        try:
            fine, coarse = maps_of(images)
        finally:
            tf.config.optimizer.set_experimental_options({key: before.get(key, False) for key in _FASTER})
        return [pool(fine[number], coarse[number], boxes) for number, boxes in enumerate(windows)]

    return pooled, {
        "architecture": _ARCHITECTURE,
        "layers": [FINE_LAYER, COARSE_LAYER],
        "weights_sha256": loaded.digest,
    }


def pool(fine: Any, coarse: Any, windows: Sequence[Box]) -> Array:
    """The pooled features of windows, as `graph.describe_logos` has them before the head.

    Args:
        fine: FINE_LAYER's map of one picture, [cells, cells, C].
        coarse: COARSE_LAYER's.
        windows: fractions of the picture.

    Returns:
        float32 [windows, 4 * C of fine + C of coarse]: both parts of unit norm.
    """
    import tensorflow as tf  # noqa: PLC0415 -- it takes seconds to load

    from imagewarden_serving.graph import COARSE_GRID, FINE_GRID  # noqa: PLC0415 -- imports TensorFlow

    def means(cells: Any, weights: Array) -> Any:
        """Generalised means, p = 3."""
        clipped = tf.reshape(tf.maximum(cells, 1e-6), [weights.shape[1], -1])
        return tf.pow(tf.linalg.matmul(weights, clipped * clipped * clipped), 1.0 / 3.0)

    if not windows:
        return np.zeros((0, 4 * int(fine.shape[-1]) + int(coarse.shape[-1])), np.float32)
    count = len(windows)
    apart = means(fine, averaging(quarters(windows), FINE_GRID, SIDE))
    apart = tf.reshape(tf.transpose(tf.reshape(apart, [4, count, -1]), [1, 0, 2]), [count, -1])
    whole = means(coarse, averaging(windows, COARSE_GRID, SIDE))
    both = tf.concat([tf.math.l2_normalize(apart, axis=-1), tf.math.l2_normalize(whole, axis=-1)], axis=-1)
    return np.asarray(both, np.float32)


def learn_entry(features: NDArray[Any]) -> Entry:
    """Standardise pooled features and find their principal components, each scaled to a variance of about one.

    Args:
        features: [n, C].

    Raises:
        FitError: they have no spread.
    """
    rows = features.astype(np.float32)
    mean, deviation = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64) + _LEAST_DEVIATION
    rows -= mean.astype(np.float32)
    rows /= deviation.astype(np.float32)
    values, axes = np.linalg.eigh((rows.T @ rows).astype(np.float64) / len(rows))
    order = np.argsort(-values)[:COMPONENTS]
    order = order[values[order] > _LEAST_VARIANCE * max(values.max(), 1e-12)]
    if not len(order):
        raise FitError("all windows of all scenes look the same; give other photographs and logos")
    values, axes = values[order], axes[:, order]
    # An axis has no sign of its own; one is chosen, so that the same scenes give the same file.
    axes *= np.sign(axes[np.abs(axes).argmax(0), np.arange(len(order))])
    matrix = axes / np.sqrt(values + FLOOR * values.mean()) / deviation[:, None]
    return Entry(matrix.astype(np.float32), (-mean @ matrix).astype(np.float32))


def drawn(count: int, draw: Callable[[int], _Made]) -> Iterator[list[_Made]]:
    """What `draw` makes of 0, 1, ... count - 1, in order, in batches; threads draw ahead of who asks."""
    with ThreadPoolExecutor(_DRAWING_THREADS, "draw") as threads:
        numbers = iter(range(count))
        waiting: deque[Future[_Made]] = deque(
            threads.submit(draw, number) for number in itertools.islice(numbers, 4 * _BATCH)
        )
        while waiting:
            batch: list[_Made] = []
            while waiting and len(batch) < _BATCH:
                batch.append(waiting.popleft().result())
                waiting.extend(threads.submit(draw, number) for number in itertools.islice(numbers, 1))
            yield batch


def of_scenes(
    count: int,
    draw: Callable[[int], Scene],
    windows: Sequence[Box],
    pooled: Pooling,
    folder: Path,
    *,
    seed: int,
    progress: Progress = lambda *_: None,
) -> tuple[Rows, Entry]:
    """Windows of scenes with what they show, and the reduction that is learned on the first scenes.

    Args:
        count: how many scenes.
        draw: makes a scene of a number.
        windows: those that logos are looked for in.
        pooled: the network.
        folder: where the features are kept, in files.
        seed: chooses windows.
        progress: told how many scenes are done.

    Raises:
        FitError: no logo can be seen in any scene.
    """
    first = min(count, FIRST_SCENES)
    raw: _RowFile | None = None
    kept: _RowFile | None = None
    entry: Entry | None = None
    owners: list[int] = []
    seen: list[int] = []
    done = 0
    for scenes in drawn(count, draw):
        # Of its own chance each, so that one scene more changes nothing in the others.
        chosen = [
            shown(scene, windows, random.Random(f"{seed} windows {done + place}"))  # noqa: S311 -- no secret
            for place, scene in enumerate(scenes)
        ]
        done += len(scenes)
        boxes = [[windows[window] for window, _ in rows] for rows in chosen]
        found = np.concatenate(pooled(np.stack([scene.picture for scene in scenes]), boxes))
        owners += [owner for rows in chosen for _, owner in rows]
        seen += [window for rows in chosen for window, _ in rows]
        if kept is not None and entry is not None:
            kept.append(entry.reduce(found))
        else:
            raw = raw or _RowFile(folder / "raw.f16", found.shape[1])
            raw.append(found.astype(np.float16))
            if done >= first:
                if not len(raw.rows):
                    raise FitError(f"no logo can be seen in {done} scenes; give other photographs or logos, or more")
                entry = learn_entry(raw.rows)
                kept = _RowFile(folder / "scenes.f16", len(entry.bias))
                for part in np.array_split(raw.rows, -(-len(raw.rows) // 4096)):
                    kept.append(entry.reduce(part))
        progress("scenes", done, count)
    if kept is None or entry is None:
        raise FitError(f"{count} scenes are too few")
    return Rows(kept.rows, np.array(owners, np.int32), _sizes(windows)[seen]), entry


def of_drawings(
    count: int,
    draw: Callable[[int], tuple[NDArray[np.uint8], list[int], int]],
    windows: Sequence[Box],
    pooled: Pooling,
    entry: Entry,
    folder: Path,
    *,
    progress: Progress = lambda *_: None,
) -> Rows:
    """Windows of plain drawings of logos.

    Args:
        count: how many drawings.
        draw: makes of a number a picture, the numbers of the windows that the logo fills, and its identity.
        windows: those that logos are looked for in.
        pooled: the network.
        entry: reduces the features.
        folder: where they are kept, in a file.
        progress: told how many drawings are done.
    """
    kept = _RowFile(folder / "drawings.f16", len(entry.bias))
    owners: list[int] = []
    seen: list[int] = []
    done = 0
    for drawings in drawn(count, draw):
        boxes = [[windows[window] for window in filled] for _, filled, _ in drawings]
        kept.append(entry.reduce(np.concatenate(pooled(np.stack([picture for picture, _, _ in drawings]), boxes))))
        owners += [owner for _, filled, owner in drawings for _ in filled]
        seen += [window for _, filled, _ in drawings for window in filled]
        done += len(drawings)
        progress("drawings", done, count)
    return Rows(kept.rows, np.array(owners, np.int32), _sizes(windows)[seen])


def of_pictures(
    count: int,
    draw: Callable[[int], NDArray[np.uint8]],
    windows: Sequence[Box],
    pooled: Pooling,
    *,
    progress: Progress = lambda *_: None,
) -> Iterator[Array]:
    """The pooled features of all windows of pictures: float32 [windows, C], one by one."""
    done = 0
    for pictures in drawn(count, draw):
        for picture in pictures:
            yield pooled(picture[None], [windows])[0]
            done += 1
            progress("pictures without logos", done, count)


def _sizes(windows: Sequence[Box]) -> NDArray[np.float32]:
    edges = np.asarray(windows, np.float64)
    return np.asarray(0.5 * np.log((edges[:, 2:] - edges[:, :2]).prod(1)), np.float32)


class _RowFile:
    """A growing float16 matrix in a file, so that it holds no memory that others need."""

    def __init__(self, path: Path, width: int) -> None:
        self._path = path
        self._width = width
        self._count = 0
        path.write_bytes(b"")

    @property
    def rows(self) -> NDArray[np.float16]:
        """What is in the file so far."""
        if not self._count:
            return np.zeros((0, self._width), np.float16)
        return np.memmap(self._path, np.float16, "r", shape=(self._count, self._width))

    def append(self, rows: NDArray[np.float16]) -> None:
        with self._path.open("ab") as file:
            file.write(np.ascontiguousarray(rows).tobytes())
        self._count += len(rows)
