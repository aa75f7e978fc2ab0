"""The wheel in a clean environment, without extras: what an upload hook installs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ASKED_FOR = {"grpcio", "protobuf", "googleapis-common-protos", "grpcio-status"}
THEIRS = {"typing-extensions"}
SECONDS = 0.5


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel of this tree and what it requires; answers its folder of programs."""
    scratch = tmp_path_factory.mktemp("thin")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(scratch), str(ROOT)], check=True, timeout=300)
    venv.create(scratch / "env", with_pip=True, symlinks=True)
    programs = scratch / "env" / "bin"
    (wheel,) = scratch.glob("imagewarden-*.whl")
    install = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)]
    subprocess.run(install, check=True, timeout=300)
    return programs


def run(programs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run in the clean environment, and nowhere near this tree."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(programs / arguments[0]), *arguments[1:]]
    return subprocess.run(command, cwd=programs, env=kept, capture_output=True, text=True, timeout=60, check=False)


def test_only_what_was_promised_is_installed(clean: Path) -> None:
    listed = json.loads(run(clean, "python", "-m", "pip", "list", "--format", "json").stdout)
    installed = {one["name"].lower().replace("_", "-") for one in listed} - {"pip", "setuptools", "imagewarden"}
    assert installed >= ASKED_FOR
    assert installed - ASKED_FOR <= THEIRS


def test_the_import_is_quick_and_loads_nothing_heavy(clean: Path) -> None:
    code = "import sys, imagewarden, imagewarden.hook; print(imagewarden.__file__, *sys.modules)"
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        done = run(clean, "python", "-c", code)
        seconds.append(time.perf_counter() - begin)
        assert done.returncode == 0, done.stderr
    where, *loaded = done.stdout.split()
    assert str(clean.parent) in where
    assert not {"numpy", "tensorflow", "keras", "sqlalchemy", "PIL"} & {name.partition(".")[0] for name in loaded}
    # The whole process, the interpreter's own start included; the best of several, since other work may run beside.
    assert min(seconds) < SECONDS


def test_the_client_says_that_nobody_is_there(clean: Path) -> None:
    code = (
        "import imagewarden\n"
        "from imagewarden.hook import fail_closed\n"
        "with imagewarden.Client('127.0.0.1:1') as client:\n"
        "    print(fail_closed(client, budget=0.3).check(b'x').reason)\n"
    )
    done = run(clean, "python", "-c", code)
    assert (done.returncode, done.stdout) == (0, "failed_closed\n"), done.stderr


@pytest.mark.parametrize(
    "command", [["imagewarden"], ["imagewarden", "check", "x.jpg"], ["python", "-m", "imagewarden"]]
)
def test_the_command_says_how_to_install_what_it_needs(clean: Path, command: list[str]) -> None:
    done = run(clean, *command)
    assert done.returncode == 2
    assert "pip install 'imagewarden[cli]'" in done.stderr
    assert "Traceback" not in done.stderr
