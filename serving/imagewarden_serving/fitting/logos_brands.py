"""The logos to learn from: read from unpacked icon packages, one a brand, and drawn.

The packages are trusted: whoever fits a head chose them. Their SVGs are drawn in this process, without the guards that
the moderation server puts around a stranger's SVG.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from imagewarden_serving.fitting.logos_drawing import Colour, flat
from imagewarden_serving.fitting.pictures import FitError, Share

DRAWN_SIDE = 320
"""The longer side of a drawing, in pixels."""

MOST_PLAIN = 1500
"""Logos without a colour of their own are much alike: of these so many are taken at most."""

MEASURED = Share(0, 4)
"""Brands that are never fitted on, so that what is measured on them says what unknown logos meet."""

TURNS = (
    None,
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_180,
)
"""A logo turned or mirrored is another logo: so many a brand are learned to be told apart."""

TURNS_PLAIN = (None, Image.Transpose.ROTATE_90, Image.Transpose.FLIP_LEFT_RIGHT)
"""The same of logos without a colour of their own."""

_ICONIFY_FILE = "icons.json"
_ICONIFY_SIDE = 16  # Iconify's own default
_SUFFIXES = ("-icon", "-wordmark", "-dark", "-light")
_MAX_ASPECT = 5.0
_MIN_SIDE = 40
_MIN_INK = 10.0
_VISIBLE = 16
_NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
_COMPARED_SIDE = 32
_SAME = 4.0
# A colour said in an SVG, or a picture in it; without any a renderer draws in black for want of another.
_COLOURED = re.compile(r"""(?:fill|stroke|stop-color)\s*[=:](?![\s"']*(?:none|currentColor|inherit))|<image""")


@dataclass(frozen=True, slots=True)
class Logo:
    """A brand's logo.

    Attributes:
        brand: see `brand_of`.
        png: its drawing without margins, RGBA, its longer side of at most `DRAWN_SIDE` pixels. Kept compressed: a
            thousand of them as pixels are four hundred megabytes.
        plain: whether its colour is not the brand's, but by chance.
    """

    brand: str
    png: bytes
    plain: bool

    def picture(self) -> Image.Image:
        """The drawing, RGBA."""
        with Image.open(io.BytesIO(self.png)) as image:
            return image.convert("RGBA")


@dataclass(frozen=True, slots=True)
class Identity:
    """What is learned to be told apart: a logo, as it is or turned.

    Attributes:
        logo: its number.
        turn: None: as it is.
    """

    logo: int
    turn: Image.Transpose | None

    def of(self, picture: Image.Image) -> Image.Image:
        """A drawing of the logo as this identity shows it."""
        return picture if self.turn is None else picture.transpose(self.turn)


@dataclass(frozen=True, slots=True)
class Found:
    """What packages have.

    Attributes:
        logos: one a brand, in the order of the packages and of the names in them.
        unreadable: how many SVGs could not be drawn.
        unfit: how many drawings were too long, too small or too faint.
        sha256: over the drawings, hexadecimal: says of a fit what it was fitted on.
    """

    logos: tuple[Logo, ...]
    unreadable: int
    unfit: int
    sha256: str


def brand_of(slug: str) -> str:
    """The brand of an icon's name: lower case, without `-icon` and the like at its end, without `-`, `_`, `.`, ` `."""
    brand = slug.lower()
    while brand.endswith(_SUFFIXES):
        brand = next(brand.removesuffix(suffix) for suffix in _SUFFIXES if brand.endswith(suffix))
    return re.sub(r"[-_. ]", "", brand)


def find(directories: Sequence[Path], *, seed: int) -> Found:
    """The logos of packages: of each brand the first that can be drawn well, `-icon` before others.

    Args:
        directories: unpacked packages: each has Iconify's icons.json, or .svg files in it or below.
        seed: chooses among the logos without a colour, and gives these their colours.

    Raises:
        FitError: a directory is missing, has no logos, or its icons.json is malformed.
        ModuleNotFoundError: resvg_py, which draws them, is not installed.
    """
    chance = random.Random(f"{seed} logos")  # noqa: S311 -- no secret
    logos: dict[str, Logo] = {}
    unreadable = unfit = plain = 0
    for directory in directories:
        brands = _by_brand(directory)
        for brand in _ordered(brands, chance):
            if brand in logos:
                continue
            for text in brands[brand]:
                colour = None if _COLOURED.search(text) else _any_colour(chance)
                if colour is not None and plain >= MOST_PLAIN:
                    continue
                drawn = _drawn(text)
                if drawn is None:
                    unreadable += 1
                elif not _fit(drawn):
                    unfit += 1
                else:
                    logos[brand] = Logo(brand, _png(drawn, colour), colour is not None)
                    plain += colour is not None
                    break
    digest = hashlib.sha256()
    for logo in logos.values():
        digest.update(hashlib.sha256(logo.png).digest())
    return Found(tuple(logos.values()), unreadable, unfit, digest.hexdigest())


def identities(logos: Sequence[Logo]) -> list[Identity]:
    """Each logo as it is and turned, without the turns that change nothing: a mirrored circle is the same circle."""
    found = []
    for number, logo in enumerate(logos):
        small = logo.picture().resize((_COMPARED_SIDE, _COMPARED_SIDE), Image.Resampling.BOX)
        kept: list[NDArray[np.float32]] = []
        for turn in TURNS_PLAIN if logo.plain else TURNS:
            one = Identity(number, turn)
            # Seen on one ground: the colours of what is transparent do not count.
            ground = Image.new("RGBA", small.size, (128, 128, 128))
            pixels = np.asarray(Image.alpha_composite(ground, one.of(small)).convert("RGB"), np.float32)
            if all(float(np.abs(pixels - other).mean()) > _SAME for other in kept):
                kept.append(pixels)
                found.append(one)
    return found


def _by_brand(directory: Path) -> dict[str, list[str]]:
    """The SVG texts of each brand that is for fitting, `-icon` first."""
    if not directory.is_dir():
        raise FitError(f"{directory} is no directory; say where an icon package is unpacked")
    listed = directory / _ICONIFY_FILE
    named = _iconify(listed) if listed.is_file() else _svg_files(directory)
    by_brand: dict[str, list[tuple[str, str]]] = {}
    for slug, text in named:
        brand = brand_of(slug)
        if brand and not MEASURED.holds(brand):
            by_brand.setdefault(brand, []).append((slug, text))
    if not by_brand:
        raise FitError(f"{directory} has no logos to fit on: neither {_ICONIFY_FILE} of Iconify's form, nor .svg files")
    return {
        brand: [text for _, text in sorted(found, key=lambda one: not one[0].endswith("-icon"))]
        for brand, found in by_brand.items()
    }


def _ordered(brands: dict[str, list[str]], chance: random.Random) -> list[str]:
    """Brands in an order by chance: when plain logos are left out, not those at the alphabet's end."""
    return chance.sample(list(brands), len(brands))


def _iconify(path: Path) -> Iterator[tuple[str, str]]:
    """Slugs and SVG texts of an Iconify JSON set; its aliases are left out."""
    try:
        held: Any = json.loads(path.read_text(encoding="utf-8"))
        for slug, icon in held["icons"].items():
            left, top = icon.get("left", held.get("left", 0)), icon.get("top", held.get("top", 0))
            width = icon.get("width", held.get("width", _ICONIFY_SIDE))
            height = icon.get("height", held.get("height", _ICONIFY_SIDE))
            view = f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}"'
            yield slug, f"<svg {_NAMESPACES} {view}>{icon['body']}</svg>"
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FitError(f"{path} is no Iconify set, with an icon's `body` by its name in `icons`: {error!r}") from error


