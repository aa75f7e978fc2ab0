"""What is done to a picture before it is uploaded again: named edits, the same for the same seed.

Each takes a picture and gives another. Shares of a crop are shares of the area. Edits that put the picture into a
larger one draw on a canvas `CANVAS` pixels wide, so that photographs of any size are edited alike. AugLy's transforms
(Papakipos and Bitton, arXiv:2201.06494) are used with its own assets; its perspective_transform and meme_format do not
run on today's numpy and Pillow, and have stand-ins here.
"""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

CANVAS = 640
"""The width in pixels of the larger picture that a picture is put into."""

QUALITY = 90
"""JPEG quality of every edited picture, but for those whose edit is the quality."""

Chance = np.random.Generator
Pool = Sequence[Callable[[], Image.Image]]
"""Other photographs, opened when they are needed: those that a picture is put into."""

_BICUBIC, _LANCZOS = Image.Resampling.BICUBIC, Image.Resampling.LANCZOS
_WORDS = ("WHEN IT IS MONDAY AGAIN", "NOBODY ASKED, YET HERE WE ARE", "SHARE THIS WITH A FRIEND", "TRUE STORY")


@dataclass(frozen=True, slots=True)
class Attack:
    """One edit: its name, what it does in a sentence, and how."""

    name: str
    says: str
    apply: Callable[[Image.Image, Chance, Pool], Image.Image]
    quality: int = QUALITY


