"""PreviewPolicy: what a threshold or a new entry would match among the pictures that were checked lately."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from imagewarden_server.matching.enroll import Enroller
from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.near import PDQ_REACH, BankMeasure, EntryMeasure, Measure, Measured, Near, NewMeasure
from imagewarden_server.matching.pictures import Workers
from imagewarden_server.matching.ports import Catalog, SearchIndex
from imagewarden_server.matching.types import Bank, BankKind, NewEntry, SignalType, Threshold
from imagewarden_server.matching.window import Kept, Window

TRIED = (SignalType.PDQ, SignalType.EMBEDDING, SignalType.LOCAL, SignalType.COMBINED)
"""The signals whose thresholds can be tried."""
_TIME_SHARE = 0.8
"""Of the call's time so much is spent on comparing; what is not compared then is said."""

# Where bars of a histogram end, by growing values: the first and the last are the ends of the signal's range.
_EDGES: Mapping[SignalType, tuple[float, ...]] = {
    SignalType.PDQ: (*range(0, 65, 4), 256),
    SignalType.EMBEDDING: (-2, *(step / 20 for step in range(21)), 2),
    SignalType.LOCAL: (*range(0, 41, 4), 50, 60, 80, 120, 200, 1_000),
    SignalType.COMBINED: (0, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999, 1),
}
_LOGO_EDGES = (-100, *range(21), 100)


@dataclass(frozen=True, slots=True)
class Tried:
    """What is tried.

    Attributes:
        thresholds: those to try; the others are the bank's.
        entry: the id of an entry of the bank, alone.
        new: an entry of one hash that is not there yet.
        image: a picture that is not there yet.
        everything: whether pictures count, too, that were not compared with the bank.
        deadline: monotonic seconds.
    """

    thresholds: Mapping[SignalType, Threshold] = field(default_factory=dict)
    entry: str | None = None
    new: NewEntry | None = None
    image: bytes | None = None
    nearest: int = 10
    everything: bool = True
    deadline: float = field(default_factory=lambda: time.monotonic() + 10.0)


@dataclass(frozen=True, slots=True)
class NearPicture:
    """One picture near to matching; `entry` is the name of what it is near to, empty for what is not there yet."""

    sha256: bytes
    value: float
    time: datetime
    entry: str


@dataclass(slots=True)
class SignalPreview:
    """What one signal would have matched; `bars` are begin, end and how many pictures, by growing values."""

    signal: SignalType
    threshold: Threshold
    in_force: Threshold
    compared: int = 0
    matching: int = 0
    matching_in_force: int = 0
    nearest: Sequence[NearPicture] = ()
    bars: Sequence[tuple[float, float, int]] = ()


@dataclass(slots=True)
class Preview:
    """What a policy would have matched.

    Attributes:
        pictures: how many are kept.
        compared: with how many it was compared, the newest first.
        span: the oldest and the newest of those; None: none was.
        without_digests: how many of those may be known by SHA-1 or MD5, which no check has computed of them.
    """

    pictures: int
    compared: int = 0
    span: tuple[datetime, datetime] | None = None
    matching: int = 0
    matching_in_force: int = 0
    without_digests: int = 0
    signals: list[SignalPreview] = field(default_factory=list)


