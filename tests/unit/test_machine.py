"""What of the machine may be used, read of control groups as containers have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagewarden_server import machine


def groups(monkeypatch: pytest.MonkeyPatch, root: Path, own: str, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "own").write_text(f"0::{own}\n")
    monkeypatch.setattr(machine, "_CGROUPS", root)
    monkeypatch.setattr(machine, "_OWN", root / "own")


def test_this_machine_has_what_the_system_says_at_most() -> None:
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)
    assert 2**26 < machine.memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_the_least_limit_of_all_groups_above_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {
        "a/b/memory.max": "max\n",
        "a/memory.max": "200000000\n",
        "memory.max": "300000000\n",
        "a/b/cpu.max": "100000 100000\n",
        "a/cpu.max": "max 100000\n",
    }
    groups(monkeypatch, tmp_path, "/a/b", files)
    assert (machine.memory(), machine.cores()) == (200_000_000, 1)


def test_the_older_kind_of_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    groups(monkeypatch, tmp_path, "/", {"memory/memory.limit_in_bytes": "100000000\n"})
    assert machine.memory() == 100_000_000


def test_half_a_core_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    groups(monkeypatch, tmp_path, "/a", {"a/cpu.max": "50000 100000\n"})
    assert machine.cores() == 1


def test_no_group_is_no_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    groups(monkeypatch, tmp_path, "/nowhere", {"memory.max": "nonsense"})
    assert machine.memory() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
