"""What checks read of the catalogue: the banks that one compares with, and the entries that it finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from imagewarden_server.matching.errors import BankNotFound
from imagewarden_server.matching.ports import Catalog, SearchIndex, WouldWait
from imagewarden_server.matching.rollout import takes
from imagewarden_server.matching.types import Bank, BankKind, Entry, SignalType, Threshold
from imagewarden_server.matching.visible import ALL_BANKS, Banks

_PAGE_SECONDS = 1.0
"""After so long the catalogue is asked whether it has a change that the index, kept from following, does not have."""
_PAGE_ENTRIES = 20_000


@dataclass(frozen=True, slots=True)
class Scope:
    """The banks a check compares with."""

    banks: tuple[Bank, ...]

    @classmethod
    def of(cls, banks: Iterable[Bank], names: Sequence[str], visible: Banks = ALL_BANKS) -> Scope:
        """The named ones of all banks, or all that the caller may see; those that are not enabled are left out.

        Raises:
            BankNotFound: no such bank.
        """
        known = {bank.id: bank for bank in banks}
        if names:
            for name in names:
                if name not in known:
                    raise BankNotFound(name)
            chosen: Iterable[Bank] = (known[name] for name in dict.fromkeys(names))
        else:
            chosen = (bank for bank in known.values() if visible.has(bank.id))
        return cls(tuple(bank for bank in chosen if bank.enabled))

    def taking(self, sha256: bytes) -> Scope:
        """Those of the banks that say something of a picture: see `rollout`."""
        if all(bank.policy.enabled_ratio >= 1 for bank in self.banks):
            return self
        return Scope(tuple(bank for bank in self.banks if takes(bank.name, bank.policy.enabled_ratio, sha256)))

    def comparing(self, signal: SignalType, kinds: frozenset[BankKind] = frozenset(BankKind)) -> dict[int, Threshold]:
        """The thresholds of the banks that compare a signal, by the bank's key."""
        thresholds = {}
        for bank in self.banks:
            threshold = bank.policy.thresholds[signal]
            if bank.kind in kinds and not threshold.disabled:
                thresholds[bank.key] = threshold
        return thresholds

    @property
    def by_key(self) -> dict[int, Bank]:
        """The banks by key."""
        return {bank.key: bank for bank in self.banks}


@dataclass(slots=True)
class _Page:
    """What was read while the index had one revision."""

    revision: int
    until: float
    banks: tuple[Bank, ...] | None = None
    by_key: dict[int, Entry] = field(default_factory=dict)
    by_hash_key: dict[int, Entry] = field(default_factory=dict)


class Directory:
    """Banks and entries, read of the catalogue once for each revision of the index; thread-safe, blocking.

    Every change of a bank or an entry is a revision, and is acknowledged when the index has it: so what was read at the
    index's revision, or of a newer state, holds until then.
    """

    def __init__(self, catalog: Catalog, index: SearchIndex, clock: Callable[[], float] = time.monotonic) -> None:
        self._catalog = catalog
        self._index = index
        self._clock = clock
        self._page = _Page(-1, 0.0)

    def scope(self, names: Sequence[str], visible: Banks = ALL_BANKS, *, wait: bool = True) -> Scope:
        """The named banks, or all that the caller may see; those that are not enabled are left out.

        Raises:
            BankNotFound: no such bank.
            WouldWait: the catalogue must be read, and `wait` is unset.
        """
        page = self._current(wait=wait)
        if page.banks is None:
            if not wait:
                raise WouldWait
            page.banks = self._catalog.all_banks()
        return Scope.of(page.banks, names, visible)

    def entries_by_key(self, keys: Sequence[int]) -> dict[int, Entry]:
        """The entries of these keys; keys that are gone are left out."""
        return _kept(self._current().by_key, keys, self._catalog.entries_by_key)

    def entries_by_hash_key(self, keys: Sequence[int], *, wait: bool = True) -> dict[int, Entry]:
        """The entries that stored hashes belong to; keys that are gone are left out.

        Raises:
            WouldWait: the catalogue must be read, and `wait` is unset.
        """
        page = self._current(wait=wait)
        if not wait and any(key not in page.by_hash_key for key in keys):
            raise WouldWait
        found = _kept(page.by_hash_key, keys, self._catalog.entries_by_hash_key)
        if len(page.by_key) + len(found) <= _PAGE_ENTRIES:
            page.by_key.update((one.key, one) for one in found.values())
        return found

    def _current(self, *, wait: bool = True) -> _Page:
        """The page of the revision that is in force; a new one is begun where that changed."""
        page, revision, now = self._page, self._index.revision, self._clock()
        if page.revision == revision and now < page.until:
            return page
        if not wait:
            raise WouldWait
        if page.revision == revision == self._catalog.revision():
            page.until = now + _PAGE_SECONDS  # nothing has changed
            return page
        # Threads that still hold the page before go on with it: it is of the state that they began with.
        page = self._page = _Page(revision, now + _PAGE_SECONDS)
        return page


def _kept(
    held: dict[int, Entry], keys: Sequence[int], read: Callable[[Sequence[int]], dict[int, Entry]]
) -> dict[int, Entry]:
    """The entries of keys that are held, the others read and held too."""
    missing = [key for key in keys if key not in held]
    if missing:
        if len(held) + len(missing) > _PAGE_ENTRIES:
            return read(keys)
        held.update(read(missing))
    return {key: held[key] for key in keys if key in held}
