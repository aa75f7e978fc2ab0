"""A SavedModel as a model server sees it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Array = NDArray[np.float32]


class SavedModel:
    """A SavedModel as the real server has it: a session, and signatures that name tensors to feed and to fetch."""

    def __init__(self, directory: Path) -> None:
        self.graph = tf.Graph()
        self.session = tf.compat.v1.Session(graph=self.graph)
        with self.graph.as_default():
            loaded = tf.compat.v1.saved_model.load(self.session, [tf.saved_model.SERVING], str(directory))
        self.signatures: Mapping[str, Any] = loaded.signature_def

    def run(self, signature: str, value: object, outputs: tuple[str, ...] = (), **options: Any) -> dict[str, Array]:
        chosen = self.signatures[signature]
        fetches = {name: chosen.outputs[name].name for name in outputs or chosen.outputs}
        (fed,) = chosen.inputs.values()
        found: dict[str, Array] = self.session.run(fetches, {fed.name: value}, **options)
        return found

    def close(self) -> None:
        self.session.close()
