"""What is kept of the pictures that were checked lately, so that a policy can be tried on them: no pixels.

Of a picture some kilobytes: its digests, the PDQ hashes and the whole picture's embedding that its check compared, and
what the check measured of entries, those too that did not match.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.matching.lookup import Now, utc_now
from imagewarden_server.matching.types import HashSignal, SignalType, Vectors
from imagewarden_server.matching.walk import Walk

KEPT_FOR = timedelta(hours=24)
MEASURED = (SignalType.PDQ, SignalType.EMBEDDING, SignalType.LOCAL)
"""The signals of the columns of `Kept.values`."""
_MOST_ENTRIES = 256
"""Of a picture that so many entries are near to, no more are kept."""
_OVERHEAD = 700
_WEAK_BYTES = 150
"""That each of SHA-1 and MD5 takes."""
"""Bytes that a picture takes beside its arrays: the digest, the object, the dictionary's place, the arrays' heads."""

# Most of a busy server's checks end at a digest: they share these.
_NO_ENTRIES = np.empty(0, np.int64)
_NO_VALUES = np.empty((0, len(MEASURED)), np.float32)
_NO_VECTORS = np.empty((0, 0), np.float32)

_RAN = {"vector_search": SignalType.EMBEDDING, "local_search": SignalType.LOCAL}


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one picture.

    Attributes:
        time: when it was last checked.
        weak: its SHA-1 and MD5; of none where no check has computed them.
        banks: the keys of the banks that it was compared with.
        hashes: the PDQ bits that were compared, 32 bytes each: eight turns of each frame.
        model: the fingerprint of the model of `vectors`; empty where there are none.
        vectors: of the whole picture, float32 [n, dimensions], unit norm; a row a frame, and of a thorough check its
            parts.
        ran: the signals that were compared.
        entries: the keys of the entries that it was measured against, int64 [m].
        values: what was measured, float32 [m, 3]: PDQ, EMBEDDING, LOCAL, in the units of their thresholds; NaN:
            nothing.
    """

    sha256: bytes
    time: datetime
    weak: tuple[HashSignal, ...]
    banks: frozenset[int]
    hashes: tuple[bytes, ...]
    model: str
    vectors: Vectors
    ran: frozenset[SignalType]
    entries: NDArray[np.int64]
    values: NDArray[np.float32]

    @property
    def digests(self) -> tuple[HashSignal, ...]:
        """The digests of the file that are known."""
        return (HashSignal(SignalType.SHA256, self.sha256), *self.weak)

    @property
    def nbytes(self) -> int:
        """The memory it takes."""
        arrays = self.vectors.nbytes + self.entries.nbytes + self.values.nbytes
        return _OVERHEAD + arrays + 72 * len(self.hashes) + 40 * len(self.banks) + _WEAK_BYTES * len(self.weak)


class Window:
    """The pictures that were checked last, each file once; of one event loop.

    Args:
        room: bytes; 0: nothing is kept.
        now: the time.
    """

    def __init__(self, room: int, now: Now = utc_now) -> None:
        self._room = room
        self._now = now
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """The memory that is used."""
        return self._bytes

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self._kept)

    def add(self, walk: Walk, sha256: bytes) -> None:
        """Keep what a check had of a picture; where it had no look at the pixels, what an earlier one had."""
        if not self._room:
            return
        before = self._kept.pop(sha256, None)
        if before is not None:
            self._bytes -= before.nbytes
        # What was computed of the file stays true.
        weak = walk.weak or (() if before is None else before.weak)
        if before is not None and not walk.hashes:
            # Known of an earlier check, or decided by its digest now: and so does what was seen of its pixels.
            kept = replace(before, time=self._now(), weak=weak)
        else:
            kept = _kept(walk, sha256, weak, self._now())
        self._kept[sha256] = kept
        self._bytes += kept.nbytes
        self.shrink()

    def pictures(self) -> list[Kept]:
        """All that is kept, the newest first."""
        self.shrink()
        return list(reversed(self._kept.values()))

    def shrink(self) -> None:
        """Forget what is too old, and what there is no room for; to be asked now and then, where nobody checks."""
        oldest = self._now() - KEPT_FOR
        while self._kept:
            first = next(iter(self._kept.values()))
            if self._bytes <= self._room and first.time >= oldest:
                return
            self._kept.popitem(last=False)
            self._bytes -= first.nbytes


def _kept(walk: Walk, sha256: bytes, weak: tuple[HashSignal, ...], time: datetime) -> Kept:
    ran = {signal for stage, signal in _RAN.items() if stage in walk.timings}
    if walk.hashes:
        ran.add(SignalType.PDQ)
    measured = walk.candidates.values(MEASURED, _MOST_ENTRIES)
    return Kept(
        sha256=sha256,
        time=time,
        weak=weak,
        banks=frozenset(bank.key for bank in walk.scope.banks),
        hashes=tuple(walk.hashes),
        model=walk.whole[0] if walk.whole is not None else "",
        vectors=walk.whole[1] if walk.whole is not None else _NO_VECTORS,
        ran=frozenset(ran),
        entries=np.array([key for key, _ in measured], np.int64) if measured else _NO_ENTRIES,
        values=np.array([values for _, values in measured], np.float32) if measured else _NO_VALUES,
    )
