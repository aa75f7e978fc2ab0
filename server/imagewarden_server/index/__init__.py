"""The index over all signals of all banks: a cache of the catalogue, made for searching, saved as checked snapshots."""

from imagewarden_server.index.entry_vectors import EntryVectors
from imagewarden_server.index.errors import (
    DuplicateKey,
    IndexRefused,
    NotUnitVector,
    RevisionGap,
    SnapshotProblem,
    WrongScale,
    WrongShape,
)
from imagewarden_server.index.graph import UsearchVectorIndex
from imagewarden_server.index.index_set import IndexSet
from imagewarden_server.index.lifecycle import open_index
from imagewarden_server.index.parts import IndexInfo
from imagewarden_server.index.snapshot import load_snapshot, save_snapshot
from imagewarden_server.index.vectors import ExactVectorIndex, VectorIndex

__all__ = [
    "DuplicateKey",
    "EntryVectors",
    "ExactVectorIndex",
    "IndexInfo",
    "IndexRefused",
    "IndexSet",
    "NotUnitVector",
    "RevisionGap",
    "SnapshotProblem",
    "UsearchVectorIndex",
    "VectorIndex",
    "WrongScale",
    "WrongShape",
    "load_snapshot",
    "open_index",
    "save_snapshot",
]
