"""Hostile SVG: nothing is read, nothing is called, nothing grows; what gets past the check meets a confined process."""

from __future__ import annotations

import base64
import socket
import time
from pathlib import Path

import pytest
from PIL import Image
from tests.unit.media.crafted import encoded, png

from imagewarden_server.media import ImageFormat, Limits, MediaError, MediaProblem, render_logo
from imagewarden_server.media.svg_draw import _draw, draw_svg

LIMITS = Limits()
HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="50" height="50">'
RED = '<circle cx="25" cy="25" r="20" fill="#c00"/>'


def refusal(body: str | bytes, limits: Limits = LIMITS) -> MediaError:
    with pytest.raises(MediaError) as caught:
        render_logo(body if isinstance(body, bytes) else f"{HEAD}{body}</svg>".encode(), limits)
    return caught.value


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A picture on the server's disk, all red."""
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(Image.new("RGB", (50, 50), "red"), ImageFormat.PNG))
    return path


WAYS_OUT = {
    "href": '<image width="50" height="50" href="{path}"/>',
    "xlink:href": '<image width="50" height="50" xlink:href="{path}"/>',
    "file:": '<image width="50" height="50" href="file://{path}"/>',
    "a filter": '<filter id="f"><feImage href="{path}"/></filter><rect width="50" height="50" filter="url(#f)"/>',
    "a network": '<image width="50" height="50" href="http://127.0.0.1:{port}/x.png"/>',
    "another drawing": '<use href="{path}#a"/>',
    "nested": '<image width="50" height="50" href="data:image/svg+xml;base64,{nested}"/>',
    "with spaces": '<image width="50" height="50" href="  {path}"/>',
    "import": '<style>@import "{path}";</style><rect width="50" height="50"/>',
    "style sheet": "<style>rect {{ fill: url({path}#a) }}</style><rect width='50' height='50'/>",
}


@pytest.mark.parametrize("way", WAYS_OUT.values(), ids=WAYS_OUT.keys())
def test_references_to_the_outside_are_refused_and_lead_nowhere(way: str, secret: Path) -> None:
    nested = base64.b64encode(f'{HEAD}<image width="50" height="50" href="{secret}"/></svg>'.encode()).decode()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        body = way.format(path=secret, port=listener.getsockname()[1], nested=nested)
        error = refusal(body)
        assert error.problem is MediaProblem.UNDECODABLE
        assert "refers to" in error.message
        # And if the check had missed it: the process that draws can open nothing.
        drawn = _draw(f"{HEAD}{body}</svg>".encode(), 50, 0)
        assert drawn.getpixel((25, 25)) != (255, 0, 0, 255)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_embedded_pictures_are_drawn(secret: Path) -> None:
    data = base64.b64encode(secret.read_bytes()).decode()
    image = draw_svg(
        f'{HEAD}<image width="50" height="50" href="data:image/png;base64,{data}"/></svg>'.encode(), LIMITS
    )
    assert image.getpixel((256, 256)) == (255, 0, 0, 255)


ENTITIES = (
    '<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c SYSTEM "/etc/passwd">]>'
)
USE_BOMB = "".join(f'<g id="g{n}">' + f'<use href="#g{n + 1}"/>' * 10 + "</g>" for n in range(12)) + '<g id="g12"/>'
USE_CHAIN = "".join(f'<g id="g{n}"><use href="#g{n + 1}"/></g>' for n in range(5_000)) + '<g id="g5000"/>'

