from __future__ import annotations

from pathlib import Path

import pytest
import skimage
from PIL import Image


def photograph(name: str) -> Image.Image:
    with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
        return image.convert("RGB")


@pytest.fixture(scope="session")
def astronaut() -> Image.Image:
    """A real photograph, 512 x 512."""
    return photograph("astronaut.png")


@pytest.fixture(scope="session")
def coffee() -> Image.Image:
    """A real photograph, 600 x 400."""
    return photograph("coffee.png")


@pytest.fixture(scope="session")
def rocket() -> Image.Image:
    """A real photograph, 640 x 427."""
    return photograph("rocket.jpg")


@pytest.fixture(scope="session")
def chelsea() -> Image.Image:
    """A real photograph, 451 x 300."""
    return photograph("chelsea.png")
