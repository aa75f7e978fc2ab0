"""One loaded version of one model: a SavedModel in a session, run by signature and by the outputs asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2

from imagewarden_serving.host.errors import Code, HostError
from imagewarden_serving.host.tensors import Array

PREDICT_METHODS = frozenset({"tensorflow/serving/predict", "tensorflow/serving/classify", "tensorflow/serving/regress"})
_RUNNERS_KEPT = 64


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a signature: the graph's name for it, its DataType, its shape (None: unknown rank)."""

    tensor: str
    dtype: int
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a model.

    Attributes:
        name: its key in the SavedModel.
        method: its method name, such as tensorflow/serving/predict.
        inputs: by alias.
        outputs: by alias.
    """

    name: str
    method: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    @property
    def batchable(self) -> bool:
        """Whether rows of several requests may share a run: every tensor has a free first dimension."""
        specs = [*self.inputs.values(), *self.outputs.values()]
        return bool(self.inputs) and all(spec.shape is not None and spec.shape[:1] == (-1,) for spec in specs)


class Servable(Protocol):
    """What the host needs of a loaded version."""

    name: str
    version: int
    signatures: Mapping[str, Signature]

    def run(self, signature: str, outputs: Sequence[str], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute these outputs, and only what they need.

        Raises:
            HostError: the graph refused the inputs.
        """
        ...

    def close(self) -> None:
        """Give the memory back; nothing may run any more."""
        ...


class SavedModelServable:
    """A SavedModel in a TensorFlow session of its own."""

    def __init__(self, name: str, version: int, path: Path, options: SessionOptions) -> None:
        """Load it.

        Raises:
            HostError: TensorFlow cannot load it; the message says why.
        """
        self.name = name
        self.version = version
        self._lock = threading.Lock()
        self._runners: OrderedDict[tuple[str, tuple[str, ...]], Callable[..., list[Array]]] = OrderedDict()
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=options.config())
        try:
            with self._session.graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], str(path))
        except tf.errors.OpError as error:
            self._session.close()
            raise HostError(Code(error.error_code), f"cannot load {path}: {error.message}") from error
        except Exception as error:  # a corrupt file raises whatever the parser that meets it raises
            self._session.close()
            raise HostError(Code.INVALID_ARGUMENT, f"cannot load {path}: {error}") from error
        self._session.graph.finalize()
        self.signature_defs: dict[str, Any] = dict(meta_graph.signature_def)
        self.signatures: Mapping[str, Signature] = {
            key: _signature(key, definition) for key, definition in self.signature_defs.items()
        }

    def run(self, signature: str, outputs: Sequence[str], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute these outputs, and only what they need: see `Servable.run`. Thread-safe."""
        runner = self._runner(signature, tuple(outputs))
        feeds = [inputs[alias] for alias in sorted(self.signatures[signature].inputs)]
        try:
            return dict(zip(outputs, runner(*feeds), strict=True))
        except tf.errors.OpError as error:
            raise HostError(Code(error.error_code), error.message) from error

    def _runner(self, signature: str, outputs: tuple[str, ...]) -> Callable[..., list[Array]]:
        key = (signature, outputs)
        with self._lock:
            runner = self._runners.get(key)
            if runner is None:
                called = self.signatures[signature]
                options = config_pb2.CallableOptions(
                    feed=[called.inputs[alias].tensor for alias in sorted(called.inputs)],
                    fetch=[called.outputs[alias].tensor for alias in outputs],
                )
                # Session.run casts what it is fed and checks shapes, which tensorflow_model_server does not; the
                # callable below, on which Keras stands too, feeds the graph as it is asked to.
                runner = self._session._make_callable_from_options(options)  # noqa: SLF001 - there is no public way
                self._runners[key] = runner
                if len(self._runners) > _RUNNERS_KEPT:
                    self._runners.popitem(last=False)
            else:
                self._runners.move_to_end(key)
            return runner

    def close(self) -> None:
        """Give the memory back."""
        self._runners.clear()
        self._session.close()


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a session computes.

    Attributes:
        intra_op: threads within one operation; 0 lets TensorFlow choose.
        inter_op: threads between operations; 0 lets TensorFlow choose.
        bfloat16: whether products take bfloat16: see `host.precision`.
    """

    intra_op: int = 0
    inter_op: int = 0
    bfloat16: bool = False

    def config(self) -> Any:
        """The session's ConfigProto."""
        made = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=self.intra_op, inter_op_parallelism_threads=self.inter_op
        )
        if self.bfloat16:
            rewriting = made.graph_options.rewrite_options
            rewriting.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
        return made


def _signature(name: str, definition: meta_graph_pb2.SignatureDef) -> Signature:
    return Signature(
        name,
        definition.method_name,
        {alias: _spec(info) for alias, info in definition.inputs.items()},
        {alias: _spec(info) for alias, info in definition.outputs.items()},
    )


def _spec(info: Any) -> TensorSpec:
    shape = None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)
    return TensorSpec(info.name, info.dtype, shape)
