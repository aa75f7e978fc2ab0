"""What the use cases need of the world: the catalogue, the index, the model; each is implemented in its package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from imagewarden_server.matching.listing import ALL_ENTRIES, EntryFilter
from imagewarden_server.matching.lists import Exported, Imported, ListRecord, RefusedRecord
from imagewarden_server.matching.patches import BankPatch, EntryPatch
from imagewarden_server.matching.types import (
    Bank,
    BankKind,
    Entry,
    HashSignal,
    LocalFeatures,
    NewEntry,
    Policy,
    SignalType,
    VectorModel,
    Vectors,
    VectorSpace,
)
from imagewarden_server.matching.visible import ALL_BANKS, Banks
from imagewarden_server.media import Picture, Rendering

T = TypeVar("T")


class WouldWait(Exception):
    """What was asked at once needs a lock that another holds, or a read of the catalogue."""


@dataclass(frozen=True, slots=True)
class StoredHash:
    """One hash as the index needs it: `key` is unique in the catalogue and never used again.

    Attributes:
        entry: the key of the entry that has it.
    """

    key: int
    bank: int
    type: SignalType
    value: bytes
    entry: int


@dataclass(frozen=True, slots=True)
class StoredVector:
    """One vector as the index needs it: `key` is unique among vectors and never used again.

    Attributes:
        entry: the key of the entry whose view it is.
        mean: see `types.VectorSignal`, as `deviation`.
    """

    key: int
    bank: int
    space: VectorSpace
    model: str
    vector: Vectors
    entry: int
    mean: float = 0.0
    deviation: float = 1.0


@dataclass(frozen=True, slots=True)
class StoredLocal:
    """The local features of one view of an entry as the index needs them: `key` is never used again."""

    key: int
    bank: int
    entry: int
    extractor: str
    features: LocalFeatures


@dataclass(frozen=True, slots=True)
class Change:
    """What one committed change of the catalogue means for an index, in the order of `revision`.

    Attributes:
        revision: the number of the change, from 1, without gaps.
        removed_bank: the key of a bank that is gone with all it had.
        removed_hashes: keys that are no longer compared, with all the index needs to find them.
        removed_vectors: the same of vectors; their `vector` may be empty.
        removed_locals: the same of local features; their `features` may be empty.
        added_hashes: what is compared from this change on.
        added_vectors: the same of vectors.
        added_locals: the same of local features.
    """

    revision: int
    removed_bank: int | None = None
    removed_hashes: Sequence[StoredHash] = ()
    removed_vectors: Sequence[StoredVector] = ()
    removed_locals: Sequence[StoredLocal] = ()
    added_hashes: Sequence[StoredHash] = ()
    added_vectors: Sequence[StoredVector] = ()
    added_locals: Sequence[StoredLocal] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """A stored hash or vector near a query.

    Attributes:
        key: the StoredHash's or StoredVector's.
        query: which row of the query found it.
        value: Hamming distance for PDQ, cosine similarity for vectors, 0 for digests.
    """

    key: int
    query: int
    value: float


@dataclass(frozen=True, slots=True)
class EntryHit:
    """An entry near one of several queries, by the best of its views.

    Attributes:
        entry: the entry's key.
        key: the StoredVector's that was nearest.
        query: which row of the queries found it.
        value: the score: (cosine similarity - mean) / deviation.
        cosine: the cosine similarity of the same pair.
    """

    entry: int
    key: int
    query: int
    value: float
    cosine: float


@dataclass(frozen=True, slots=True)
class LocalVotes:
    """A stored set of local features that keypoints of a query voted for.

    Attributes:
        entry: the entry's key.
        key: the StoredLocal's.
        votes: how much of the query's keypoints found a like one in it, each vote weighed by how rare it is.
        mirrored: whether the mirrored query found it.
    """

    entry: int
    key: int
    votes: float
    mirrored: bool


class SearchIndex(Protocol):
    """The index over all signals of all banks; thread-safe: searches run beside each other and beside changes."""

    @property
    def revision(self) -> int:
        """The last change that is in force."""

    def apply(self, changes: Iterable[Change]) -> None:
        """Bring changes into force, in order; a search sees all of a change or nothing of it."""

    def find_digests(self, banks: Sequence[int], digests: Sequence[HashSignal], *, wait: bool = True) -> list[Hit]:
        """Equal digests in the given banks; Hit.query is the place in `digests`.

        Raises:
            WouldWait: a change is being made, and `wait` is unset.
        """

    def find_pdq(self, banks: Sequence[int], queries: Sequence[bytes], distance: int) -> list[Hit]:
        """All hashes of the given banks within `distance` bits of a query: exact."""

    def hash_distances(self, entries: Sequence[int], banks: Sequence[int], queries: Sequence[bytes]) -> list[Hit]:
        """The smallest PDQ distance of each given entry to any query, of those that have a PDQ hash; exact.

        Hit.key is the entry's key, Hit.value the Hamming distance; the nearest entry first.
        """

    def find_vectors(self, banks: Sequence[int], space: VectorSpace, model: str, queries: Vectors, k: int) -> list[Hit]:
        """The k nearest vectors of each bank to each query, by cosine similarity, nearest first within a query.

        Vectors of other dimensions than the queries are as those of another model; so they are to all that is below.
        """

    def find_entries(
        self, banks: Sequence[int], space: VectorSpace, model: str, queries: Vectors, k: int
    ) -> list[EntryHit]:
        """The k best entries of each bank over all queries: of each its best view and query, the best entry first."""

    def score_entries(
        self, entries: Sequence[int], banks: Sequence[int], space: VectorSpace, model: str, queries: Vectors
    ) -> list[EntryHit]:
        """The best view and query of each given entry that has vectors of the space and model; exact."""

    def find_local(self, banks: Sequence[int], extractor: str, features: LocalFeatures, k: int) -> list[LocalVotes]:
        """The k sets of local features of each bank that most keypoints vote for, most votes first."""

    def local_features(self, entries: Sequence[int], banks: Sequence[int], extractor: str) -> list[StoredLocal]:
        """All sets of local features of the given entries, for a geometric check."""

    def local_count(self, banks: Sequence[int]) -> dict[str, int]:
        """How many sets of local features the given banks have, by extractor."""

    def hash_count(self, banks: Sequence[int], type_: SignalType) -> int:
        """How many hashes of a type the given banks have."""

    def vector_models(self, banks: Sequence[int], space: VectorSpace) -> dict[VectorModel, int]:
        """How many vectors of a space the given banks have, by what made them."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a listing: `next_after` is where the next one begins, or None."""

    items: tuple[T, ...]
    next_after: int | None


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's request_id with a hash of the method and the content it stands for."""

    request_id: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Written(Generic[T]):
    """What a change answered: its value and the revision that has it.

    Attributes:
        replayed: True where a repeat of the same request_id was answered from the first one's record.
    """

    value: T
    revision: int
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class AddedEntry:
    """One entry of a bulk add: the new one's id, or that of the one that has this hash already."""

    entry_id: str
    duplicate: bool


