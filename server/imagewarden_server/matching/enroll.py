"""Banning pictures and hashes and registering logos: what the owner gives becomes an entry with its signals.

All is computed before anything is written, so that a bad input changes nothing; a change is acknowledged when the index
has it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imagewarden_server import media
from imagewarden_server.matching.copies import CopyDescriber
from imagewarden_server.matching.embedder import Embedder
from imagewarden_server.matching.errors import ImageTooPlain, InvalidField, WrongBankKind
from imagewarden_server.matching.hashes import ALLOWED_HASHES, check_hash
from imagewarden_server.matching.load import Turns
from imagewarden_server.matching.logos import LogoDescriber
from imagewarden_server.matching.pictures import (
    Workers,
    as_domain_error,
    decode_or_raise,
    digest_signals,
    embedding_usable,
    pdq_usable,
    require_bytes,
)
from imagewarden_server.matching.policy import PDQ_MIN_QUALITY
from imagewarden_server.matching.ports import AddedEntry, Catalog, Decoder, Idempotency, Written
from imagewarden_server.matching.revisions import Follower
from imagewarden_server.matching.types import (
    Bank,
    BankKind,
    Entry,
    HashSignal,
    NewEntry,
    SignalSummary,
    SignalType,
)
from imagewarden_server.media import Frame, MediaError, Rendering

MAX_HASHES = 10_000
"""The most hashes of one AddHashes call."""
MAX_LOGO_IMAGES = 16
"""The most pictures of one RegisterLogo call."""

_HASH_KINDS = frozenset({BankKind.BANNED, BankKind.ALLOWED})


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What AddImage or RegisterLogo answers; `entry` is as it would be where nothing was written."""

    written: Written[Entry] | None
    signals: tuple[SignalSummary, ...]
    warnings: tuple[str, ...]


