"""Start: a checked snapshot and the changes since, else a rebuild from the stored rows. The model is not needed."""

from __future__ import annotations

from pathlib import Path

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
    """
    revision = catalog.revision()
    index, problems = load_snapshot(directory, catalog.id, revision)
    how = "snapshot"
    if index is None:
        # The revision is read before the rows: changes that came between are in the rows already, and come again, which
        # the index passes over key by key.
        index, how = IndexSet(revision), "rebuilt"
        index.load_rows(catalog.live_hashes(), catalog.live_vectors())
    while changes := catalog.changes(index.revision):
        index.apply(changes)
    return index, how, problems