def _crop(share: float) -> Callable[[Image.Image, Chance, Pool], Image.Image]:
    def apply(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
        del pool
        width, height = (max(1, round(side * math.sqrt(share))) for side in image.size)
        left = int(chance.integers(0, image.width - width + 1))
        top = int(chance.integers(0, image.height - height + 1))
        return image.crop((left, top, left + width, top + height))

    return apply


def _host(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
    """Another photograph as wide as the canvas; without any, the picture itself, blurred beyond recognition."""
    if pool:
        host = pool[int(chance.integers(len(pool)))]().convert("RGB")
    else:
        host = image.resize((4, 4)).resize((64, 48), _BICUBIC)
    return host.resize((CANVAS, max(1, round(host.height * CANVAS / host.width))), _BICUBIC)


def _inset(share: float) -> Callable[[Image.Image, Chance, Pool], Image.Image]:
    def apply(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
        host = _host(image, chance, pool)
        width = round(CANVAS * share)
        small = image.resize((width, max(1, round(image.height * width / image.width))), _LANCZOS)
        if small.height > host.height * 0.95:  # a tall picture in a wide host: the host grows, the share stays
            host = host.resize((CANVAS, round(small.height / 0.95)), _BICUBIC)
        left = int(chance.integers(0, host.width - small.width + 1))
        top = int(chance.integers(0, host.height - small.height + 1))
        host.paste(small, (left, top))
        return host

    return apply


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(8.0, size))


def _phone(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
    del pool
    width, height = CANVAS, round(CANVAS * 2.0)
    dark = bool(chance.integers(2))
    ground, ink = ((18, 18, 18), (235, 235, 235)) if dark else ((250, 250, 250), (20, 20, 20))
    screen = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(screen)
    draw.text((30, 14), "12:47", ink, _font(26))
    draw.rectangle((width - 80, 18, width - 34, 38), outline=ink, width=3)
    draw.ellipse((24, 70, 84, 130), fill=(120, 140, 200))
    draw.text((104, 78), "somebody", ink, _font(24))
    draw.text((104, 106), "2 h ago", (130, 130, 130), _font(18))
    shown = image.resize((width, max(1, round(image.height * width / image.width))), _LANCZOS)
    if shown.height > height - 400:
        keep = height - 400
        shown = shown.crop((0, (shown.height - keep) // 2, width, (shown.height - keep) // 2 + keep))
    screen.paste(shown, (0, 150))
    under = 150 + shown.height + 20
    for number in range(3):
        draw.ellipse((30 + 70 * number, under, 74 + 70 * number, under + 44), outline=ink, width=4)
    draw.text((30, under + 66), "1,204 likes   what do you think?", ink, _font(22))
    draw.rectangle((width // 2 - 110, height - 22, width // 2 + 110, height - 14), fill=ink)
    return screen.crop((0, 0, width, height))


def _meme(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
    del pool
    bar = max(14, round(image.height * 0.28))
    made = Image.new("RGB", (image.width, image.height + bar), (255, 255, 255))
    made.paste(image, (0, bar))
    words = _WORDS[int(chance.integers(len(_WORDS)))].split()
    half = (len(words) + 1) // 2
    draw = ImageDraw.Draw(made)
    text = " ".join(words[:half]) + "\n" + " ".join(words[half:])
    draw.multiline_text((image.width / 2, bar / 2), text, (0, 0, 0), _font(bar * 0.3), "mm", align="center")
    return made


def _collage(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
    side = CANVAS // 2
    height = round(side * 0.75)
    tiles = [_host(image, chance, pool) for _ in range(3)]
    tiles.insert(int(chance.integers(4)), image)
    made = Image.new("RGB", (2 * side + 6, 2 * height + 6), (255, 255, 255))
    for place, tile in enumerate(tiles):
        # Each fills its cell: what sticks out is cut, as collage makers do.
        fitted = ImageOps.fit(tile, (side, height), _LANCZOS)
        made.paste(fitted, ((place % 2) * (side + 6), (place // 2) * (height + 6)))
    return made


def _turn(degrees: float) -> Callable[[Image.Image, Chance, Pool], Image.Image]:
    def apply(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
        del pool
        way = 1 if chance.integers(2) else -1
        return image.rotate(way * degrees, _BICUBIC, expand=True, fillcolor=(0, 0, 0))

    return apply


def _transpose(*methods: Image.Transpose) -> Callable[[Image.Image, Chance, Pool], Image.Image]:
    def apply(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
        del pool
        return image.transpose(methods[int(chance.integers(len(methods)))])

    return apply


def homography(corners: NDArray[np.float64], size: tuple[int, int]) -> list[float]:
    """The eight numbers of Pillow's PERSPECTIVE that take each given corner of the result to the corner of a picture.

    Args:
        corners: float64 [4, 2], where top left, top right, bottom right and bottom left of the picture come to lie.
        size: the picture's width and height in pixels.
    """
    width, height = size
    rows, wanted = [], []
    for (x, y), (u, v) in zip(corners, ((0, 0), (width, 0), (width, height), (0, height)), strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
        wanted += [u, v]
    return [float(value) for value in np.linalg.solve(np.array(rows), np.array(wanted, np.float64))]


def _perspective(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
    del pool
    width, height = image.size
    inward = chance.uniform(0.04, 0.18, (4, 2)) * (width, height)
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64) + signs * inward
    return image.transform(
        image.size, Image.Transform.PERSPECTIVE, homography(corners, image.size), _BICUBIC, fillcolor=(90, 90, 90)
    )


def _printed(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
    """Printed in dots and photographed: halftone, noise, a colour cast, light from one side, out of focus."""
    del pool
    scale = max(1.0, CANVAS / max(image.size))
    size = (round(image.width * scale), round(image.height * scale))
    pixels = np.asarray(image.resize(size, _BICUBIC), np.float32)
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    for channel, angle in enumerate((0.26, 1.31, 0.79)):
        along = columns * math.cos(angle) + rows * math.sin(angle)
        across = rows * math.cos(angle) - columns * math.sin(angle)
        pixels[..., channel] += 34 * np.sin(along * 1.6) * np.sin(across * 1.6)
    pixels *= 0.85 + 0.15 * chance.uniform(-1, 1, 3).astype(np.float32)
    pixels = 22 + 0.85 * pixels
    way = chance.uniform(0, 2 * math.pi)
    light = (columns / size[0] - 0.5) * math.cos(way) + (rows / size[1] - 0.5) * math.sin(way)
    pixels *= (1 + 0.5 * light)[..., None]
    pixels += chance.normal(0, 9, pixels.shape)
    made = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.1))
    return made.resize(image.size, _LANCZOS)


def _resized(share: float) -> Callable[[Image.Image, Chance, Pool], Image.Image]:
    def apply(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
        del chance, pool
        return image.resize((max(8, round(image.width * share)), max(8, round(image.height * share))), _LANCZOS)

    return apply


def _same(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
    del chance, pool
    return image


def _blur(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
    del chance, pool
    return image.filter(ImageFilter.GaussianBlur(max(image.size) * 0.01))


def _enhance(kind: Callable[[Image.Image], Any], factor: float) -> Callable[[Image.Image, Chance, Pool], Image.Image]:
    def apply(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
        del chance, pool
        made: Image.Image = kind(image).enhance(factor)
        return made

    return apply


def _grey(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
    del chance, pool
    return ImageOps.grayscale(image).convert("RGB")


def _hue(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
    del pool
    pixels = np.asarray(image.convert("HSV")).copy()
    turn = int(chance.integers(40, 90)) * (1 if chance.integers(2) else -1)
    pixels[..., 0] = (pixels[..., 0].astype(np.int16) + turn) % 256
    return Image.fromarray(pixels, "HSV").convert("RGB")


def _padded(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
    del pool
    colour = tuple(int(value) for value in chance.integers(0, 256, 3))
    sides = (round(image.width * 0.25), round(image.height * 0.25))
    return ImageOps.expand(image, (*sides, *sides), fill=colour)


def _aspect(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
    del pool
    narrow = bool(chance.integers(2))
    width, height = image.size
    return image.resize((round(width * 0.75), height) if narrow else (width, round(height * 0.75)), _LANCZOS)


def _augly(name: str, **said: Any) -> Callable[[Image.Image, Chance, Pool], Image.Image]:
    """One of AugLy's transforms; `said` values that are functions of chance are drawn for each picture."""

    def apply(image: Image.Image, chance: Chance, pool: Pool) -> Image.Image:
        del pool
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that AugLy leaves open, and of old ways to call Pillow
            import augly.image  # noqa: PLC0415 -- half a second, and of the eval extra alone

            arguments = {key: value(chance) if callable(value) else value for key, value in said.items()}
            made: Image.Image = getattr(augly.image, name)(image, **arguments)
        return made.convert("RGB")

    return apply


def _mobile_template(chance: Chance) -> str:
    del chance
    return str(resources.files("augly") / "assets" / "screenshot_templates" / "mobile.png")


def _letters(chance: Chance) -> list[int]:
    return [int(value) for value in chance.integers(60, 120, 9)]


ATTACKS: tuple[Attack, ...] = (
    Attack("crop-80", "a window of 80% of the area, anywhere", _crop(0.8)),
    Attack("crop-60", "a window of 60% of the area, anywhere", _crop(0.6)),
    Attack("crop-40", "a window of 40% of the area, anywhere", _crop(0.4)),
    Attack("inset-70", "put into another photograph 640 px wide, at 70% of its width, anywhere", _inset(0.7)),
    Attack("inset-50", "put into another photograph 640 px wide, at 50% of its width, anywhere", _inset(0.5)),
    Attack("phone-screenshot", "a post on a phone's screen: 640 x 1,280 px, bars and text around it", _phone),
    Attack(
        "app-screenshot",
        "AugLy overlay_onto_screenshot with its template of an app on a phone",
        _augly("overlay_onto_screenshot", template_filepath=_mobile_template),
    ),
    Attack(
        "web-screenshot",
        "AugLy overlay_onto_screenshot with its template of a web page, where the picture is a third of the width",
        _augly("overlay_onto_screenshot"),
    ),
    Attack("meme-caption", "a white bar of 28% of the height above it, with two lines of text", _meme),
    Attack("collage", "one of four tiles of 320 x 240 px, cut to fit, beside three other photographs", _collage),
    Attack("mirror", "mirrored left to right", _transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    Attack("flip-vertical", "mirrored top to bottom", _transpose(Image.Transpose.FLIP_TOP_BOTTOM)),
    Attack(
        "quarter-turn", "turned by 90 or 270 degrees", _transpose(Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)
    ),
    Attack("upside-down", "turned by 180 degrees", _transpose(Image.Transpose.ROTATE_180)),
    Attack("turn-8", "turned by 8 degrees either way, black corners", _turn(8)),
    Attack("turn-15", "turned by 15 degrees either way, black corners", _turn(15)),
    Attack("perspective", "seen from the side: each corner moved inwards by 4% to 18% of each side", _perspective),
    Attack("skew", "AugLy skew by 0.3", _augly("skew", skew_factor=0.3)),
    Attack("print", "printed and photographed: halftone, noise, colour cast, uneven light, out of focus", _printed),
    Attack("jpeg-15", "JPEG at quality 15", _same, 15),
    Attack("quarter-size", "a quarter of the width and of the height", _resized(0.25)),
    Attack("blur", "Gaussian blur of 1% of the longer side", _blur),
    Attack("noise", "AugLy random_noise of variance 0.02", _augly("random_noise", var=0.02)),
    Attack("pixelation", "AugLy pixelization at 0.4", _augly("pixelization", ratio=0.4)),
    Attack("brighter", "brightness 1.6", _enhance(ImageEnhance.Brightness, 1.6)),
    Attack("darker", "brightness 0.45", _enhance(ImageEnhance.Brightness, 0.45)),
    Attack("contrast", "contrast 1.8", _enhance(ImageEnhance.Contrast, 1.8)),
    Attack("saturation", "saturation 2.5", _enhance(ImageEnhance.Color, 2.5)),
    Attack("grey", "without colour", _grey),
    Attack("hue", "hue turned by 56 to 127 degrees either way", _hue),
    Attack("padding", "a frame of 25% of the width and the height on each side, of any colour", _padded),
    Attack(
        "text",
        "AugLy overlay_text: two fifths of the width, white",
        _augly(
            "overlay_text",
            text=_letters,
            font_size=0.2,
            color=(255, 255, 255),
            x_pos=lambda chance: float(chance.uniform(0.0, 0.3)),
            y_pos=lambda chance: float(chance.uniform(0.1, 0.7)),
        ),
    ),
    Attack(
        "emoji",
        "AugLy overlay_emoji at 40% of the height",
        _augly(
            "overlay_emoji",
            emoji_size=0.4,
            x_pos=lambda chance: float(chance.uniform(0.0, 0.6)),
            y_pos=lambda chance: float(chance.uniform(0.0, 0.6)),
        ),
    ),
    Attack("aspect", "one side to 75%, the other kept", _aspect),
)
"""All edits, in the order that reports name them."""

BY_NAME = {one.name: one for one in ATTACKS}


def chance_of(*parts: object) -> Chance:
    """A source of chance that is the same for the same parts: a seed, a picture's name, an edit's name."""
    digest = hashlib.sha256("\0".join(str(one) for one in parts).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def attacked(attack: Attack, image: Image.Image, name: str, seed: int, pool: Pool = ()) -> bytes:
    """A picture edited and saved as a JPEG file.

    Args:
        attack: the edit.
        image: the picture.
        name: the picture's; with the seed and the edit's name it decides all that is left to chance.
        seed: of the run.
        pool: photographs to put it into.
    """
    made = attack.apply(image.convert("RGB"), chance_of(seed, name, attack.name), pool)
    buffer = io.BytesIO()
    made.convert("RGB").save(buffer, "JPEG", quality=attack.quality)
    return buffer.getvalue()