class Enroller:
    """Makes entries."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        follower: Follower,
        embedder: Embedder,
        workers: Workers,
        decoder: Decoder,
        turns: Turns,
    ) -> None:
        self._catalog = catalog
        self._follower = follower
        self._workers = workers
        self._decoder = decoder
        self._turns = turns
        self._copies = CopyDescriber(embedder, workers)
        self._logos = LogoDescriber(embedder, workers)

    async def add_hashes(
        self, bank_id: str, entries: Sequence[NewEntry], *, once: Idempotency | None, validate_only: bool
    ) -> Written[list[AddedEntry]] | None:
        """Add entries of one hash each: all, or none.

        Returns:
            What became of each; None where only validation was asked.

        Raises:
            BankNotFound, WrongBankKind: the bank does not take hashes, or not these.
            InvalidField: too many, none, or a hash of a wrong length or quality.
        """
        bank = await self._bank(bank_id, _HASH_KINDS, "hashes")
        if not 1 <= len(entries) <= MAX_HASHES:
            raise InvalidField("hashes", f"has {len(entries)} hashes; send 1 to {MAX_HASHES:,} a call")
        for place, entry in enumerate(entries):
            check_hash(bank, f"hashes[{place}]", entry.hashes[0])
        if validate_only:
            return None
        return await self._follower.in_force(
            self._workers.run(lambda: self._catalog.add_hashes(bank_id, entries, bank_key=bank.key, once=once))
        )

    async def add_image(
        self,
        bank_id: str,
        image: bytes,
        said: NewEntry,
        *,
        deadline: float,
        once: Idempotency | None,
        validate_only: bool,
    ) -> Enrolled:
        """Add one picture with its digests, PDQ, embedding and semantic vector; `deadline` is monotonic seconds.

        Raises:
            BankNotFound, WrongBankKind: the bank does not take pictures.
            ImageUndecodable, ImageOverLimits, ImageTooPlain: the picture can't be recognised again.
            EmbeddingUnavailable: the model is not there; nothing was changed.
            EntryExists: the bank has these very bytes.
            Overloaded: a look at the picture would take too long; nothing was changed.
        """
        bank, entry, warnings = await self.describe_image(bank_id, image, said, deadline)
        return await self._store(bank, entry, warnings, once=once, validate_only=validate_only)

    async def describe_image(
        self, bank_id: str, image: bytes, said: NewEntry, deadline: float
    ) -> tuple[Bank, NewEntry, tuple[str, ...]]:
        """The bank, the entry that a picture would be in it, and what is weak about that. Raises as `add_image`."""
        require_bytes(image)
        bank = await self._bank(bank_id, _HASH_KINDS, "pictures")
        with self._turns.turn(deadline):
            entry, warnings = await self._look(bank, image, said)
        return bank, entry, warnings

    async def _look(self, bank: Bank, image: bytes, said: NewEntry) -> tuple[NewEntry, tuple[str, ...]]:
        picture = await self._workers.look(decode_or_raise, image, self._decoder)
        digests = await self._workers.run(media.digest, image)
        frames = [frame for frame in picture.frames if embedding_usable(frame)]
        if not frames:
            raise ImageTooPlain(
                "the picture is one flat colour, or nearly: nothing would tell its copies from other plain pictures; "
                "add its SHA-256 with AddHashes instead",
                sha256=digests.sha256.hex(),
            )
        vectors, local = await self._copies.describe(frames)
        with_pdq = [frame for frame in frames if pdq_usable(frame)]
        hashes = [
            signal
            for signal in digest_signals(digests)
            if bank.kind is BankKind.BANNED or signal.type in ALLOWED_HASHES
        ]
        hashes += _distinct(HashSignal(SignalType.PDQ, frame.pdq.bits, frame.pdq.quality) for frame in with_pdq)
        entry = dataclasses.replace(
            said,
            hashes=tuple(hashes),
            vectors=vectors,
            local=local,
            image=image,
        )
        return entry, _plain_warnings(frames, with_pdq)

    async def register_logo(
        self,
        bank_id: str,
        images: Sequence[bytes],
        said: NewEntry,
        *,
        deadline: float,
        once: Idempotency | None,
        validate_only: bool,
    ) -> Enrolled:
        """Register one logo from one or more pictures of it; `deadline` is monotonic seconds.

        Raises:
            BankNotFound, WrongBankKind: no such bank, or not a BRAND bank.
            InvalidField: no brand, or no or too many pictures.
            ImageUndecodable, ImageOverLimits: a picture can't be drawn.
            EmbeddingUnavailable: the model is not there; nothing was changed.
            Overloaded: a look at the pictures would take too long; nothing was changed.
        """
        bank = await self._bank(bank_id, frozenset({BankKind.BRAND}), "logos")
        if not said.brand:
            raise InvalidField("brand", "is empty; name the brand whose logo this is")
        if not 1 <= len(images) <= MAX_LOGO_IMAGES:
            raise InvalidField("images", f"has {len(images)} pictures; send 1 to {MAX_LOGO_IMAGES}")
        for place, image in enumerate(images):
            require_bytes(image, f"images[{place}]")
        with self._turns.turn(deadline, long=True):
            entry = await self._draw(images, said)
        return await self._store(bank, entry, (), once=once, validate_only=validate_only)

    async def _draw(self, images: Sequence[bytes], said: NewEntry) -> NewEntry:
        hashes: list[HashSignal] = []
        renderings: list[Rendering] = []
        for image in images:
            hashes += digest_signals(await self._workers.run(media.digest, image))
            renderings += await self._workers.look(self._render, image)
        described = await self._logos.describe(renderings)
        return dataclasses.replace(
            said,
            hashes=_distinct(hashes),
            vectors=described.vectors,
            local=described.local,
            thumbnail=await self._workers.run(media.thumbnail, renderings[0]),
            image=images[0],
        )

    def _render(self, image: bytes) -> list[Rendering]:
        try:
            return self._decoder.logo(image)
        except MediaError as error:
            raise as_domain_error(error, media.digest(image).sha256) from error

    async def _bank(self, bank_id: str, kinds: frozenset[BankKind], what: str) -> Bank:
        bank = await self._workers.run(self._catalog.get_bank, bank_id)
        if bank.kind not in kinds:
            names = " or ".join(sorted(kind.value.upper() for kind in kinds))
            raise WrongBankKind(
                f"{bank.name} is a {bank.kind.value.upper()} bank and takes no {what}; use a bank of kind {names}",
                bank=bank.name,
                kind=bank.kind.value.upper(),
            )
        return bank

    async def _store(
        self, bank: Bank, entry: NewEntry, warnings: tuple[str, ...], *, once: Idempotency | None, validate_only: bool
    ) -> Enrolled:
        if validate_only:
            return Enrolled(None, _summaries(entry), warnings)
        written = await self._follower.in_force(
            self._workers.run(lambda: self._catalog.add_entry(bank.id, entry, bank_key=bank.key, once=once))
        )
        return Enrolled(written, written.value.signals, warnings)


def _plain_warnings(frames: Sequence[Frame], with_pdq: Sequence[Frame]) -> tuple[str, ...]:
    if len(with_pdq) == len(frames):
        return ()
    worst = min(frame.pdq.quality for frame in frames)
    warning = (
        f"PDQ is not stored for {len(frames) - len(with_pdq)} of {len(frames)} frames: the picture has too little "
        f"structure for it (quality {worst}, at least {PDQ_MIN_QUALITY} is needed); its embedding and digests are"
    )
    return (warning,)


def _distinct(signals: Iterable[HashSignal]) -> tuple[HashSignal, ...]:
    return tuple({(signal.type, signal.value): signal for signal in signals}.values())


def _summaries(entry: NewEntry) -> tuple[SignalSummary, ...]:
    """The signals in short, as the catalogue would answer them."""
    hashes = [SignalSummary(signal.type, signal.value.hex(), signal.quality) for signal in entry.hashes]
    vectors: dict[tuple[SignalType, str], SignalSummary] = {}
    for one in entry.vectors:
        before = vectors.get((one.type, one.model), SignalSummary(one.type, model=one.model))
        vectors[one.type, one.model] = dataclasses.replace(
            before, views=before.views + len(one.vectors), dimensions=one.vectors.shape[1]
        )
    local: dict[str, SignalSummary] = {}
    for feature in entry.local:
        known = local.get(feature.extractor, SignalSummary(SignalType.LOCAL, model=feature.extractor))
        local[feature.extractor] = dataclasses.replace(
            known, views=known.views + 1, keypoints=known.keypoints + len(feature.features.points)
        )
    return (*hashes, *vectors.values(), *local.values())
