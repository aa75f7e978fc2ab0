"""What a process holds, as Linux counts it."""

from __future__ import annotations

from pathlib import Path


def resident(pid: int) -> int:
    """Bytes that it holds now."""
    return _said(pid, "VmRSS")


def most_resident(pid: int) -> int:
    """The most bytes that it held at once."""
    return _said(pid, "VmHWM")


def forget_most(pid: int) -> None:
    """Begin to count the most anew (proc_pid_clear_refs: 5)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _said(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/{pid}/status has no {name}")
