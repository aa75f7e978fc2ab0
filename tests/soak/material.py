"""What the soak sends: pictures that are never twice the same, pictures that are banned, bad ones, and logos."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

import skimage
from PIL import Image
from tests.fuzz.seeds import seeds
from tests.support.pictures import encoded, opened

from imagewarden_server.media import Limits, decode
from imagewarden_serving import npm

_BANNED_OF = ("astronaut.png", "chelsea.png", "coffee.png")
_NEW_OF = ("motorcycle_left.png", "rocket.jpg", "hubble_deep_field.jpg")
_SIDE = 512
_LEAST_QUALITY = 60


class Material:
    """Thread-safe."""

    def __init__(self, seed: int) -> None:
        data = Path(skimage.__file__).parent / "data"
        self._banned_of = [opened((data / name).read_bytes()) for name in _BANNED_OF]
        self._new_of = [opened((data / name).read_bytes()) for name in _NEW_OF]
        self._chance = random.Random(seed)  # noqa: S311 -- repeatable, not secret
        self._lock = threading.Lock()
        icons = json.loads(npm.read_member(npm.fetch(npm.COLOUR_LOGOS), "icons.json"))
        self._icons = sorted(icons["icons"].items())
        self._drawn_on = (icons.get("width", 256), icons.get("height", 256))
        self._bad = [data for target in ("decode-jpeg", "decode-png", "decode-tiff") for data in seeds(target).values()]

    def new_picture(self) -> bytes:
        """A picture that was never sent before: a piece of a photograph none of which is ever banned."""
        return self._piece(self._new_of)

    def picture_to_ban(self) -> bytes:
        """A piece of one of the photographs whose pieces are banned."""
        return self._piece(self._banned_of)

    def copy(self, picture: bytes) -> bytes:
        """A copy of a picture as it is saved again, smaller."""
        image = opened(picture)
        with self._lock:
            quality, share = self._chance.randint(30, 90), self._chance.uniform(0.5, 0.9)
        return encoded(image.resize((round(image.width * share), round(image.height * share))), quality=quality)

    def bad_picture(self) -> bytes:
        """A file that no viewer shows: cut short."""
        with self._lock:
            data = self._chance.choice(self._bad)
            return data[: self._chance.randint(20, 30)]

    def hashes(self, count: int) -> list[str]:
        """SHA-256 hashes of nothing, as an exchange's list has them."""
        with self._lock:
            return [self._chance.randbytes(32).hex() for _ in range(count)]

    def logo(self) -> tuple[str, bytes]:
        """A brand's name and its logo in SVG."""
        with self._lock:
            name, icon = self._chance.choice(self._icons)
        width, height = icon.get("width", self._drawn_on[0]), icon.get("height", self._drawn_on[1])
        head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        return name, f'{head} viewBox="0 0 {width} {height}">{icon["body"]}</svg>'.encode()

    def any_of(self, values: list[bytes]) -> bytes:
        """One of several."""
        with self._lock:
            return self._chance.choice(values)

    def _piece(self, photographs: list[Image.Image]) -> bytes:
        while True:
            with self._lock:
                image = self._chance.choice(photographs)
                window = self._chance.randint(min(image.size) // 3, min(image.size) * 2 // 3)
                left, top = (self._chance.randint(0, side - window) for side in image.size)
                quality = self._chance.randint(80, 95)
            piece = image.crop((left, top, left + window, top + window)).resize((_SIDE, _SIDE))
            data = encoded(piece, quality=quality)
            # A piece of sky is nobody's picture: it is refused when it is banned, and UNDECIDED when it is checked.
            if decode(data, Limits()).frames[0].pdq.quality >= _LEAST_QUALITY:
                return data
