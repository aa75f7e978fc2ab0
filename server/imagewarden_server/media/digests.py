"""Digests of a file's bytes."""

from __future__ import annotations

import hashlib

from imagewarden_server.media.types import Digests


def sha256(data: bytes) -> bytes:
    """SHA-256 of the bytes as they came (FIPS 180-4), 32 bytes."""
    return hashlib.sha256(data).digest()


def digest(data: bytes) -> Digests:
    """SHA-256, SHA-1 and MD5 of the bytes as they came.

    SHA-1 and MD5 are here since exchanges list pictures by them, not since they are secure.
    """
    return Digests(
        sha256=sha256(data),
        sha1=hashlib.sha1(data, usedforsecurity=False).digest(),
        md5=hashlib.md5(data, usedforsecurity=False).digest(),
    )
