"""What an SVG logo may hold: shapes, and nothing that reads a file, calls a network or grows without bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from imagewarden_server.media.types import Limits, MediaError, MediaProblem

_HREFS = ("href", "{http://www.w3.org/1999/xlink}href")
_DATA = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=\s]+")
_LENGTH = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(px|pt|pc|mm|cm|in|em|ex)?\s*")
_MAX_ELEMENTS = 20_000
_MAX_DEPTH = 100
_MAX_ASPECT = 50.0
_MAX_LENGTH = 40


def check_svg(data: bytes, limits: Limits) -> tuple[float, float]:
    """Refuse what a logo does not need.

    Returns:
        The drawing's width and height, in one unit.

    Raises:
        MediaError: OVER_LIMITS or UNDECODABLE; the message says what to change.
    """
    if len(data) > limits.max_svg_bytes:
        raise MediaError(
            MediaProblem.OVER_LIMITS, f"the SVG has {len(data):,} bytes, and {limits.max_svg_bytes:,} are the most"
        )
    if re.search(rb"<!\s*(DOCTYPE|ENTITY)", data, re.IGNORECASE):
        raise _refused("it has a DOCTYPE or entities; save it as plain SVG, without them")
    try:
        # As text: of bytes, expat would read another encoding than the renderer does, where the file declares one.
        text = data.decode("utf-8-sig")
        root = ET.fromstring(text)  # noqa: S314 -- without a DOCTYPE there are no entities to expand
    except (ET.ParseError, UnicodeDecodeError, ValueError) as error:
        raise _refused(f"it is no well-formed XML in UTF-8 ({str(error)[:120]})") from error
    if root.tag.rpartition("}")[2] != "svg":
        raise _refused(f"its root element is {root.tag[:60]!r}")
    for element in _walk(root):
        _check_element(element)
    _check_uses(root)
    width, height = _size(root)
    if not 1 / _MAX_ASPECT <= width / height <= _MAX_ASPECT:
        raise _refused(f"it is {width:g} x {height:g}: one side is more than {_MAX_ASPECT:g} times the other")
    return width, height


def _refused(why: str) -> MediaError:
    return MediaError(MediaProblem.UNDECODABLE, f"the SVG is not accepted: {why}")


def _walk(root: ET.Element) -> Iterator[ET.Element]:
    count = 0
    waiting = [(root, 0)]
    while waiting:
        element, depth = waiting.pop()
        count += 1
        if count > _MAX_ELEMENTS or depth > _MAX_DEPTH:
            raise _refused(
                f"it has more than {_MAX_ELEMENTS:,} elements, or more than {_MAX_DEPTH} levels; simplify it"
            )
        yield element
        waiting += [(child, depth + 1) for child in element]


def _check_element(element: ET.Element) -> None:
    for name in _HREFS:
        target = element.get(name)
        if target is not None and not target.startswith("#") and not _DATA.fullmatch(target):
            raise _refused(f"it refers to {target[:60]!r}; embed pictures as PNG or JPEG data, refer to ids alone")
    if "@import" in (element.text or "") or "url(" in (element.text or "").replace("url(#", ""):
        raise _refused("its style sheet refers to something outside; embed it")


def _check_uses(root: ET.Element) -> None:
    """Refuse `use` elements that draw each other again and again: the billion laughs of SVG."""
    by_id = {element.get("id"): element for element in root.iter() if element.get("id")}
    sizes: dict[int, int] = {}
    open_: set[int] = set()

    def size(element: ET.Element) -> int:
        key = id(element)
        if key in sizes:
            return sizes[key]
        if key in open_:
            raise _refused("a `use` element draws itself")
        open_.add(key)
        total = 1 + sum(size(child) for child in element)
        if element.tag.rpartition("}")[2] == "use":
            target = next((element.get(name) for name in _HREFS if element.get(name)), "") or ""
            drawn = by_id.get(target.removeprefix("#"))
            if drawn is not None:
                total += size(drawn)
        open_.discard(key)
        if total > _MAX_ELEMENTS:
            raise _refused(f"its `use` elements draw more than {_MAX_ELEMENTS:,} elements; simplify it")
        sizes[key] = total
        return total

    try:
        size(root)
    except RecursionError as error:
        raise _refused("its `use` elements refer to each other too deeply; simplify it") from error


def _size(root: ET.Element) -> tuple[float, float]:
    """Width and height as the renderer will take them: the attributes where both are lengths, else the viewBox."""
    lengths = [_LENGTH.fullmatch(root.get(name, "")[:_MAX_LENGTH]) for name in ("width", "height")]
    box = [float(part) for part in re.findall(r"[-+0-9.eE]+", root.get("viewBox", "")[:200]) if _is_number(part)]
    if lengths[0] and lengths[1] and (lengths[0][2] or "px") == (lengths[1][2] or "px"):
        width, height = float(lengths[0][1]), float(lengths[1][1])
    elif len(box) == 4 and not any(lengths):
        width, height = box[2], box[3]
    else:
        raise _refused("it states no size; give it width and height in one unit, or a viewBox")
    if not (0 < width < 1e6 and 0 < height < 1e6):
        raise _refused(f"it is {width:g} x {height:g}")
    return width, height


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
