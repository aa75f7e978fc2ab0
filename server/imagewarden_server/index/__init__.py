"""The index over all signals of all banks: a cache of the catalogue, made for searching, saved as checked snapshots."""

from imagewarden_server.index.index_set import IndexSet
from imagewarden_server.index.lifecycle import open_index
from imagewarden_server.index.snapshot import SnapshotProblem, load_snapshot, save_snapshot
from imagewarden_server.index.vectors import ExactVectorIndex, UsearchVectorIndex, VectorIndex

__all__ = [
    "ExactVectorIndex",
    "IndexSet",
    "SnapshotProblem",
    "UsearchVectorIndex",
    "VectorIndex",
    "load_snapshot",
    "open_index",
    "save_snapshot",
]
