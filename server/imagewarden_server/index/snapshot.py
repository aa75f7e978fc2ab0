"""Snapshots of the index: written whole or not at all, and believed only when every byte's digest is right.

A truncated file raises when it is loaded, but a flipped byte in a graph loads, and then kills the process at a search.
So the manifest has the SHA-256 of every file, and nothing is loaded before all of them are checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from imagewarden_server.index.digests import DigestTable
from imagewarden_server.index.flat import FlatHammingIndex
from imagewarden_server.index.index_set import BankIndexes, IndexSet
from imagewarden_server.index.vectors import UsearchVectorIndex
from imagewarden_server.matching.types import DIGEST_BYTES, SignalType, VectorSpace

FORMAT = 1
_MANIFEST = "manifest.json"
_PREFIX = "snapshot-"
_SCRATCH = ".snapshot-"
_KEPT = 2


class SnapshotProblem(Exception):
    """A snapshot cannot be used; the message says which and why."""


def save_snapshot(index: IndexSet, directory: Path, catalog_id: str) -> Path:
    """Write the index into DIRECTORY/snapshot-REVISION, and remove older ones but one.

    Searches go on meanwhile; changes wait. The snapshot appears by one rename, after its files are on the disk.

    Raises:
        OSError: the disk is full, or not writable; the snapshots that are there stay.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=directory))
    try:
        with index.freeze() as (revision, banks):
            described = [_write_bank(scratch, key, bank) for key, bank in banks.items()]
        files = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in scratch.iterdir()}
        manifest = {"format": FORMAT, "catalog": catalog_id, "revision": revision, "banks": described, "files": files}
        (scratch / _MANIFEST).write_text(json.dumps(manifest, indent=1))
        for path in (*scratch.iterdir(), scratch):
            _sync(path)
        target = directory / f"{_PREFIX}{revision:020d}"
        if target.exists():
            # The same revision again: it may have been found damaged, so the new one takes its place.
            shutil.rmtree(target)
        scratch.rename(target)
        _sync(directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for old in _snapshots(directory)[_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    for stray in directory.glob(f"{_SCRATCH}*"):
        shutil.rmtree(stray, ignore_errors=True)
    return target


def load_snapshot(directory: Path, catalog_id: str, newest_revision: int) -> tuple[IndexSet | None, list[str]]:
    """The newest snapshot that can be believed, and why others were passed over.

    Args:
        directory: where they are.
        catalog_id: whose they must be.
        newest_revision: the catalogue's: a snapshot ahead of it is of a catalogue that was set back.
    """
    problems: list[str] = []
    for path in _snapshots(directory):
        try:
            return _load(path, catalog_id, newest_revision), problems
        except SnapshotProblem as problem:
            problems.append(f"{path.name}: {problem}")
    return None, problems


def _snapshots(directory: Path) -> list[Path]:
    """The snapshots, newest first."""
    return sorted((path for path in directory.glob(f"{_PREFIX}*") if path.is_dir()), reverse=True)


def _write_bank(scratch: Path, key: int, bank: BankIndexes) -> dict[str, Any]:
    described: dict[str, Any] = {"key": key, "digests": {}, "pdq": None, "vectors": []}
    for type_, table in bank.digests.items():
        name = f"bank-{key}-{type_.value}.npz"
        pairs = list(table.items())
        values = np.frombuffer(b"".join(value for _, value in pairs), np.uint8).reshape(-1, DIGEST_BYTES[type_])
        _savez(scratch / name, keys=np.array([one for one, _ in pairs], np.int64), values=values)
        described["digests"][type_.value] = name
    if len(bank.pdq):
        name = f"bank-{key}-pdq.npz"
        keys, words = bank.pdq.arrays()
        _savez(scratch / name, keys=keys, words=words)
        described["pdq"] = name
    for number, ((space, model), index) in enumerate(bank.vectors.items()):
        name = f"bank-{key}-vectors-{number}.usearch"
        index.save(scratch / name)
        described["vectors"].append(
            {"space": space.value, "model": model, "dimensions": index.dimensions, "count": len(index), "file": name}
        )
    return described


def _savez(path: Path, **arrays: Any) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _load(path: Path, catalog_id: str, newest_revision: int) -> IndexSet:
    try:
        manifest = json.loads((path / _MANIFEST).read_text())
        _believe(path, manifest, catalog_id, newest_revision)
        banks = {described["key"]: _read_bank(path, described) for described in manifest["banks"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotProblem(f"cannot be read ({type(error).__name__}: {error})") from error
    return IndexSet(manifest["revision"], banks)


def _believe(path: Path, manifest: dict[str, Any], catalog_id: str, newest_revision: int) -> None:
    if manifest["format"] != FORMAT:
        raise SnapshotProblem(f"has format {manifest['format']}, and {FORMAT} is read")
    if manifest["catalog"] != catalog_id:
        raise SnapshotProblem(f"is of catalogue {manifest['catalog']}, not {catalog_id}")
    if manifest["revision"] > newest_revision:
        raise SnapshotProblem(f"is at change {manifest['revision']}, ahead of the catalogue's {newest_revision}")
    for name, said in manifest["files"].items():
        file = path / name
        if Path(name).name != name or file.stat().st_size != said["bytes"] or _sha256(file) != said["sha256"]:
            raise SnapshotProblem(f"{name} is damaged: its size or SHA-256 is not the manifest's")
    named = {name for described in manifest["banks"] for name in _files_of(described)}
    if named != set(manifest["files"]):
        raise SnapshotProblem("names other files than it has")


def _files_of(described: dict[str, Any]) -> Iterator[str]:
    yield from described["digests"].values()
    if described["pdq"]:
        yield described["pdq"]
    yield from (one["file"] for one in described["vectors"])


def _read_bank(path: Path, described: dict[str, Any]) -> BankIndexes:
    bank = BankIndexes()
    for type_, name in described["digests"].items():
        table = bank.digests.setdefault(SignalType(type_), DigestTable())
        with np.load(path / name, allow_pickle=False) as file:
            for key, value in zip(file["keys"].tolist(), file["values"], strict=True):
                table.add(key, value.tobytes())
    if described["pdq"]:
        with np.load(path / described["pdq"], allow_pickle=False) as file:
            bank.pdq = FlatHammingIndex.of(file["keys"], file["words"])
    for one in described["vectors"]:
        index = UsearchVectorIndex.load(path / one["file"], one["dimensions"])
        if len(index) != one["count"]:
            raise SnapshotProblem(f"{one['file']} has {len(index)} vectors, and the manifest says {one['count']}")
        bank.vectors[VectorSpace(one["space"]), one["model"]] = index
    return bank


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