class Decoder(Protocol):
    """Turns a user's bytes into pixels; blocking, and what they do to a decoder stays there."""

    def picture(self, data: bytes, deadline: float | None = None) -> Picture:
        """A picture's header and frames: see `media.decode`.

        Args:
            data: the file.
            deadline: monotonic seconds until which a decoder is waited for; None: as long as it takes.

        Raises:
            MediaError: the bytes give no pixels, or no decoder was free in time.
        """

    def logo(self, data: bytes) -> list[Rendering]:
        """A logo as it may be met: see `media.render_logo`.

        Raises:
            MediaError: the bytes give no drawing.
        """


class Catalog(Protocol):
    """Banks, entries, signals, vectors, revisions: the truth. Blocking; thread-safe; each change is one transaction.

    A change that returns is durable: it survives kill -9 and a power cut. One that raises left nothing.

    A `bank_key` is that of the bank that the change was made for: where another one has the name by now, the bank is
    not found. None: whichever has the name.
    """

    @property
    def id(self) -> str:
        """The catalogue's own identifier (hexadecimal, made once): part of each revision token."""

    def revision(self) -> int:
        """The number of the last committed change; 0 for a new catalogue."""

    def create_bank(
        self,
        bank_id: str,
        kind: BankKind,
        *,
        policy: Policy,
        display_name: str = "",
        enabled: bool = True,
        labels: Mapping[str, str] | None = None,
        keep_images: bool = False,
        once: Idempotency | None = None,
    ) -> Written[Bank]:
        """Make a bank. Raises BankExists, RequestIdReused."""

    def get_bank(self, bank_id: str) -> Bank:
        """One bank, with entry_count. Raises BankNotFound."""

    def list_banks(self, *, after: int = 0, limit: int = 100, visible: Banks = ALL_BANKS) -> Page[Bank]:
        """Of these banks, in the order they were made, with entry_count; `after` is a Page's next_after."""

    def all_banks(self) -> tuple[Bank, ...]:
        """All banks."""

    def update_bank(
        self, bank_id: str, patch: BankPatch, *, bank_key: int | None = None, once: Idempotency | None = None
    ) -> Written[Bank]:
        """Change a bank. Raises BankNotFound, RequestIdReused."""

    def delete_bank(self, bank_id: str, *, force: bool, once: Idempotency | None = None) -> Written[int]:
        """Delete a bank; answers how many entries went with it. Raises BankNotFound, BankNotEmpty, RequestIdReused."""

    def add_entry(
        self, bank_id: str, entry: NewEntry, *, bank_key: int | None = None, once: Idempotency | None = None
    ) -> Written[Entry]:
        """Make one entry, with its picture where the bank keeps them.

        Raises BankNotFound, EntryExists (one of the bank has its SHA-256), RequestIdReused.
        """

    def add_hashes(
        self,
        bank_id: str,
        entries: Sequence[NewEntry],
        *,
        bank_key: int | None = None,
        once: Idempotency | None = None,
    ) -> Written[list[AddedEntry]]:
        """Make many entries of one hash each, all or none; a hash the bank has already is a duplicate, not an error."""

    def import_records(
        self,
        bank_id: str,
        records: Sequence[ListRecord],
        refused: Sequence[RefusedRecord],
        *,
        bank_key: int | None = None,
        validate_only: bool,
    ) -> Written[Imported]:
        """Bring records of a list in, as one change or none, with their pictures where the bank keeps them.

        `refused` is told with the rest. Raises BankNotFound.
        """

    def export_records(self, bank_id: str, after: int) -> Exported:
        """Entries with all their signals, in the order they were made, some MiB at a time. Raises BankNotFound."""

    def get_entry(self, bank_id: str, entry_id: str) -> Entry:
        """One entry with signals and thumbnail. Raises BankNotFound, EntryNotFound."""

    def list_entries(
        self, bank_id: str, *, after: int = 0, limit: int = 100, only: EntryFilter = ALL_ENTRIES
    ) -> Page[Entry]:
        """Entries with their signals in the order they were made. Raises BankNotFound."""

    def update_entry(
        self, bank_id: str, entry_id: str, patch: EntryPatch, *, once: Idempotency | None = None
    ) -> Written[Entry]:
        """Change an entry. Raises BankNotFound, EntryNotFound, RequestIdReused."""

    def delete_entry(self, bank_id: str, entry_id: str, *, once: Idempotency | None = None) -> Written[None]:
        """Delete an entry. Raises BankNotFound, EntryNotFound, RequestIdReused."""

    def expire(self, now: datetime, limit: int = 1_000) -> int:
        """Mark entries whose expire_time has passed as EXPIRED, as a change each call; how many."""

    def entries_by_hash_key(self, keys: Sequence[int]) -> dict[int, Entry]:
        """The entries (without signals) that stored hashes belong to; keys that are gone are left out."""

    def entries_by_vector_key(self, keys: Sequence[int]) -> dict[int, Entry]:
        """The entries (without signals) that stored vectors belong to; keys that are gone are left out."""

    def entries_by_key(self, keys: Sequence[int]) -> dict[int, Entry]:
        """The entries (without signals) of these keys; keys that are gone are left out."""

    def changes(self, after: int, limit: int = 256) -> list[Change]:
        """The changes after a revision, oldest first, as an index needs them."""

    def live_hashes(self) -> Iterator[list[StoredHash]]:
        """All hashes of active entries, in batches: what an index is rebuilt from, with `live_vectors`."""

    def live_vectors(self) -> Iterator[list[StoredVector]]:
        """All vectors of active entries, in batches."""

    def live_locals(self) -> Iterator[list[StoredLocal]]:
        """All local features of active entries, in batches."""
