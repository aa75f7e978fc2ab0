"""Edits of pictures, as copies come back to a platform: what a projection learns to look through.

Each edit says where in the edited picture the original is seen, so that a window of it can be paired with the original.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as fractions of a picture."""

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
MAX_SIDE = 512
"""Pictures are first made this small: the model sees 299 x 299 pixels, and edits cost by the pixel."""

_BILINEAR = Image.Resampling.BILINEAR
_WORDS = """
    when you see it share this now the best day ever no one me at 3 am wait for it breaking news sale only today
    follow us for more monday mood why not you will never believe what happened next 100% real swipe up
""".split()  # noqa: SIM905 -- a list of 44 literals says no more


@dataclass(frozen=True, slots=True)
class Edited:
    """An edited picture.

    Attributes:
        picture: RGB.
        shown: where in it the original's content is.
    """

    picture: Image.Image
    shown: Box = WHOLE


Edit = Callable[[Image.Image, Sequence[Image.Image], random.Random], Edited]
"""From a picture, other pictures to put it into or beside, and chance."""


def opened(picture: Image.Image) -> Image.Image:
    """A picture as the edits take it: RGB, turned as its EXIF says, no side over `MAX_SIDE`."""
    upright = ImageOps.exif_transpose(picture)
    if upright.mode in {"RGBA", "LA", "P"}:
        upright = upright.convert("RGBA")
        ground = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(ground, upright)
    upright = upright.convert("RGB")
    upright.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BOX)
    return upright


# What a picture goes through on its way: compression, size, light and colour.


