"""Sessions in the docs: blocks of commands with what they print, which a test runs and compares.

A block begins with ```console. A line that begins with `$ ` is a command; what follows it is what it prints, both
streams as a terminal shows them. What differs from run to run (ids, revisions, times, measured figures) is compared by
its shape. To write what the commands print into the docs: IMAGEWARDEN_WRITE_DOCS=1 pytest
tests/integration/test_sessions_in_docs.py
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_BEGIN, _END, _PROMPT = "```console", "```", "$ "
_SECONDS = 120
_SHAPES = (
    (re.compile(r"\be?entries/[0-9a-z]{20}\b"), "entries/ENTRY"),
    (re.compile(r"\br1\.[0-9a-f]{12}\.[0-9a-f]+"), "REVISION"),
    (re.compile(r"\biw_[0-9A-Za-z_-]+"), "KEY"),
    (re.compile(r"\b[0-9a-z]{10}(?= \(|: (moderator|auditor|brand))"), "KEYID"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(\+00:00|Z)?"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\d"), "DAY"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{12,}\b"), "HEX"),
    (re.compile(r"-?\b\d+\.\d+(e-?\d+)?\b"), "FIGURE"),
    (re.compile(r"\b\d+ inliers"), "N inliers"),
    (re.compile(r"[─━]+"), "-"),
    (re.compile(r"\s+"), " "),
)


@dataclass
class Step:
    """One command, and what the docs say that it prints.

    Attributes:
        line: the command's place in the file, from 0.
    """

    line: int
    command: str
    said: list[str] = field(default_factory=list)


def steps(text: str) -> list[Step]:
    """All commands of a document, in their order."""
    found: list[Step] = []
    inside = False
    for number, line in enumerate(text.splitlines()):
        if line.strip() in {_BEGIN, _END}:
            inside = line.strip() == _BEGIN
        elif inside and line.startswith(_PROMPT):
            found.append(Step(number, line.removeprefix(_PROMPT)))
        elif inside and found:
            found[-1].said.append(line)
    return found


def run(step: Step, folder: Path, environment: Mapping[str, str]) -> list[str]:
    """What a command prints."""
    done = subprocess.run(
        ["/bin/bash", "-c", step.command],
        cwd=folder,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    return [line.rstrip() for line in done.stdout.rstrip().splitlines()]


def shape(lines: list[str]) -> list[str]:
    """Lines without what differs from run to run."""
    shaped = []
    for line in lines:
        text = line.strip()
        for pattern, word in _SHAPES:
            text = pattern.sub(word, text)
        shaped.append(text)
    return shaped


def written(text: str, printed: Mapping[int, list[str]]) -> str:
    """A document with what its commands print now.

    Args:
        text: the document.
        printed: what each command printed, by its place.
    """
    lines: list[str] = []
    skipping = False
    for number, line in enumerate(text.splitlines()):
        if number in printed:
            lines += [line, *printed[number]]
            skipping = True
        elif line.strip() == _END or line.startswith(_PROMPT):
            skipping = False
            lines.append(line)
        elif not skipping:
            lines.append(line)
    return "\n".join(lines) + "\n"
