"""The versions of a model on disk: numbered directories under its base path."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from imagewarden_serving.host.config import VersionPolicy

Fingerprint = tuple[tuple[str, int, int], ...]
"""Path, size and time of change of each file: a failed version is tried again when it differs."""


def find_versions(base_path: Path) -> dict[int, Path]:
    """The version directories under a base path; other names are no versions.

    Raises:
        OSError: the base path cannot be read.
    """
    return {
        int(child.name): child
        for child in sorted(base_path.iterdir())
        if child.name.isascii() and child.name.isdigit() and child.is_dir()
    }


def aspired(policy: VersionPolicy, found: Iterable[int]) -> list[int]:
    """The versions that are to be served, oldest first."""
    versions = sorted(found)
    if policy.kind == "all":
        return versions
    if policy.kind == "specific":
        return [version for version in versions if version in policy.versions]
    return versions[-policy.num_versions :]


def fingerprint(path: Path) -> Fingerprint:
    """What the files of a version look like now; unreadable ones are left out."""
    entries: list[tuple[str, int, int]] = []
    for file in sorted(path.rglob("*")):
        try:
            status = file.stat()
        except OSError:  # it went away meanwhile: the next look differs
            continue
        entries.append((str(file), status.st_size, status.st_mtime_ns))
    return tuple(entries)
