"""What the second look at logos is tried on."""

from __future__ import annotations

import pytest
from PIL import Image
from tests.support.pictures import opened


@pytest.fixture(scope="module")
def scene(photographs: dict[str, bytes]) -> Image.Image:
    """A photograph without a logo."""
    return opened(photographs["french-alpine-landscape"]).convert("RGB").resize((512, 340))
