"""Start: a checked snapshot and the changes since, else a rebuild from the stored rows. The model is not needed."""

from __future__ import annotations

from pathlib import Path

from imagewarden_server.index.errors import IndexRefused, RevisionGap
from imagewarden_server.index.index_set import IndexSet
from imagewarden_server.index.snapshot import load_snapshot
from imagewarden_server.matching.ports import Catalog


def open_index(directory: Path, catalog: Catalog) -> tuple[IndexSet, str, list[str]]:
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
    index.load_rows(catalog.live_hashes(), catalog.live_vectors())
    return _caught_up(index, catalog), "rebuilt", problems


def _caught_up(index: IndexSet, catalog: Catalog) -> IndexSet:
    while changes := catalog.changes(index.revision):
        index.apply(changes)
    return index
