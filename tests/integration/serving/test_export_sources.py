"""Exports from other weights than the default: .keras files, good, damaged and hostile; ImageNet's offline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.integration.serving.saved_model import SavedModel

from imagewarden_serving.export import ExportError, export

pytestmark = pytest.mark.slow

# Keras 3's own way of copying a variable when it writes a file.
saves_a_keras_file = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)


@saves_a_keras_file
@pytest.mark.parametrize(
    ("architecture", "dimension", "semantic"), [("googlenet", 512, 1024), ("resnet50", 1024, 2048)]
)
def test_a_keras_file_of_another_architecture_is_exported(
    tmp_path: Path, pictures: NDArray[np.uint8], architecture: str, dimension: int, semantic: int
) -> None:
    import keras

    if architecture == "googlenet":
        from imagewarden_serving.architectures.googlenet import build_googlenet

        # As it is trained: 224 pixels and a classifier, both of which the export leaves behind.
        network = build_googlenet(224, 10)
    else:
        network = keras.applications.ResNet50(weights=None)
    path = tmp_path / "trained.keras"
    network.save(path)
    chance = np.random.default_rng(8)
    projection = tmp_path / "projection.npz"
    np.savez(projection, mean=np.zeros(dimension), matrix=chance.normal(0, 1, (dimension, 64)))

    made = export(
        tmp_path,
        name=architecture,
        version=7,
        architecture=architecture,
        weights=str(path),
        projection=projection,
        normalisation="zero_to_one",
        windows=(9,),
    )

    assert made.directory == tmp_path / architecture / "7"
    assert made.card["nsfw"] is None
    assert made.card["input"]["normalisation"] == "zero_to_one"
    assert made.card["embedding"]["dimension"] == 64
    assert made.card["regions"]["count"] == 10
    model = SavedModel(made.directory)
    found = model.run("serving_default", pictures[:2])
    model.close()
    assert {name: rows.shape for name, rows in found.items()} == {
        "embedding": (2, 64),
        "regions": (2, 10, 64),
        "logos": (2, 10, 64),
        "semantic": (2, semantic),
        "last_pool": (2, semantic),
    }
    for rows in found.values():
        np.testing.assert_allclose(np.linalg.norm(rows, axis=-1), 1, atol=1e-4)


@saves_a_keras_file
def test_a_damaged_keras_file_and_one_of_another_network_are_refused(tmp_path: Path) -> None:
    import keras

    damaged = tmp_path / "damaged.keras"
    damaged.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ExportError, match=r"damaged\.keras cannot be loaded"):
        export(tmp_path, weights=str(damaged))
    other = tmp_path / "other.keras"
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 1, name="only")]).save(other)
    with pytest.raises(ExportError, match="has no layer 'mixed3'"):
        export(tmp_path, weights=str(other))


@saves_a_keras_file
def test_a_keras_file_with_code_in_it_is_refused(tmp_path: Path) -> None:
    import keras

    path, witness = tmp_path / "lambda.keras", str(tmp_path / "ran")
    attack = keras.layers.Lambda(lambda x: (Path(witness).write_text(""), x)[1])
    keras.Sequential([keras.Input((8, 8, 3)), attack]).save(path)
    assert Path(witness).exists()
    Path(witness).unlink()
    with pytest.raises(ExportError, match=r"lambda\.keras cannot be loaded"):
        export(tmp_path, weights=str(path))
    assert not Path(witness).exists()


def test_imagenet_s_weights_without_a_network_are_an_error_that_says_what_to_use(tmp_path: Path) -> None:
    # In a process of its own: Keras reads its folder when it is imported. The proxy is a closed port.
    code = (
        "from pathlib import Path\n"
        "from imagewarden_serving.export import ExportError, export\n"
        f"try: export(Path({str(tmp_path)!r}), weights='imagenet')\n"
        "except ExportError as error: print(error)\n"
    )
    nowhere = "http://127.0.0.1:9"
    changed = {"KERAS_HOME": str(tmp_path / "keras"), "https_proxy": nowhere, "http_proxy": nowhere}
    kept = {name: value for name, value in os.environ.items() if name.lower() not in {"no_proxy", "https_proxy"}}
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | changed, capture_output=True, text=True, check=True, timeout=120
    )
    assert "the ImageNet weights of inception_v3 could not be had" in done.stdout
    assert "use --weights nsfwjs" in done.stdout
    assert not (tmp_path / "inception").exists()
