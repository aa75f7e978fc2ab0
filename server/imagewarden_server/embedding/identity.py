"""Which model answers: read from its card, checked against its signature."""

from __future__ import annotations

import json
from typing import Any

from imagewarden_server.embedding import _tfs
from imagewarden_server.matching.ports import ModelInfo
from imagewarden_server.matching.types import Box

SIDE = 299
OUTPUTS = ("embedding", "regions", "semantic")
_EXPORT = "export it with `imagewarden model export`"
_SHORT = 12


class ModelProblem(Exception):
    """The model cannot be used; the message says why and what to do."""


def model_info(name: str, version: int, card_json: bytes) -> ModelInfo:
    """The model as its card describes it.

    Raises:
        ModelProblem: the card is none.
    """
    try:
        card = json.loads(card_json)
        fingerprint = str(card["fingerprint"])
        boxes = tuple(Box(*(float(edge) for edge in box)) for box in card["regions"]["boxes"])
        info = ModelInfo(
            label=f"{name}/{version}@{fingerprint[:_SHORT]}",
            fingerprint=fingerprint,
            dimensions=int(card["embedding"]["dimension"]),
            semantic_dimensions=int(card["semantic"]["dimension"]),
            regions=boxes,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ModelProblem(f"model {name!r} version {version} has no readable card ({error}); {_EXPORT}") from error
    if not fingerprint or not boxes or info.dimensions < 1:
        raise ModelProblem(f"model {name!r} version {version} has an empty card; {_EXPORT}")
    return info


def check_signature(info: ModelInfo, metadata: Any) -> None:
    """Hold what the model says it takes and gives against what is asked of it.

    Args:
        info: what its card says.
        metadata: a GetModelMetadataResponse.

    Raises:
        ModelProblem: an input or output is missing, or of another type or shape.
    """
    signatures = _tfs.SignatureDefMap.FromString(metadata.metadata["signature_def"].value).signature_def
    if "serving_default" not in signatures:
        raise ModelProblem(f"model {info.label} has no signature `serving_default`; {_EXPORT}")
    signature = signatures["serving_default"]
    wanted_inputs = {"images": (_tfs.DT_UINT8, [-1, SIDE, SIDE, 3])}
    wanted_outputs = {
        "embedding": (_tfs.DT_FLOAT, [-1, info.dimensions]),
        "regions": (_tfs.DT_FLOAT, [-1, len(info.regions), info.dimensions]),
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
                    f"model {info.label} has {kind} {name!r} of dtype {found[name].dtype} and shape {has}, expected "
                    f"{dtype} and {shape}; {_EXPORT}"
                )


def _fits(found: list[int], wanted: list[int]) -> bool:
    """Whether a signature's shape lets the wanted one through: -1 stands for a size that the graph does not state.

    What is really answered is held against the card's sizes each time.
    """
    return len(found) == len(wanted) and all(size in {-1, want} for size, want in zip(found, wanted, strict=True))