def _svg_files(directory: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(directory.rglob("*.svg")):
        try:
            # What is no UTF-8 is left to the renderer to refuse, and is counted there.
            yield path.stem, path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise FitError(f"{path} cannot be read: {error}") from error


def _drawn(text: str) -> Image.Image | None:
    """An SVG drawn, RGBA without margins; None: it is malformed, or draws nothing."""
    import resvg_py  # noqa: PLC0415 -- not of the `serving` extra: its command says how to install it

    try:
        # Without fonts of the system: what a logo looks like must not depend on the machine.
        data = bytes(resvg_py.svg_to_bytes(svg_string=text, skip_system_fonts=True, dpi=96.0, width=DRAWN_SIDE))
        with Image.open(io.BytesIO(data)) as image:
            if image.height > image.width:
                data = bytes(
                    resvg_py.svg_to_bytes(svg_string=text, skip_system_fonts=True, dpi=96.0, height=DRAWN_SIDE)
                )
        with Image.open(io.BytesIO(data)) as image:
            drawn = image.convert("RGBA")
    except (ValueError, OSError, UnidentifiedImageError):
        return None
    inside = drawn.getchannel("A").point([255 if alpha > _VISIBLE else 0 for alpha in range(256)]).getbbox()
    return drawn.crop(inside) if inside else None


def _fit(drawn: Image.Image) -> bool:
    """Whether a drawing is neither too long, too small nor too faint to be learned from."""
    low, high = sorted(drawn.size)
    return low >= _MIN_SIDE and high <= _MAX_ASPECT * low and float(np.asarray(drawn)[..., 3].mean()) > _MIN_INK


def _any_colour(chance: random.Random) -> Colour:
    return chance.randint(0, 255), chance.randint(0, 255), chance.randint(0, 255)


def _png(drawn: Image.Image, colour: Colour | None) -> bytes:
    buffer = io.BytesIO()
    (drawn if colour is None else flat(drawn, colour)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
