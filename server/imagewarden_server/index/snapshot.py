"""Snapshots of the index: written whole or not at all, and believed only when every byte's digest is right.

A truncated file raises when it is loaded, but a flipped byte in a graph loads, and then kills the process at a search.
So the manifest has the SHA-256 of every file, a file beside it has the manifest's own, and nothing is loaded before all
of them are checked. The format is described in docs/index.md.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import usearch

from imagewarden_server.index.errors import SnapshotProblem
from imagewarden_server.index.index_set import IndexSet
from imagewarden_server.index.parts import HashPart, LocalPart, Part, VectorPart
from imagewarden_server.index.vectors import read_arrays, write_arrays
from imagewarden_server.index.vocabulary import load_vocabulary
from imagewarden_server.matching.types import SignalType, VectorSpace

FORMAT = 2
_MANIFEST = "manifest.json"
_MANIFEST_DIGEST = "manifest.json.sha256"
_PREFIX = "snapshot-"
_SCRATCH = ".tmp-"
_LOCK = ".lock"

Described = dict[str, Any]


def save_snapshot(index: IndexSet, directory: Path, catalog_id: str) -> Path:
    """Write the index into DIRECTORY/snapshot-REVISION, and keep this one and the one before it.

    Searches and changes go on meanwhile: each index in it is copied for itself, so that one may have a change that
    another has not. The manifest has the revision before the first copy and the one after the last; the changes
    between the two must be applied again, which harms nothing. The snapshot appears by one rename, after its files are
    on the disk. Where the same revision is there already, sound and of this vocabulary, nothing is written.

    Args:
        index: what to save.
        directory: where snapshots are kept; made, readable for its owner alone, if it is not there.
        catalog_id: whose index it is.

    Returns:
        The snapshot's directory.

    Raises:
        OSError: the disk is full, or not writable; the snapshots that are there stay.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(directory):
        for stray in directory.glob(f"{_PREFIX}*{_SCRATCH}*"):
            shutil.rmtree(stray, ignore_errors=True)
        revision, vocabulary = index.revision, load_vocabulary().fingerprint
        target = directory / f"{_PREFIX}{revision:020d}"
        if not _sound(target, catalog_id, vocabulary):
            _write(index, revision, target, catalog_id, vocabulary)
        _prune(directory, target)
    # Afterwards, since it may take a minute: whoever stops the server meanwhile has the snapshot.
    index.compact()
    return target


