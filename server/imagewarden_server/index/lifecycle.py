"""Start: a checked snapshot and the changes since, else a rebuild from the stored rows. The model is not needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from imagewarden_server.index.errors import IndexRefused, RevisionGap
from imagewarden_server.index.index_set import IndexSet
from imagewarden_server.index.snapshot import load_snapshot
from imagewarden_server.matching.ports import Change, StoredHash, StoredLocal, StoredVector


class IndexSource(Protocol):
    """What an index needs of the catalogue: these are `ports.Catalog`'s, which says what they do."""

    @property
    def id(self) -> str:
        """The catalogue's own identifier."""

    def revision(self) -> int:
        """The number of the last committed change."""

    def changes(self, after: int, limit: int = 256) -> list[Change]:
        """The changes after a revision, oldest first."""

    def live_hashes(self) -> Iterator[list[StoredHash]]:
        """All hashes of active entries."""

    def live_vectors(self) -> Iterator[list[StoredVector]]:
        """All vectors of active entries."""

    def live_locals(self) -> Iterator[list[StoredLocal]]:
        """All local features of active entries."""


def open_index(directory: Path, catalog: IndexSource) -> tuple[IndexSet, str, list[str]]:
    """Bring up an index that has all of the catalogue's changes.

    Args:
        directory: where snapshots are kept.
        catalog: the truth.

    Returns:
        The index; `snapshot` or `rebuilt`; why snapshots were passed over.

    Raises:
        IndexRefused: the catalogue itself has what would poison an index.
        RevisionGap: the catalogue lacks a change among its last.
    """
    index, problems = load_snapshot(directory, catalog.id, catalog.revision())
    if index is not None:
        loaded = index.revision
        try:
            return _caught_up(index, catalog), "snapshot", problems
        except (RevisionGap, IndexRefused) as error:
            problems.append(f"the snapshot of revision {loaded} does not lead to the catalogue's state: {error}")
    # The revision is read before the rows: changes that come in between are in the rows already, and come again, which
    # the index passes over key by key.
    index = IndexSet(catalog.revision())
    index.load_rows(catalog.live_hashes(), catalog.live_vectors(), catalog.live_locals())
    return _caught_up(index, catalog), "rebuilt", problems


def _caught_up(index: IndexSet, catalog: IndexSource) -> IndexSet:
    while changes := catalog.changes(index.revision):
        index.apply(changes)
    return index
