"""A small Caltech101: categories are photographs of scikit-image, their pictures are parts of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

PHOTOGRAPHS = ("chelsea", "coffee", "astronaut", "rocket")


def make_folder(root: Path, each: int = 6, seed: int = 0) -> Path:
    """Write `each` crops of every photograph as CATEGORY/image_NNNN.jpg, no two alike."""
    rng = np.random.default_rng(seed)
    for name in PHOTOGRAPHS:
        photograph = getattr(skimage.data, name)()
        (root / name).mkdir(parents=True)
        for number in range(1, each + 1):
            height, width = (int(side * rng.uniform(0.75, 0.95)) for side in photograph.shape[:2])
            top = int(rng.integers(photograph.shape[0] - height + 1))
            left = int(rng.integers(photograph.shape[1] - width + 1))
            part = Image.fromarray(photograph[top : top + height, left : left + width])
            part.thumbnail((300, 300))
            part.save(root / name / f"image_{number:04}.jpg", quality=90)
    return root
