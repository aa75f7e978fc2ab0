"""A model exported by this very code, from the pinned weights, once a run."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imagewarden_serving.export import ExportResult, export


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """The default export, into an empty directory."""
    return export(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="session")
def pictures(photographs: dict[str, bytes]) -> NDArray[np.uint8]:
    """The photographs as the signature `images` takes them: uint8 [6, 299, 299, 3]."""
    opened = (Image.open(io.BytesIO(photographs[name])).convert("RGB") for name in sorted(photographs))
    return np.stack([np.asarray(one.resize((299, 299), Image.Resampling.BILINEAR)) for one in opened])