def jpeg(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Strong JPEG compression."""
    return Edited(_jpeg(picture, chance.randint(6, 40)))


def shrink(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """A small version of it."""
    return Edited(_scale(picture, chance.uniform(0.15, 0.5)))


def blur(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Out of focus, or smeared by a median."""
    side = min(picture.size)
    if chance.random() < 0.2:
        return Edited(picture.filter(ImageFilter.MedianFilter(chance.choice([5, 7]))))
    return Edited(picture.filter(ImageFilter.GaussianBlur(side * chance.uniform(0.006, 0.025))))


def pixelate(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Blocks of one colour, or few colours."""
    if chance.random() < 0.3:
        return Edited(ImageOps.posterize(picture, chance.randint(2, 3)))
    small = _scale(picture, chance.uniform(0.12, 0.4))
    return Edited(small.resize(picture.size, Image.Resampling.NEAREST))


def light(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Brightness, contrast, gamma."""
    gamma = 2 ** chance.uniform(-1.0, 1.0)
    picture = picture.point([round(255 * (value / 255) ** gamma) for value in range(256)] * 3)
    picture = ImageEnhance.Brightness(picture).enhance(chance.uniform(0.5, 1.6))
    return Edited(ImageEnhance.Contrast(picture).enhance(chance.uniform(0.5, 1.8)))


def colour(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Another hue and saturation, or a tint."""
    if chance.random() < 0.3:
        tint = tuple(chance.randint(0, 255) for _ in range(3))
        return Edited(Image.blend(picture, Image.new("RGB", picture.size, tint), chance.uniform(0.15, 0.4)))
    hue, saturation, value = picture.convert("HSV").split()
    turn = chance.randint(-60, 60)
    hue = hue.point([(level + turn) % 256 for level in range(256)])
    return Edited(
        ImageEnhance.Color(Image.merge("HSV", (hue, saturation, value)).convert("RGB")).enhance(chance.uniform(0.3, 2))
    )


def grey(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Grey, sepia, or two colours."""
    kind = chance.random()
    level = picture.convert("L")
    if kind < 0.5:
        return Edited(level.convert("RGB"))
    dark = tuple(chance.randint(0, 70) for _ in range(3))
    bright = tuple(chance.randint(180, 255) for _ in range(3))
    return Edited(ImageOps.colorize(level, dark, bright))


def noise(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Grain of a sensor or of a print."""
    numbers = np.random.default_rng(chance.getrandbits(32))
    pixels = np.asarray(picture, np.float32)
    channels = 1 if chance.random() < 0.4 else 3
    grain = numbers.normal(0, chance.uniform(8, 40), (*pixels.shape[:2], channels))
    return Edited(Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)))


# Its shape.


def crop(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """A part of a quarter to nine tenths of its area."""
    return Edited(_crop(picture, chance.uniform(0.25, 0.9), chance))


def turn(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """A quarter or half turn."""
    return Edited(picture.transpose(chance.choice(list(_TURNS))))


def mirror(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Seen in a mirror, at times cropped."""
    flipped = ImageOps.mirror(picture)
    return Edited(_crop(flipped, chance.uniform(0.5, 0.9), chance) if chance.random() < 0.5 else flipped)


def tilt(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Turned a little, with the corners filled or cut off."""
    degrees = chance.choice([-1, 1]) * chance.uniform(3, 25)
    fill = _flat(chance)
    if chance.random() < 0.5:
        return Edited(picture.rotate(degrees, _BILINEAR, expand=True, fillcolor=fill))
    turned = picture.rotate(degrees, _BILINEAR, fillcolor=fill)
    return Edited(_middle(turned, 0.75) if chance.random() < 0.5 else turned)


def perspective(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Photographed from aside."""
    width, height = picture.size
    corners = []
    for x, y in ((0, 0), (0, 1), (1, 1), (1, 0)):
        corners += [
            width * (x + (1 - 2 * x) * chance.uniform(-0.05, 0.2)),
            height * (y + (1 - 2 * y) * chance.uniform(-0.05, 0.2)),
        ]
    return Edited(picture.transform(picture.size, Image.Transform.QUAD, corners, _BILINEAR, fillcolor=_flat(chance)))


def stretch(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Another aspect ratio by cutting two sides alone."""
    share = chance.uniform(0.5, 0.85)
    width, height = picture.size
    if chance.random() < 0.5:
        left = chance.uniform(0, 1 - share) * width
        return Edited(picture.crop((round(left), 0, round(left + share * width), height)))
    top = chance.uniform(0, 1 - share) * height
    return Edited(picture.crop((0, round(top), width, round(top + share * height))))


# What is put over it or around it.


def caption(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Bars with words above, below or both."""
    width, height = picture.size
    above = round(height * chance.uniform(0.1, 0.35)) if chance.random() < 0.7 else 0
    below = round(height * chance.uniform(0.1, 0.3)) if not above or chance.random() < 0.3 else 0
    dark = chance.random() < 0.3
    canvas = Image.new("RGB", (width, height + above + below), "black" if dark else "white")
    canvas.paste(picture, (0, above))
    draw = ImageDraw.Draw(canvas)
    for top, bar in ((0, above), (above + height, below)):
        if bar:
            _write(draw, (0, top, width, top + bar), "white" if dark else "black", chance)
    total = canvas.height
    return Edited(canvas, (0.0, above / total, 1.0, (above + height) / total))


def words(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Words over it."""
    picture = picture.copy()
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    for _again in range(chance.randint(1, 3)):
        top = chance.uniform(0, 0.75) * height
        left = chance.uniform(0, 0.4) * width
        _write(draw, (left, top, width, top + height * chance.uniform(0.12, 0.3)), _flat(chance), chance)
    return Edited(picture)


def stickers(picture: Image.Image, others: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Faces, shapes or a piece of another picture over it."""
    picture = picture.copy()
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    for _again in range(chance.randint(1, 4)):
        side = min(width, height) * chance.uniform(0.15, 0.45)
        x, y = chance.uniform(0, width - side), chance.uniform(0, height - side)
        kind = chance.random()
        if kind < 0.5:
            _face(draw, (x, y, x + side, y + side), chance)
        elif kind < 0.75 or not others:
            draw.rectangle((x, y, x + side, y + side * chance.uniform(0.3, 1)), fill=_flat(chance))
        else:
            other = _crop(chance.choice(others), 0.4, chance).resize((max(8, round(side)), max(8, round(side))))
            picture.paste(other, (round(x), round(y)))
    return Edited(picture)


def frame(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Padded: a frame, or bars at two sides."""
    width, height = picture.size
    across, down = chance.uniform(0.05, 0.4), chance.uniform(0.05, 0.4)
    kind = chance.random()
    if kind < 0.35:
        down = 0.0
    elif kind < 0.7:
        across = 0.0
    x, y = round(width * across), round(height * down)
    if chance.random() < 0.25:
        canvas = picture.resize((width + 2 * x, height + 2 * y)).filter(
            ImageFilter.GaussianBlur(min(width, height) / 12)
        )
    else:
        canvas = Image.new("RGB", (width + 2 * x, height + 2 * y), _flat(chance))
    return _placed(canvas, picture, (x, y))


def screenshot(picture: Image.Image, _: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Shown by an application, with its bars, its words and its buttons, at times a telephone's."""
    width, height = picture.size
    tall = chance.random() < 0.6
    canvas_width = round(width * chance.uniform(1.0, 1.15 if tall else 1.6))
    canvas_height = round(
        max(height * 1.25, canvas_width * chance.uniform(1.2, 1.8)) if tall else height * chance.uniform(1.2, 1.6)
    )
    dark = chance.random() < 0.4
    canvas = Image.new("RGB", (canvas_width, canvas_height), (24, 24, 28) if dark else (250, 250, 250))
    draw = ImageDraw.Draw(canvas)
    ink = (220, 220, 220) if dark else (40, 40, 40)
    top = round((canvas_height - height) * chance.uniform(0.2, 0.7))
    left = round((canvas_width - width) * chance.random())
    draw.rectangle((0, 0, canvas_width, top * 0.4), fill=_flat(chance))
    _write(draw, (left, top * 0.5, canvas_width, top), ink, chance)
    below = top + height
    if canvas_height - below > 12:
        _write(draw, (left, below + 4, canvas_width, min(canvas_height, below + 4 + canvas_height * 0.1)), ink, chance)
        step = canvas_width / 5
        for number in range(5):
            x = step * (number + 0.35)
            draw.ellipse(
                (x, canvas_height - step * 0.4, x + step * 0.3, canvas_height - step * 0.1), outline=ink, width=2
            )
    return _placed(canvas, picture, (left, top))


def inset(picture: Image.Image, others: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Pasted into another picture, at 40 to 80% of its sides."""
    host = chance.choice(others).copy() if others else Image.new("RGB", picture.size, _flat(chance))
    return _inset(picture, host, chance.uniform(0.4, 0.8), chance)


def collage(picture: Image.Image, others: Sequence[Image.Image], chance: random.Random) -> Edited:
    """One of two or of four pictures side by side."""
    columns, rows = chance.choice([(2, 1), (1, 2), (2, 2)])
    width, height = picture.size
    gap = chance.choice([0, 0, 4, 10])
    canvas = Image.new("RGB", (columns * width + (columns - 1) * gap, rows * height + (rows - 1) * gap), _flat(chance))
    places = [(column * (width + gap), row * (height + gap)) for column in range(columns) for row in range(rows)]
    own = chance.randrange(len(places))
    for number, place in enumerate(places):
        if number != own and others:
            canvas.paste(ImageOps.fit(chance.choice(others), (width, height), _BILINEAR), place)
    return _placed(canvas, picture, places[own])


def several(picture: Image.Image, others: Sequence[Image.Image], chance: random.Random) -> Edited:
    """Two or three of the others, one after the other."""
    made = Edited(picture)
    for edit in chance.sample(_MILD, chance.randint(1, 2)):
        made = Edited(edit(made.picture, others, chance).picture)
    return chance.choice(_LAST)(made.picture, others, chance)


EDITS: tuple[Edit, ...] = (
    jpeg, shrink, blur, pixelate, light, colour, grey, noise,
    crop, crop, crop, turn, turn, mirror, tilt, tilt, perspective, stretch,
    caption, words, stickers, frame, screenshot,
    inset, inset, inset, collage, several, several, several,
)  # fmt: skip
"""All edits, those of which there are many kinds more than once: one round of them a picture."""

_MILD: tuple[Edit, ...] = (jpeg, shrink, light, colour, grey, noise, crop, stretch, mirror, tilt, words, stickers)
_LAST: tuple[Edit, ...] = (jpeg, crop, tilt, caption, frame, screenshot, inset, light, stickers)
_TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


def _jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def _scale(picture: Image.Image, factor: float) -> Image.Image:
    return picture.resize((max(16, round(picture.width * factor)), max(16, round(picture.height * factor))), _BILINEAR)


def _crop(picture: Image.Image, share: float, chance: random.Random) -> Image.Image:
    skew = 2 ** chance.uniform(-0.3, 0.3)
    width = min(picture.width, max(16, round(picture.width * share**0.5 * skew)))
    height = min(picture.height, max(16, round(picture.height * share**0.5 / skew)))
    left, top = chance.randint(0, picture.width - width), chance.randint(0, picture.height - height)
    return picture.crop((left, top, left + width, top + height))


def _middle(picture: Image.Image, share: float) -> Image.Image:
    x, y = picture.width * (1 - share) / 2, picture.height * (1 - share) / 2
    return picture.crop((round(x), round(y), round(picture.width - x), round(picture.height - y)))


def _inset(picture: Image.Image, host: Image.Image, share: float, chance: random.Random) -> Edited:
    factor = min(host.width / picture.width, host.height / picture.height) * share
    small = picture.resize((max(16, round(picture.width * factor)), max(16, round(picture.height * factor))), _BILINEAR)
    place = (
        chance.randint(0, max(0, host.width - small.width)),
        chance.randint(0, max(0, host.height - small.height)),
    )
    return _placed(host, small, place)


def _placed(canvas: Image.Image, picture: Image.Image, place: tuple[int, int]) -> Edited:
    canvas.paste(picture, place)
    left, top = place
    right, bottom = left + picture.width, top + picture.height
    return Edited(canvas, (left / canvas.width, top / canvas.height, right / canvas.width, bottom / canvas.height))


def _flat(chance: random.Random) -> tuple[int, int, int]:
    kind = chance.random()
    if kind < 0.3:
        return (255, 255, 255)
    if kind < 0.6:
        return (0, 0, 0)
    return chance.randint(0, 255), chance.randint(0, 255), chance.randint(0, 255)


def _write(
    draw: ImageDraw.ImageDraw,
    box: tuple[float, float, float, float],
    fill: str | tuple[int, int, int],
    chance: random.Random,
) -> None:
    left, top, right, bottom = box
    size = max(8.0, (bottom - top) * chance.uniform(0.25, 0.6))
    font = ImageFont.load_default(size)
    line = top + 2
    while line + size < bottom:
        # A letter is about half as wide as high.
        letters = max(3, int((right - left) / size * 1.8))
        text = " ".join(chance.choices(_WORDS, k=max(1, letters // 5)))[:letters]
        draw.text((left + 4, line), text.upper() if size > 24 else text, fill=fill, font=font)
        line += size * 1.15


def _face(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], chance: random.Random) -> None:
    left, top, right, bottom = box
    side = right - left
    draw.ellipse(box, fill=chance.choice([(255, 204, 50), (250, 120, 90), (120, 200, 90)]), outline=(120, 80, 0))
    for x in (0.28, 0.6):
        draw.ellipse(
            (left + x * side, top + 0.28 * side, left + (x + 0.13) * side, top + 0.45 * side), fill=(60, 40, 0)
        )
    draw.arc((left + 0.22 * side, top + 0.3 * side, right - 0.22 * side, bottom - 0.18 * side), 20, 160, (60, 40, 0), 3)