REFUSED: dict[str, tuple[str | bytes, str]] = {
    "entities": ((ENTITIES + HEAD + "<text>&b;</text></svg>").encode(), "DOCTYPE"),
    "entities after a declaration": (('<?xml version="1.0"?>' + ENTITIES + HEAD + "</svg>").encode(), "DOCTYPE"),
    "a tree of uses": (USE_BOMB, "draw more than"),
    "a chain of uses": (USE_CHAIN, "too deeply"),
    "a use of itself": ('<g id="a"><use href="#a"/></g>', "draws itself"),
    "uses of each other": ('<g id="a"><use href="#b"/></g><g id="b"><use href="#a"/></g>', "draws itself"),
    "depth": ("<g>" * 50_000 + "</g>" * 50_000, "levels"),
    "many elements": ("<path/>" * 30_000, "elements"),
    "no XML": (b"<svg <<<", "well-formed"),
    "cut short": (HEAD.encode() + b"<circle", "well-formed"),
    "no UTF-8": (HEAD.encode() + b"\xff</svg>", "UTF-8"),
    "another encoding": (b'<?xml version="1.0" encoding="cp037"?>' + HEAD.encode() + b"\xd6</svg>", "UTF-8"),
    "another root": (b'<?xml version="1.0"?><html><svg/></html>', "root element"),
    "no size": (b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="5" height="5"/></svg>', "states no size"),
    "no width": (b'<svg xmlns="http://www.w3.org/2000/svg" width="0" height="5"/>', "0 x 5"),
    "a number without end": (b'<svg width="' + b"1" * 900_000 + b'x" height="5"/>', "x 5"),
    "a hair": (b'<svg xmlns="http://www.w3.org/2000/svg" width="10000" height="1"/>', "times the other"),
    "an endless box": (b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1e300 1e300"/>', "1e+300"),
    "no numbers": (b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 nan inf"/>', "states no size"),
}


@pytest.mark.parametrize(("body", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_a_logo_does_not_need_is_refused(body: str | bytes, says: str) -> None:
    began = time.perf_counter()
    error = refusal(body)
    assert error.problem is MediaProblem.UNDECODABLE
    assert says in error.message
    assert len(error.message) < 400
    assert time.perf_counter() - began < 2


def test_a_large_file_is_over_the_limits() -> None:
    error = refusal(RED + " " * 2_000, Limits(max_svg_bytes=1_000))
    assert error.problem is MediaProblem.OVER_LIMITS
    assert "1,000" in error.message


def test_a_drawing_that_takes_too_long_is_over_the_limits() -> None:
    # A tree of patterns within patterns: the check counts `use` alone.
    square = '<rect width="50" height="50" fill="url(#p{0})"/><rect width="20" height="50" fill="url(#p{0})"/>'
    patterns = "".join(
        f'<pattern id="p{n}" width="1" height="1" patternUnits="userSpaceOnUse">{square.format(n + 1)}</pattern>'
        for n in range(20)
    )
    last = '<pattern id="p20" width="1" height="1"><rect width="1" height="1"/></pattern>'
    began = time.perf_counter()
    error = refusal(f'{patterns}{last}<rect width="50" height="50" fill="url(#p0)"/>')
    assert error.problem is MediaProblem.OVER_LIMITS
    assert "too much time" in error.message
    assert time.perf_counter() - began < 15


def test_an_embedded_bomb_stays_in_the_process_that_draws() -> None:
    bomb = base64.b64encode(png(20_000, 20_000, bytes(20_001 * 20_000), kind=0)).decode()
    error = refusal(f'<image width="50" height="50" href="data:image/png;base64,{bomb}"/>')
    assert error.problem in {MediaProblem.OVER_LIMITS, MediaProblem.UNDECODABLE}


@pytest.mark.parametrize(
    "head",
    [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 50 50">',
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0,0,50,50" width="100%" height="100%">',
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 50 50" width="2cm" height="2cm">',
        '<?xml version="1.0" encoding="UTF-8"?><!-- a --><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 50 50">',
        '\ufeff<svg xmlns="http://www.w3.org/2000/svg" width="50px" height="50px">',
        '<svg width="50" height="50">',
    ],
)
def test_plain_svg_of_any_making_is_drawn(head: str) -> None:
    image = draw_svg(f"{head}{RED}</svg>".encode(), LIMITS)
    assert (image.size, image.mode) == ((512, 512), "RGBA")
    assert image.getpixel((256, 256)) == (204, 0, 0, 255)


@pytest.mark.parametrize(("width", "height", "size"), [(200, 100, (512, 256)), (100, 400, (128, 512))])
def test_the_longer_side_is_of_one_length(width: int, height: int, size: tuple[int, int]) -> None:
    body = f'<rect width="{width}" height="{height}" fill="#c00"/>'
    data = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{body}</svg>'.encode()
    assert draw_svg(data, LIMITS).size == size


def test_shapes_that_are_used_again_gradients_and_styles_are_drawn() -> None:
    body = (
        '<defs><linearGradient id="l"><stop offset="0" stop-color="#c00"/><stop offset="1" stop-color="#c00"/>'
        '</linearGradient><rect id="r" width="50" height="50"/></defs><style>.a{fill:url(#l)}</style>'
        '<use xlink:href="#r" class="a"/>'
    )
    assert draw_svg(f"{HEAD}{body}</svg>".encode(), LIMITS).getpixel((256, 256)) == (204, 0, 0, 255)
