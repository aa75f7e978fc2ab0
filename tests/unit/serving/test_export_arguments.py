"""What an export refuses before it fetches or loads anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imagewarden_serving.export import ExportError, export


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"architecture": "vgg16"}, r"no architecture 'vgg16'; there are googlenet, inception_v3, resnet50"),
        ({"name": ""}, "no model name"),
        ({"name": ".."}, "no model name"),
        ({"name": "a/b"}, "no model name"),
        ({"name": "a" * 101}, "no model name"),
        ({"version": 0}, "version 0 is no positive"),
        ({"version": 2**63}, "64-bit"),
        ({"version": 3}, r"3 exists, and a version is never overwritten"),
        ({"architecture": "resnet50"}, "of inception_v3, not of resnet50"),
        ({"weights": "imagenet", "architecture": "googlenet"}, "keras.applications has no weights for googlenet"),
        ({"weights": "gone.keras"}, "'gone.keras' is neither nsfwjs, nor imagenet, nor a .keras file"),
        ({"weights": "imagnet"}, "'imagnet' is neither"),
        ({"normalisation": "zscore", "weights": "x.keras"}, "no normalisation 'zscore'"),
        ({"normalisation": "caffe"}, "'nsfwjs' know their normalisation"),
    ],
)
def test_a_wrong_argument_is_refused_and_leaves_nothing(tmp_path: Path, arguments: dict[str, Any], says: str) -> None:
    (tmp_path / "inception" / "3").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ExportError, match=says):
        export(tmp_path, **arguments)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_pickle_is_no_weights_file(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(ExportError, match=r"nor a \.keras file"):
        export(tmp_path, weights=str(tmp_path / "model.pkl"))


def test_another_keras_backend_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    (tmp_path / "model.keras").write_bytes(b"")
    with pytest.raises(ExportError, match="KERAS_BACKEND=tensorflow"):
        export(tmp_path, weights=str(tmp_path / "model.keras"))
