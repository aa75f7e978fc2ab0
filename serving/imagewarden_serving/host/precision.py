"""In which precision a session computes: in float32, or with bfloat16 products.

TensorFlow's own rewriting of the graph (`auto_mixed_precision_onednn_bfloat16`): convolutions and matrix products take
bfloat16 and add up in float32, what is sensitive stays float32. tensorflow_model_server has the same by
`--mixed_precision=bfloat16`. Without the instructions it would be emulated, which is slower than float32.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

_INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16"})


class Precision(StrEnum):
    """What `--mixed-precision` says."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    NONE = "none"

    def uses_bfloat16(self, processor: Path = Path("/proc/cpuinfo")) -> bool:
        """Whether sessions compute in bfloat16.

        Args:
            processor: what the kernel says of the processor; where it says nothing, AUTO is float32.
        """
        return self is Precision.BFLOAT16 or (self is Precision.AUTO and _has_instructions(processor))


def _has_instructions(processor: Path) -> bool:
    try:
        lines = processor.read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return not _INSTRUCTIONS.isdisjoint(flags.split())
