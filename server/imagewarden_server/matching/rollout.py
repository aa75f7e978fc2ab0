"""A slow roll-out: of which pictures a bank says something, the same ones each time.

By the digest of the file and the name of the bank: so a file that comes again gets the same answer, a greater ratio
only ever adds files, and two banks of one ratio leave different files out.
"""

from __future__ import annotations

import hashlib

_WHOLE = 2**64


def takes(bank_name: str, ratio: float, sha256: bytes) -> bool:
    """Whether a picture is in the part that a bank says something of.

    Args:
        bank_name: `banks/{bank}`.
        ratio: 0 to 1: none to all.
        sha256: of the file, 32 bytes.
    """
    place = int.from_bytes(hashlib.sha256(bank_name.encode() + sha256).digest()[:8], "big")
    return place < ratio * _WHOLE
