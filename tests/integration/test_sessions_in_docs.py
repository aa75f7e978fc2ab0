"""The first days in the docs are run as they stand, over real processes: what is printed there is what comes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support import sessions
from tests.support.pictures import encoded, exported, opened, pasted
from tests.support.processes import Host, start_server

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(600)]

DOCS = Path(__file__).parents[2] / "docs"
WRITE = bool(os.environ.get("IMAGEWARDEN_WRITE_DOCS"))
KEYS = {"IMAGEWARDEN_REQUIRE_KEYS": "true"}


def environment(folder: Path, server: str) -> dict[str, str]:
    """What the commands of a session find: this interpreter's `imagewarden` and `python`, and the server."""
    bin_ = folder / "bin"
    bin_.mkdir()
    for name, words in (("imagewarden", "-m imagewarden"), ("python", "")):
        script = bin_ / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        script.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEWARDEN_")}
    return kept | {"PATH": f"{bin_}:{os.environ['PATH']}", "IMAGEWARDEN_SERVER": server, "NO_COLOR": "1"}


def with_a_logo(photograph: bytes, svg: bytes) -> bytes:
    """A photograph with a logo in it, nearly half as wide."""
    scene = opened(photograph).resize((900, 600))
    return encoded(pasted(scene, exported(svg), 0.44, (0.7, 0.5)), quality=90)


def make_key(variables: dict[str, str], folder: Path, *options: str) -> str:
    step = sessions.Step(0, " ".join(["imagewarden", "key", "create", *options, "--state-dir", "state"]))
    return next(line for line in sessions.run(step, folder, variables) if line.startswith("iw_"))


def play(document: Path, folder: Path, variables: dict[str, str]) -> None:
    """Run a document's session in one shell's surroundings, and hold what comes against what it says."""
    text = document.read_text(encoding="utf-8")
    printed: dict[int, list[str]] = {}
    exported: list[str] = []
    differing: list[str] = []
    for step in sessions.steps(text):
        told = sessions.Step(step.line, "; ".join([*exported, step.command]))
        printed[step.line] = sessions.run(told, folder, variables)
        if step.command.startswith("export "):
            exported.append(step.command.partition(";")[0])
        if sessions.shape(printed[step.line]) != sessions.shape(step.said):
            differing.append(
                f"$ {step.command}\nsaid:\n" + "\n".join(step.said) + "\ncame:\n" + "\n".join(printed[step.line])
            )
    if WRITE:
        document.write_text(sessions.written(text, printed), encoding="utf-8")
    else:
        assert not differing, "\n\n".join(differing)


def test_a_moderators_first_day(host: Host, photographs: dict[str, bytes], tmp_path: Path) -> None:
    names = sorted(photographs)
    (tmp_path / "harbour.jpg").write_bytes(photographs[names[0]])
    (tmp_path / "forest.jpg").write_bytes(photographs[names[1]])
    lines = [f"sha256 {number:064x}" for number in range(1, 6)] + [
        f"pdq {'f0' * 31}{number:02x}" for number in range(3)
    ]
    (tmp_path / "list.txt").write_text("# hashes of team South\n" + "\n".join([*lines, "sha256 0123", "tmk 77"]) + "\n")
    variables = environment(tmp_path, "")
    make_key(variables, tmp_path, "admin", "--role", "admin")
    with start_server(tmp_path / "state", host.address, tmp_path, KEYS) as server:
        play(DOCS / "moderators.md", tmp_path, variables | {"IMAGEWARDEN_SERVER": server.address})


def test_a_brands_first_day(
    host: Host, photographs: dict[str, bytes], colour_logo: Callable[[str], bytes], tmp_path: Path
) -> None:
    names = sorted(photographs)
    svg = colour_logo("firefox")
    (tmp_path / "logo.svg").write_bytes(svg)
    (tmp_path / "shop.jpg").write_bytes(with_a_logo(photographs["french-alpine-landscape"], svg))
    (tmp_path / "forest.jpg").write_bytes(photographs[names[1]])
    variables = environment(tmp_path, "")
    admin = make_key(variables, tmp_path, "admin", "--role", "admin")
    (tmp_path / "key").write_text(make_key(variables, tmp_path, "acme", "--role", "brand", "--bank", "'acme-*'"))
    with start_server(tmp_path / "state", host.address, tmp_path, KEYS) as server:
        variables["IMAGEWARDEN_SERVER"] = server.address
        for bank, kind in (("acme-logos", "brand"), ("abuse", "banned")):
            made = sessions.Step(0, f"IMAGEWARDEN_KEY={admin} imagewarden bank create {bank} --kind {kind}")
            sessions.run(made, tmp_path, variables)
        play(DOCS / "brands.md", tmp_path, variables)
