"""The fused score: PDQ, embedding and local features of one entry taken together by a logistic model.

The weights were fitted by `imagewarden eval fuse` on pictures that nothing is measured on; the file says which.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from imagewarden_server.matching.types import BankKind

_FILE = Path(__file__).parent / "data" / "fusion.json"
_PDQ_REACH = 128.0


@dataclass(frozen=True, slots=True)
class Fusion:
    """sigmoid(bias + pdq * closeness + embedding * score + local * ln(1 + score)).

    Closeness is 1 for equal PDQ hashes and 0 from 128 bits on, which is how far apart two hashes are by chance. What
    was not compared counts as nothing found.
    """

    bias: float
    pdq: float
    embedding: float
    local: float

    def score(self, bits: float | None, embedding: float | None, local: float | None) -> float:
        """The fused score, 0 to 1.

        Args:
            bits: PDQ's Hamming distance.
            embedding: the embedding's score, in the unit of its threshold.
            local: the geometric check's score: see `geometry.Verified`.
        """
        closeness = 0.0 if bits is None else max(0.0, 1.0 - bits / _PDQ_REACH)
        raw = (
            self.bias
            + self.pdq * closeness
            + self.embedding * max(0.0, embedding or 0.0)
            + self.local * math.log1p(max(0.0, local or 0.0))
        )
        return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, raw))))


def read(text: str) -> dict[str, Fusion]:
    """The models of a fusion file, `copies` and `logos`.

    Raises:
        ValueError: the text is no such file.
    """
    try:
        content: Mapping[str, Mapping[str, Mapping[str, float]]] = json.loads(text)
        return {
            name: Fusion(
                bias=float(content[name]["bias"]),  # type: ignore[arg-type]
                **{signal: float(content[name]["weights"][signal]) for signal in ("pdq", "embedding", "local")},
            )
            for name in ("copies", "logos")
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"no fusion file: {error!r}") from error


@cache
def _shipped() -> dict[str, Fusion]:
    return read(_FILE.read_text(encoding="utf-8"))


def fusion_for(kind: BankKind) -> Fusion:
    """The shipped model for the entries of a kind of bank."""
    return _shipped()["logos" if kind is BankKind.BRAND else "copies"]
