"""Training the head: a window that shows a logo and a drawing of that logo shall have like vectors.

InfoNCE (van den Oord, Li, Vinyals: Representation Learning with Contrastive Predictive Coding, 2018) both ways between
windows and drawings of a batch, each identity once, with windows that show no logo among what drawings are told from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_serving.architectures import keras_with_tensorflow
from imagewarden_serving.fitting.features import Array
from imagewarden_serving.fitting.logos_features import Rows
from imagewarden_serving.fitting.pictures import FitError

DIMENSION = 256
HIDDEN = 1024
STEPS = 2500
BATCH = 384
RATE = 2e-3
"""The highest learning rate."""
WARM_UP = 0.1
"""The share of the steps in which it is reached."""
DROPOUT = 0.2
WEIGHT_DECAY = 0.05
TEMPERATURE = 0.07
"""Cosines are divided by it at first; then it is learned."""
MOST_SCALE = 40.0
"""Cosines are multiplied by this at most."""
SIZE_SPREAD = 0.35
"""A window is paired with drawings of its size: their chance falls by e for each such step of the logarithm."""
DRAWINGS_WEIGHT = 0.3
"""What the likeness of two drawings of a logo counts beside a window and a drawing."""
HELD_OUT = 200
"""So many logos are not trained on but tested on, an eighth of all at most."""

SIZES = (-1.7, -1.2, -0.7, 0.0)
"""Up to which sizes of windows the test counts together, as `Rows.sizes`."""

Progress = Callable[[str, int, int], None]
_HELD_OUT_PARTS = 8
_HELD_OUT_BACKGROUND = 3000
_FALSE_ALARMS = 1e-3
_DIV_FIRST, _DIV_LAST = 25.0, 25e4
_LEAST_IDENTITIES = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train.

    Attributes:
        steps: of the optimiser, a batch each.
        seed: of all that is left to chance.
        held_out: see `HELD_OUT`; 0: train on all.
        batch: windows of logos a step, and as many without.
    """

    steps: int = STEPS
    seed: int = 1
    held_out: int = HELD_OUT
    batch: int = BATCH


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained head.

    Attributes:
        arrays: `linear` [K, D], `hidden` [K, H], `output` [H, D] and their biases, of `logo_head.LogoHead`.
        losses: one a step.
        test: what it finds of the logos held out, by the windows' size; empty where none are.
        identities: how many were trained on.
    """

    arrays: dict[str, Array]
    losses: list[float]
    test: list[dict[str, float]]
    identities: int


@dataclass(frozen=True, slots=True)
class _Grouped:
    """Rows by identity: those of identity i are order[starts[i] : starts[i] + counts[i]]."""

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]

    def any_of(self, identities: NDArray[np.int64], chance: np.random.Generator) -> NDArray[np.int64]:
        """One row of each identity, by chance."""
        offsets = (chance.random(len(identities)) * self.counts[identities]).astype(np.int64)
        return np.asarray(self.order[self.starts[identities] + offsets])

    def like(
        self, identities: NDArray[np.int64], sizes: Array, wanted: Array, chance: np.random.Generator
    ) -> NDArray[np.int64]:
        """One row of each identity, the rather the nearer its size is to the one wanted."""
        counts = self.counts[identities]
        places = np.minimum(np.arange(counts.max()), counts[:, None] - 1) + self.starts[identities][:, None]
        rows = self.order[places]
        weights = np.exp(-np.abs(sizes[rows] - wanted[:, None]) / SIZE_SPREAD)
        weights[np.arange(counts.max())[None, :] >= counts[:, None]] = 0
        sums = weights.cumsum(1)
        chosen = (sums > (chance.random(len(rows)) * sums[:, -1])[:, None]).argmax(1)
        return np.asarray(rows[np.arange(len(rows)), chosen], np.int64)


def train(
    scenes: Rows,
    drawings: Rows,
    logos: NDArray[np.int32],
    settings: Settings,
    progress: Progress = lambda *_: None,
) -> Trained:
    """Train a head.

    Args:
        scenes: windows of scenes.
        drawings: windows of drawings; those of an identity that no scene shows are not used.
        logos: int32 [identities], the logo that each identity is a turn of; the first of a logo's is as it is.
        settings: how.
        progress: told how many steps are done.

    Raises:
        FitError: there is too little to tell apart, or the training diverges.
    """
    chance = np.random.default_rng(settings.seed)
    shown, drawn = _grouped(scenes.owners, len(logos)), _grouped(drawings.owners, len(logos))
    usable = np.flatnonzero((shown.counts > 0) & (drawn.counts > 0))
    number = min(settings.held_out, len(np.unique(logos[usable])) // _HELD_OUT_PARTS)
    held = np.isin(logos, chance.permutation(np.unique(logos[usable]))[:number])
    learned = usable[~held[usable]]
    without = chance.permutation(np.flatnonzero(scenes.owners < 0))
    spared = min(_HELD_OUT_BACKGROUND, len(without) // _HELD_OUT_PARTS) if number else 0
    tested, background = without[:spared], without[spared:]
    if len(learned) < _LEAST_IDENTITIES or not len(background):
        raise FitError(
            f"{len(learned)} logos with {len(background)} windows without one are too little to train on; "
            "give more logos or make more scenes"
        )
    head, step = _network(scenes.features.shape[1], settings)
    batch = min(settings.batch, len(learned))
    losses = []
    for count in range(settings.steps):
        identities = chance.choice(learned, batch, replace=False)
        windows = shown.any_of(identities, chance)
        alike = drawn.like(identities, drawings.sizes, scenes.sizes[windows], chance)
        other = drawn.any_of(identities, chance)
        empty = background[(chance.random(batch) * len(background)).astype(np.int64)]
        rows = (scenes.features[windows], drawings.features[alike], drawings.features[other], scenes.features[empty])
        loss = step(np.concatenate(rows).astype(np.float32), one_cycle(count, settings.steps))
        if not math.isfinite(loss):
            raise FitError(f"the training diverged at step {count + 1} of {settings.steps}; lower RATE")
        losses.append(loss)
        progress("training", count + 1, settings.steps)
    firsts = np.zeros(len(logos), bool)
    firsts[np.unique(logos, return_index=True)[1]] = True
    asked = usable[(held & firsts)[usable]]
    test = _test(head, scenes, drawings, asked, tested) if len(asked) and len(tested) else []
    return Trained(_arrays(head), losses, test, len(learned))


def one_cycle(step: int, steps: int) -> float:
    """The learning rate of a step: up along a cosine, then down (Smith, Topin: Super-Convergence, 2018)."""
    top = max(1.0, WARM_UP * steps - 1)
    if step <= top:
        return _between(RATE / _DIV_FIRST, RATE, step / top)
    return _between(RATE, RATE / _DIV_LAST, (step - top) / max(1.0, steps - 1 - top))


def _between(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * min(1.0, share))) / 2


def _grouped(owners: NDArray[np.int32], identities: int) -> _Grouped:
    order = np.argsort(owners, kind="stable")
    starts = np.searchsorted(owners[order], np.arange(identities + 1))
    return _Grouped(order, starts[:-1], np.diff(starts))


def _network(width: int, settings: Settings) -> tuple[Any, Callable[[Array, float], float]]:
    """The untrained head, and a step of its training: from a batch's four parts, on one another, and a rate."""
    keras = keras_with_tensorflow()
    import tensorflow as tf  # noqa: PLC0415 -- keras is sure to compute with it only now

    def dense(units: int, name: str, spread: Any) -> Any:
        return keras.layers.Dense(units, name=name, kernel_initializer=spread)

    seeds = iter(range(settings.seed, settings.seed + 5))
    uniform = {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"}
    entered = keras.Input((width,))
    dropped = keras.layers.Dropout(DROPOUT, seed=next(seeds))(entered)
    straight = dense(DIMENSION, "linear", keras.initializers.VarianceScaling(**uniform, seed=next(seeds)))(dropped)
    inner = dense(HIDDEN, "hidden", keras.initializers.VarianceScaling(**uniform, seed=next(seeds)))(dropped)
    inner = keras.layers.Dropout(DROPOUT, seed=next(seeds))(keras.ops.gelu(inner, approximate=True))
    # Small at first: the straight way is learned before the other adds to it.
    bent = dense(DIMENSION, "output", keras.initializers.RandomNormal(stddev=0.02, seed=next(seeds)))(inner)
    head = keras.Model(entered, keras.layers.UnitNormalization(axis=-1)(keras.layers.Add()([straight, bent])))
    scale = keras.Variable(math.log(1 / TEMPERATURE), name="scale")
    optimiser = keras.optimizers.AdamW(RATE, weight_decay=WEIGHT_DECAY, epsilon=1e-8)
    variables = [*head.trainable_variables, scale]
    optimiser.build(variables)

    @tf.function(input_signature=[tf.TensorSpec([None, width], tf.float32)])  # type: ignore[untyped-decorator]
    def learn(rows: Any) -> Any:
        with tf.GradientTape() as tape:
            window, alike, other, empty = tf.split(head(rows, training=True), 4)
            factor = tf.minimum(tf.exp(scale.value), MOST_SCALE)
            own = tf.range(tf.shape(window)[0])
            loss = (
                _told_apart(tf, own, factor * tf.matmul(window, alike, transpose_b=True))
                + _told_apart(tf, own, factor * tf.matmul(alike, tf.concat([window, empty], 0), transpose_b=True))
                + DRAWINGS_WEIGHT * _told_apart(tf, own, factor * tf.matmul(alike, other, transpose_b=True))
            )
        optimiser.apply(tape.gradient(loss, [one.value for one in variables]), variables)
        return loss

    def step(rows: Array, rate: float) -> float:
        optimiser.learning_rate.assign(rate)
        return float(learn(rows))

    return head, step


def _told_apart(tf: Any, own: Any, logits: Any) -> Any:
    """The mean cross entropy of each row's own column."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(own, logits))


def _arrays(head: Any) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for name in ("linear", "hidden", "output"):
        kernel, bias = head.get_layer(name).get_weights()
        arrays |= {name: np.asarray(kernel, np.float32), f"{name}_bias": np.asarray(bias, np.float32)}
    return arrays


def _test(
    head: Any, scenes: Rows, drawings: Rows, identities: NDArray[np.int64], background: NDArray[np.int64]
) -> list[dict[str, float]]:
    """What is found of identities that were not trained on, at one false alarm in a thousand windows.

    Returns:
        For each of `SIZES` that any window is of: `up_to`, `windows`, `found` (the share of the windows whose own
        drawings are over the threshold) and `first` (whose best drawing is their own).
    """

    def vectors(rows: Rows, which: NDArray[np.int64]) -> Array:
        return np.asarray(head(rows.features[which].astype(np.float32), training=False), np.float32)

    asked, drawn = (
        np.flatnonzero(np.isin(scenes.owners, identities)),
        np.flatnonzero(np.isin(drawings.owners, identities)),
    )
    known = vectors(drawings, drawn)
    threshold = np.quantile((vectors(scenes, background) @ known.T).max(1), 1 - _FALSE_ALARMS)
    alike = vectors(scenes, asked) @ known.T
    same = scenes.owners[asked][:, None] == drawings.owners[drawn][None, :]
    own, others = np.where(same, alike, -1).max(1), np.where(same, -1, alike).max(1)
    test, low = [], -math.inf
    for size in SIZES:
        these = (scenes.sizes[asked] > low) & (scenes.sizes[asked] <= size)
        low = size
        if these.any():
            test.append(
                {
                    "up_to": round(math.exp(size), 3),
                    "windows": int(these.sum()),
                    "found": round(float((own[these] > threshold).mean()), 4),
                    "first": round(float((own[these] > others[these]).mean()), 4),
                }
            )
    return test
