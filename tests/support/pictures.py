"""Pictures made from real photographs."""

from __future__ import annotations

import io
import random
from typing import Any

import resvg_py
from PIL import Image, ImageStat

Box = tuple[float, float, float, float]


def opened(data: bytes) -> Image.Image:
    """A photograph as RGB pixels."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def encoded(image: Image.Image, format_: str = "JPEG", **options: Any) -> bytes:
    """Pixels as a file."""
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def cropped(image: Image.Image, share: float) -> Image.Image:
    """The middle of a picture, that share of its area."""
    width, height = (round(side * share**0.5) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def exported(svg: bytes) -> Image.Image:
    """A logo as a designer would export it: RGBA, trimmed."""
    image = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg.decode(), width=512)))).convert("RGBA")
    return image.crop(image.getchannel("A").getbbox())


def in_grey(logo: Image.Image) -> Image.Image:
    """A logo without its colours."""
    return Image.merge("LA", (logo.convert("L"), logo.getchannel("A"))).convert("RGBA")


def turned(logo: Image.Image) -> Image.Image:
    """A logo, 9 degrees against the clock."""
    return logo.rotate(9, Image.Resampling.BICUBIC, expand=True)


def pasted(image: Image.Image, logo: Image.Image, share: float, place: tuple[float, float]) -> Image.Image:
    """A picture with a logo in it: `share` of its width wide, its middle at `place`, fractions of the picture."""
    width = round(image.width * share)
    height = max(1, round(width * logo.height / logo.width))
    drawn = logo.resize((width, height), Image.Resampling.LANCZOS)
    scene = image.copy()
    scene.paste(drawn, (round(place[0] * image.width - width / 2), round(place[1] * image.height - height / 2)), drawn)
    return scene


def inset(image: Image.Image, scene: Image.Image, box: Box) -> Image.Image:
    """A picture drawn into a box of a scene, given as left, top, right, bottom fractions; its shape is not kept."""
    width, height = scene.size
    left, top, right, bottom = (round(edge * side) for edge, side in zip(box, (width, height) * 2, strict=True))
    drawn = scene.copy()
    drawn.paste(image.resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top))
    return drawn


def overlap(region: Any, box: Box) -> float:
    """Intersection over union of a match's region and a box."""
    left, top = max(region.left, box[0]), max(region.top, box[1])
    right, bottom = min(region.right, box[2]), min(region.bottom, box[3])
    common = max(0.0, right - left) * max(0.0, bottom - top)
    areas = (region.right - region.left) * (region.bottom - region.top) + (box[2] - box[0]) * (box[3] - box[1])
    return float(common / (areas - common))


def tiles(photographs: list[bytes], count: int, side: int, seed: int) -> list[bytes]:
    """Many different pictures: windows of photographs at chance places and sizes, as JPEG files of one side."""
    chance = random.Random(seed)  # noqa: S311 -- repeatable, not secret
    images = [opened(data) for data in photographs]
    made: list[bytes] = []
    while len(made) < count:
        image = chance.choice(images)
        window = chance.randint(min(image.size) // 4, min(image.size) // 2)
        left, top = chance.randint(0, image.width - window), chance.randint(0, image.height - window)
        tile = image.crop((left, top, left + window, top + window)).resize((side, side), Image.Resampling.BICUBIC)
        # A piece of sky is nobody's picture: it is refused when it is added, as another test shows.
        if ImageStat.Stat(tile.convert("L")).stddev[0] > 12:
            made.append(encoded(tile, quality=85))
    return made
