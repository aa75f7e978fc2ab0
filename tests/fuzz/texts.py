"""Targets: small formats of our own that come back from strangers or from the disk: features, tokens, keys, hashes."""

from __future__ import annotations

import base64
import binascii
import random
import re

import numpy as np
from tests.fuzz import wounds
from tests.fuzz.target import Flip, Target, said

from imagewarden import Hash, SignalType
from imagewarden.v1 import bank_service_pb2 as pb
from imagewarden_server.access.keys import id_of
from imagewarden_server.api import paging
from imagewarden_server.catalog.errors import DamagedFeatures
from imagewarden_server.catalog.features import MOST_KEYPOINTS, decode_features, encode_features
from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.revisions import decode_revision, encode_revision
from imagewarden_server.matching.visible import Banks

CATALOG = "0123456789abcdef0123456789abcdef"
MOST_NUMBER = 2**63 - 1
"""What SQLite keeps as a whole number."""

_REQUEST = pb.ListBanksRequest(page_size=10)
_DIGITS = {SignalType.SHA256: 64, SignalType.SHA1: 40, SignalType.MD5: 32, SignalType.PDQ: 64}


def run_features(data: bytes) -> None:
    """Local features from the disk: they are as they were written, or damaged."""
    try:
        features = decode_features(data)
    except DamagedFeatures as error:
        said(str(error))
        return
    count = len(features.points)
    assert count <= MOST_KEYPOINTS
    assert features.points.shape == (count, 4)
    assert features.points.dtype == np.float32
    assert features.descriptors.shape == (count, 128)
    assert features.descriptors.dtype == np.uint8
    assert np.isfinite(features.points).all()
    assert features.aspect > 0
    again = decode_features(encode_features(features))
    np.testing.assert_array_equal(again.points, features.points)
    np.testing.assert_array_equal(again.descriptors, features.descriptors)
    assert again.aspect == features.aspect


def run_revision(data: bytes) -> None:
    """Tokens of revisions, as a caller sends them back."""
    token = data.decode("utf-8", "replace")
    try:
        revision = decode_revision(CATALOG, token)
    except InvalidField as error:
        said(error.message)
        return
    assert 0 <= revision <= MOST_NUMBER
    assert encode_revision(CATALOG, revision) == token, "a token is written in one way"
    str(revision)


def run_page(data: bytes) -> None:
    """Tokens of pages, as a caller sends them back; whoever can count may make one."""
    token = data.decode("utf-8", "replace")
    try:
        after = paging.after_of(_REQUEST, token)
    except InvalidField as error:
        said(error.message)
        return
    assert 0 <= after <= MOST_NUMBER
    assert not token or paging.after_of(_REQUEST, paging.next_token(_REQUEST, after)) == after


def _page_changed(data: bytes, chance: random.Random, flip: Flip) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))
    except (binascii.Error, ValueError):
        raw = b""
    if chance.random() < 0.2 or len(raw) < 9:
        return flip(data)
    return base64.urlsafe_b64encode(raw[:8] + flip(raw[8:])).rstrip(b"=")


def run_key(data: bytes) -> None:
    """What is shown as a key, and what is said of banks when one is made."""
    text = data.decode("utf-8", "replace")
    id_ = id_of(text)
    assert id_ is None or re.fullmatch(r"iw_[0-9a-z]{10}_[A-Za-z0-9_-]{43}", text)
    try:
        banks = Banks(tuple(text.split(",")))
    except ValueError as error:
        said(str(error), 20_000)
        return
    assert all(banks.has(pattern.rstrip("*")) for pattern in banks.patterns if pattern != "*")


def run_hash(data: bytes) -> None:
    """A known hash as people write it."""
    text = data.decode("utf-8", "replace")
    for type_ in (None, *_DIGITS):
        try:
            found = Hash.parse(text, type=type_)
        except ValueError as error:
            said(str(error))
            continue
        assert re.fullmatch(r"[0-9a-f]+", found.hex)
        assert len(found.hex) == _DIGITS[found.type]
        assert Hash.parse(f"{found.type}:{found.hex}") == found


def targets() -> list[Target]:
    """One a format."""
    return [
        Target("features", run_features, wounds.checked_by_crc, most_bytes=8_192),
        Target(
            "revision-token", run_revision, words=(f"r1.{CATALOG[:12]}.".encode(), b"7fffffffffffffff", b"_", b"0x")
        ),
        Target("page-token", run_page, _page_changed, most_bytes=256),
        Target("key", run_key, words=(b"iw_", b"*", b",", b"abuse"), most_bytes=256),
        Target(
            "hash", run_hash, words=(b"sha256:", b"sha1:", b"md5 ", b"pdq:", b"SHA-256", b"embedding:"), most_bytes=256
        ),
    ]
