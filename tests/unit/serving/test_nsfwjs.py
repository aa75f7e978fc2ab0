"""Reading the weights of nsfwjs: files that are not what was pinned are refused, whatever is wrong with them."""

from __future__ import annotations

import base64
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from imagewarden_serving.npm import NpmError
from imagewarden_serving.weights import WeightsError
from imagewarden_serving.weights.nsfwjs import read_tensors

FOLDER = "package/dist/models/inception_v3/"
CODES = bytes(range(256)) * 6 * 3  # three quarters of a kilobyte and more a shard, as base64 strings are recognised
MANIFEST = (
    'n.exports={modelTopology:{},weightsManifest:[{paths:["a"],weights:['
    '{name:"one/kernel",shape:[2,3],dtype:"float32",quantization:{min:-.5,scale:.25,dtype:"uint8"}},'
    '{name:"two/bias",shape:[4602],dtype:"float32",quantization:{min:0,scale:1,dtype:"uint8"}}]}]}'
)


def package(path: Path, manifest: str = MANIFEST, shards: dict[int, str] | None = None) -> Path:
    parts = [CODES[start : start + 768] for start in range(0, len(CODES), 768)]
    scripts = {number: f'n.exports="{base64.b64encode(part).decode()}"' for number, part in enumerate(parts, 1)}
    members = {f"group1-shard{number}of6.min.js": text for number, text in (scripts | (shards or {})).items()}
    with tarfile.open(path / "p.tgz", "w:gz") as archive:
        for name, text in {"model.min.js": manifest, **members}.items():
            info = tarfile.TarInfo(FOLDER + name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return path / "p.tgz"


def test_tensors_are_codes_times_scale_plus_minimum(tmp_path: Path) -> None:
    tensors = read_tensors(package(tmp_path))
    assert list(tensors) == ["one/kernel", "two/bias"]
    np.testing.assert_array_equal(tensors["one/kernel"], np.arange(6, dtype=np.float32).reshape(2, 3) * 0.25 - 0.5)
    np.testing.assert_array_equal(tensors["two/bias"], np.frombuffer(CODES[6:], np.uint8).astype(np.float32))
    assert {one.dtype for one in tensors.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        ("n.exports={}", "has no 'weightsManifest:'"),
        ("weightsManifest:fetch('x')", "cannot be read"),
        ("weightsManifest:[{}]", "cannot be read"),
        ("weightsManifest:null", "cannot be read"),
        (MANIFEST.replace("4602", "4603"), "cannot be read"),
        (MANIFEST.replace("4602", "4601"), "names 4607 bytes of weights, and there are 4608"),
        (MANIFEST.replace('dtype:"uint8"', 'dtype:"uint16"'), "codes of uint16"),
    ],
)
def test_another_manifest_is_refused(tmp_path: Path, manifest: str, says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        read_tensors(package(tmp_path, manifest))


@pytest.mark.parametrize(
    ("script", "says"), [("n.exports=1", "has no base64 string"), (f'x="{"A" * 1001}"', "damaged base64")]
)
def test_another_shard_is_refused_by_name(tmp_path: Path, script: str, says: str) -> None:
    with pytest.raises(WeightsError, match=rf"shard3of6.*{says}"):
        read_tensors(package(tmp_path, shards={3: script}))


def test_a_package_without_the_model_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "p.tgz", "w:gz"):
        pass
    with pytest.raises(NpmError, match=r"has no file 'dist/models/inception_v3/model\.min\.js'"):
        read_tensors(tmp_path / "p.tgz")
