"""What of the machine this process may use: cores and memory, of all of it or of the container it runs in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def cores() -> int:
    """How many processors may be used at once, at least one."""
    number = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for folder in _folders():
        quota, period = (*_read(folder / "cpu.max").split(), "", "")[:2]
        if quota.isdigit() and period.isdigit() and int(period):
            number = min(number, int(quota) / int(period))
    return max(round(number), 1)


def memory() -> int:
    """How many bytes there are."""
    number = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # The older of the two kinds of control groups has its limit under another name, and huge where there is none.
    older = [_CGROUPS / "memory" / "memory.limit_in_bytes"]
    for file in [*(folder / "memory.max" for folder in _folders()), *older]:
        said = _read(file)
        if said.isdigit():
            number = min(number, int(said))
    return number


def _folders() -> Iterator[Path]:
    """The control groups that this process is in, from its own up: each has limits."""
    for line in _read(_OWN).splitlines():
        if line.startswith("0::/"):
            own = _CGROUPS / line[4:]
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(_CGROUPS))


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
