"""Parts of lists' records that are more than hashes: vectors and local features, made by chance, of no picture."""

from __future__ import annotations

import numpy as np

from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import types_pb2 as types
from imagewarden_server.catalog.features import encode_features
from imagewarden_server.matching.types import LocalFeatures
from imagewarden_server.media import EXTRACTOR

MODEL = "0" * 64
"""The fingerprint of no model that there is."""


def vectors(
    type_: types.SignalType.ValueType, views: int, dimensions: int, chance: np.random.Generator
) -> banks_pb.RecordVectors:
    """Vectors of one picture, one a view."""
    data = chance.normal(size=(views, dimensions)).astype(np.float32)
    data /= np.linalg.norm(data, axis=1, keepdims=True)
    return banks_pb.RecordVectors(
        type=type_, model_version=MODEL, dimensions=dimensions, data=data.astype("<f4").tobytes(), deviation=1.0
    )


def features(keypoints: int, chance: np.random.Generator) -> banks_pb.RecordFeatures:
    """The keypoints of one view."""
    points = chance.uniform(0.1, 0.6, (keypoints, 4)).astype(np.float32)
    descriptors = chance.integers(0, 256, (keypoints, 128), np.uint8)
    return banks_pb.RecordFeatures(
        extractor=EXTRACTOR, data=encode_features(LocalFeatures(points, descriptors, aspect=1.5))
    )