def load_snapshot(
    directory: Path, catalog_id: str, newest_revision: int | None = None
) -> tuple[IndexSet | None, list[str]]:
    """The newest snapshot that can be believed, and why others were passed over.

    The catalogue's changes after the index's revision must be applied before it is searched: see `save_snapshot`.

    Args:
        directory: where snapshots are kept.
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
    found = [path for path in directory.glob(f"{_PREFIX}*") if path.is_dir() and _SCRATCH not in path.name]
    return sorted(found, reverse=True)


def _prune(directory: Path, newest: Path) -> None:
    """Keep the newest and the one before it.

    Those of later revisions go: they are of a catalogue that was replaced or set back.
    """
    snapshots = _snapshots(directory)
    before = [path for path in snapshots if path.name < newest.name][:1]
    for path in snapshots:
        if path != newest and path not in before:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep other savers out of a directory, of this process and of others."""
    with (directory / _LOCK).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(index: IndexSet, revision: int, target: Path, catalog_id: str, vocabulary: str) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f"{target.name}{_SCRATCH}", dir=target.parent))
    try:
        described = [_write_part(scratch, number, part) for number, part in enumerate(index.parts())]
        manifest = {
            "format": FORMAT,
            "catalog": catalog_id,
            "revision": revision,
            "last_revision": index.revision,
            "usearch": usearch.__version__,
            "vocabulary": vocabulary,
            "files": described,
        }
        content = json.dumps(manifest, indent=1).encode()
        (scratch / _MANIFEST).write_bytes(content)
        # As sha256sum writes it, for people to check by hand.
        (scratch / _MANIFEST_DIGEST).write_text(f"{hashlib.sha256(content).hexdigest()}  {_MANIFEST}\n")
        for path in (*scratch.iterdir(), scratch):
            _sync(path)
        if target.exists():
            shutil.rmtree(target)  # it was found damaged, or of another vocabulary
        scratch.rename(target)
        _sync(target.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_part(scratch: Path, number: int, part: Part) -> Described:
    described: Described = {"bank": part.bank}
    if isinstance(part, VectorPart):
        described |= {
            "space": part.space.value,
            "model": part.model,
            "dimensions": part.dimensions,
            "count": part.count,
        }
        kind = part.space.value
    elif isinstance(part, LocalPart):
        described |= {"extractor": part.extractor, "count": part.count}
        kind = SignalType.LOCAL.value
    else:
        kind = described["type"] = part.type.value
    path = scratch / f"{number:06d}-{kind}.npz"
    write_arrays(path, part.arrays)
    return described | {"name": path.name, "bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sound(path: Path, catalog_id: str, vocabulary: str) -> bool:
    """Whether a snapshot is as it was written; and its words need not be found anew at each start."""
    try:
        # Snapshots from before the vocabulary was named are of the first one.
        return bool(_manifest(path, catalog_id, None).get("vocabulary") == vocabulary)
    except SnapshotProblem:
        return False


def _load(path: Path, catalog_id: str, newest_revision: int | None) -> IndexSet:
    manifest = _manifest(path, catalog_id, newest_revision)
    try:
        index = IndexSet(manifest["revision"])
        for described in manifest["files"]:
            index.put(_read_part(path, described))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise SnapshotProblem(f"cannot be read ({type(error).__name__}: {error})") from error
    return index


def _manifest(path: Path, catalog_id: str, newest_revision: int | None) -> Described:
    """The manifest, after it and all files are found to be what was written.

    Raises:
        SnapshotProblem: they are not, or the snapshot is of another format, catalogue or time.
    """
    try:
        content = (path / _MANIFEST).read_bytes()
        digest = (path / _MANIFEST_DIGEST).read_bytes()
        if digest != f"{hashlib.sha256(content).hexdigest()}  {_MANIFEST}\n".encode():
            raise SnapshotProblem(f"{_MANIFEST} is damaged: its SHA-256 is not that of {_MANIFEST_DIGEST}")
        manifest: Described = json.loads(content)
        if manifest["format"] != FORMAT:
            raise SnapshotProblem(f"has format {manifest['format']}, and {FORMAT} is read")
        if manifest["catalog"] != catalog_id:
            raise SnapshotProblem(f"is of catalogue {manifest['catalog']}, not {catalog_id}")
        if newest_revision is not None and manifest["last_revision"] > newest_revision:
            raise SnapshotProblem(
                f"has change {manifest['last_revision']}, and the catalogue ends with {newest_revision}: "
                "the catalogue was set back"
            )
        # Large files take seconds each, in which Python's global lock is free.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda said: _check(path / Path(said["name"]).name, said), manifest["files"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotProblem(f"cannot be read ({type(error).__name__}: {error})") from error
    return manifest


def _check(file: Path, said: Described) -> None:
    size = file.stat().st_size
    if size != said["bytes"]:
        raise SnapshotProblem(f"{file.name} is damaged: it has {size} bytes, and {said['bytes']} were written")
    if _sha256(file) != said["sha256"]:
        raise SnapshotProblem(f"{file.name} is damaged: its SHA-256 is not the manifest's")


def _read_part(path: Path, said: Described) -> Part:
    arrays = read_arrays(path / Path(said["name"]).name)
    if "space" in said:
        space = VectorSpace(said["space"])
        return VectorPart(said["bank"], space, said["model"], said["dimensions"], said["count"], arrays)
    if "extractor" in said:
        return LocalPart(said["bank"], said["extractor"], said["count"], arrays)
    return HashPart(said["bank"], SignalType(said["type"]), arrays)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