class Previewer:
    """Tries policies; one at a time, since each may take a processor for as long as its call has."""

    def __init__(
        self, *, catalog: Catalog, index: SearchIndex, window: Window, enroller: Enroller, workers: Workers
    ) -> None:
        self._catalog = catalog
        self._index = index
        self._window = window
        self._enroller = enroller
        self._workers = workers
        self._one = asyncio.Lock()

    async def bank(self, bank_id: str) -> Bank:
        """The bank that is asked about. Raises BankNotFound."""
        return await self._workers.run(self._catalog.get_bank, bank_id)

    async def preview(self, bank: Bank, tried: Tried) -> Preview:
        """Hold what is tried against the pictures that are kept.

        Raises:
            InvalidField: nothing is tried, or a signal whose threshold means nothing here.
            EntryNotFound: the bank has no such entry.
            WrongBankKind, ImageUndecodable, ImageOverLimits, ImageTooPlain, EmbeddingUnavailable, Overloaded: as to
                add it.
        """
        one = tried.entry is not None or tried.new is not None or tried.image is not None
        if not tried.thresholds and not one:
            raise InvalidField("thresholds", "are empty; name one to try, or a candidate")
        for signal in tried.thresholds:
            if signal not in TRIED:
                raise InvalidField("thresholds", f"name {signal.value.upper()}; a digest is equal or not")
        new = tried.new
        if tried.image is not None:
            _, described, _ = await self._enroller.describe_image(bank.id, tried.image, NewEntry(), tried.deadline)
            new = described
        kept = [one for one in self._window.pictures() if tried.everything or bank.key in one.banks]
        until = time.monotonic() + (tried.deadline - time.monotonic()) * _TIME_SHARE
        async with self._one:
            return await self._workers.run(self._preview, bank, tried, new, kept, until)

    def _preview(self, bank: Bank, tried: Tried, new: NewEntry | None, kept: Sequence[Kept], until: float) -> Preview:
        in_force = {signal: bank.policy.thresholds[signal] for signal in TRIED}
        thresholds = {**in_force, **tried.thresholds}
        measure = self._measure(bank, tried, new, kept, thresholds)
        preview, rows = Preview(len(kept)), []
        for one in kept:
            if time.monotonic() > until:
                break
            near, same = measure.near(one), measure.same(one)
            rows.append((one, near))
            preview.matching += same or _reached(near, thresholds)
            preview.matching_in_force += same or _reached(near, in_force)
            preview.without_digests += measure.weak and not (same or one.weak)
        preview.compared = len(rows)
        if rows:
            preview.span = rows[-1][0].time, rows[0][0].time
        for signal in TRIED:
            having = [(one, near[signal]) for one, near in rows if signal in near]
            if signal in tried.thresholds or (not tried.thresholds and having):
                said = SignalPreview(signal, thresholds[signal], in_force[signal], len(having))
                preview.signals.append(self._said(bank, said, having, tried.nearest))
        return preview

    def _measure(
        self,
        bank: Bank,
        tried: Tried,
        new: NewEntry | None,
        kept: Sequence[Kept],
        thresholds: Mapping[SignalType, Threshold],
    ) -> Measure:
        if new is not None:
            return NewMeasure(bank, new)
        if tried.entry is not None:
            return EntryMeasure(self._index, bank, self._catalog.get_entry(bank.id, tried.entry))
        seen = np.unique(np.concatenate([one.entries for one in kept])) if kept else np.empty(0, np.int64)
        found = self._catalog.entries_by_key([int(key) for key in seen])
        mine = np.array([key for key, entry in found.items() if entry.bank_id == bank.id], np.int64)
        limits = (thresholds[SignalType.PDQ].value, bank.policy.thresholds[SignalType.PDQ].value)
        return BankMeasure(self._index, bank, mine, min(256, max(PDQ_REACH, int(2 * max(limits)))))

    def _said(
        self, bank: Bank, said: SignalPreview, having: Sequence[tuple[Kept, Near | None]], most: int
    ) -> SignalPreview:
        """Counts, the nearest and the histogram of one signal."""
        distance = said.signal is SignalType.PDQ
        found = [(one, near) for one, near in having if near is not None]
        said.matching = sum(reaches(said.signal, near.value, said.threshold) for _, near in found)
        said.matching_in_force = sum(reaches(said.signal, near.value, said.in_force) for _, near in found)
        found.sort(key=lambda pair: pair[1].value if distance else -pair[1].value)
        said.nearest = self._named(found[:most])
        logo = bank.kind is BankKind.BRAND and said.signal is SignalType.EMBEDDING
        edges = np.array(_LOGO_EDGES if logo else _EDGES[said.signal], np.float64)
        values = np.clip([near.value for _, near in found], edges[0], edges[-1])
        counts = np.histogram(values, edges)[0]
        counts[-1 if distance else 0] += len(having) - len(found)
        said.bars = [(float(edges[place]), float(edges[place + 1]), int(count)) for place, count in enumerate(counts)]
        return said

    def _named(self, found: Sequence[tuple[Kept, Near]]) -> list[NearPicture]:
        by_key = self._catalog.entries_by_key([near.entry for _, near in found if near.entry is not None])
        by_hash = self._catalog.entries_by_hash_key([near.hash for _, near in found if near.hash is not None])

        def name(near: Near) -> str:
            entry = by_key.get(near.entry or 0) or by_hash.get(near.hash or 0)
            return "" if entry is None else entry.name

        return [NearPicture(one.sha256, near.value, one.time, name(near)) for one, near in found]


def reaches(signal: SignalType, value: float, threshold: Threshold) -> bool:
    """Whether a value is a match at a threshold."""
    if threshold.disabled:
        return False
    return value <= threshold.value if signal is SignalType.PDQ else value >= threshold.value


def _reached(near: Measured, thresholds: Mapping[SignalType, Threshold]) -> bool:
    return any(one is not None and reaches(signal, one.value, thresholds[signal]) for signal, one in near.items())
