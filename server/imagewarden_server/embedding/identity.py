"""Which model answers: read from its card, checked against its signature."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError

from imagewarden_server.embedding import _tfs
from imagewarden_server.matching.embedder import ModelInfo
from imagewarden_server.matching.types import Box

SIDE = 299
OUTPUTS = ("embedding", "regions", "logos", "semantic")
_EXPORT = "export it with `imagewarden model export`"
_SHORT = 12
_MOST_BACKGROUND = 10_000
_FINGERPRINT = re.compile(r"[0-9a-f]{64}", re.ASCII)


class ModelProblem(Exception):
    """The model cannot be used; the message says why and what to do."""


def model_info(name: str, version: int, card_json: bytes) -> ModelInfo:
    """The model as its card describes it.

    Raises:
        ModelProblem: the card is none, or states what cannot be.
    """
    try:
        card = json.loads(card_json)
        fingerprint = str(card["fingerprint"])
        info = ModelInfo(
            label=f"{name}/{version}@{fingerprint[:_SHORT]}",
            fingerprint=fingerprint,
            dimensions=int(card["embedding"]["dimension"]),
            semantic_dimensions=int(card["semantic"]["dimension"]),
            logo_dimensions=int(card["logos"]["dimension"]),
            regions=_boxes(card["regions"]["boxes"]),
            logo_windows=_boxes(card["logos"]["boxes"]),
            copy_background=_counts(card["embedding"]["background"]),
            logo_background=_counts(card["logos"]["background"]),
        )
    # A card may nest without end, or state a dimension of Infinity.
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise ModelProblem(
            f"model {name!r} version {version} has no readable card ({type(error).__name__}: {error}); {_EXPORT}"
        ) from error
    if problem := _card_problem(info):
        raise ModelProblem(f"model {name!r} version {version} has a card that makes no sense: {problem}; {_EXPORT}")
    return info


def version_of(info: ModelInfo) -> int:
    """The version that `model_info` was told."""
    return int(info.label.rpartition("@")[0].rpartition("/")[2])


def _boxes(boxes: Sequence[Sequence[float]]) -> tuple[Box, ...]:
    return tuple(Box(*(float(edge) for edge in box)) for box in boxes)


def _counts(background: Sequence[int]) -> tuple[int, int]:
    """Pictures, and windows of each."""
    return int(background[0]), int(background[1])


def _card_problem(info: ModelInfo) -> str:
    """What of a card cannot be true; empty where nothing is."""
    if not _FINGERPRINT.fullmatch(info.fingerprint):
        return f"its fingerprint {info.fingerprint[:80]!r} is no SHA-256 in hexadecimal"
    dimensions = (info.dimensions, info.semantic_dimensions, info.logo_dimensions)
    if min(dimensions) < 1:
        return f"its dimensions are {dimensions}"
    if not info.regions or not info.logo_windows:
        return "it has no regions, or no windows for logos"
    for background in (info.copy_background, info.logo_background):
        if not 0 <= min(background) <= max(background) <= _MOST_BACKGROUND:
            return f"it has a background of {background}"
    for box in (*info.regions, *info.logo_windows):
        if not (0 <= box.left < box.right <= 1 and 0 <= box.top < box.bottom <= 1):
            return f"its region {[box.left, box.top, box.right, box.bottom]} is no box inside the picture"
    return ""


def check_signature(info: ModelInfo, metadata: Any) -> None:
    """Hold what the model says it takes and gives against what is asked of it.

    Args:
        info: what its card says.
        metadata: a GetModelMetadataResponse.

    Raises:
        ModelProblem: an input or output is missing, or of another type or shape.
    """
    try:
        signatures = _tfs.SignatureDefMap.FromString(metadata.metadata["signature_def"].value).signature_def
    except DecodeError as error:
        raise ModelProblem(f"model {info.label} has metadata that cannot be read ({error}); {_EXPORT}") from error
    if "serving_default" not in signatures:
        raise ModelProblem(f"model {info.label} has no signature `serving_default`; {_EXPORT}")
    signature = signatures["serving_default"]
    wanted_inputs = {"images": (_tfs.DT_UINT8, [-1, SIDE, SIDE, 3])}
    wanted_outputs = {
        "embedding": (_tfs.DT_FLOAT, [-1, info.dimensions]),
        "regions": (_tfs.DT_FLOAT, [-1, len(info.regions), info.dimensions]),
        "logos": (_tfs.DT_FLOAT, [-1, len(info.logo_windows), info.logo_dimensions]),
        "semantic": (_tfs.DT_FLOAT, [-1, info.semantic_dimensions]),
    }
    for kind, wanted, found in (
        ("input", wanted_inputs, signature.inputs),
        ("output", wanted_outputs, signature.outputs),
    ):
        for name, (dtype, shape) in wanted.items():
            if name not in found:
                raise ModelProblem(f"model {info.label} has no {kind} {name!r}; {_EXPORT}")
            has = [dimension.size for dimension in found[name].tensor_shape.dim]
            if found[name].dtype != dtype or not _fits(has, shape):
                raise ModelProblem(
                    f"model {info.label} has {kind} {name!r} of {_tfs.dtype_name(found[name].dtype)} and shape {has}, "
                    f"expected {_tfs.dtype_name(dtype)} and {shape}; {_EXPORT}"
                )


def _fits(found: list[int], wanted: list[int]) -> bool:
    """Whether a signature's shape lets the wanted one through: -1 stands for a size that the graph does not state.

    What is really answered is held against the card's sizes each time.
    """
    return len(found) == len(wanted) and all(size in {-1, want} for size, want in zip(found, wanted, strict=True))
