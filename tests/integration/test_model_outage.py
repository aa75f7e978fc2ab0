"""The model host away, slow, back, and another model: what a check says meanwhile, and that it recovers by itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from PIL import Image
from tests.support.api import (
    BRAND,
    COMBINED,
    EMBEDDING,
    LOCAL,
    MATCH,
    NO_MATCH,
    PDQ,
    UNDECIDED,
    Api,
    evidence_of,
    without,
)
from tests.support.errors import fails
from tests.support.pictures import cropped, encoded, opened
from tests.support.processes import Host, launch_host, launch_server, start_mortal_host, start_server
from tests.support.waiting import eventually

from imagewarden.v1 import types_pb2 as types

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_model_host_that_dies_and_comes_back(model_base: Path, photographs: dict[str, bytes], tmp_path: Path) -> None:
    picture = photographs["dust-bowl-home"]
    crop = encoded(cropped(opened(picture), 0.7))
    with (
        start_mortal_host(model_base, tmp_path) as host,
        start_server(tmp_path / "state", host.address, tmp_path) as server,
        Api(server.address) as api,
    ):
        bank, brand = api.create_bank("abuse"), api.create_bank("brand", BRAND)
        by_model = api.create_bank("model", policy=without(LOCAL, COMBINED))
        for one in (bank, by_model):
            api.add_image(one, picture)
        assert api.check(crop, banks=[by_model]).matches[0].signal == EMBEDDING
        host.kill()
        # Another one: what the model said of the first is kept, and needs no host.
        crop = encoded(cropped(opened(picture), 0.68))
        found = api.check(crop, banks=[bank])
        assert (found.verdict, found.action) == (MATCH, types.ACTION_BLOCK), "local features need no model"
        assert found.matches[0].signal == LOCAL
        assert set(evidence_of(found.matches[0])) == {PDQ, LOCAL, COMBINED}
        assert [one.code for one in found.undecided_reasons] == [types.UNDECIDED_CODE_EMBEDDING_UNAVAILABLE]
        turned = encoded(opened(picture).transpose(Image.Transpose.TRANSVERSE))
        found = api.check(turned, banks=[bank])
        assert (found.verdict, found.matches[0].signal) == (MATCH, PDQ)
        assert api.check(photographs["acanthus-mollis"], banks=[bank]).verdict == UNDECIDED
        answer = api.check(crop, banks=[by_model], on_undecided=types.ACTION_REVIEW)
        assert (answer.verdict, answer.action) == (UNDECIDED, types.ACTION_REVIEW), "never NO_MATCH"
        (reason,) = answer.undecided_reasons
        assert reason.code == types.UNDECIDED_CODE_EMBEDDING_UNAVAILABLE
        assert list(reason.signals) == [EMBEDDING]
        assert "IMAGEWARDEN_MODEL_ADDRESS" in reason.message
        assert api.check(picture).verdict == MATCH, "digests and hashes need no model"
        assert api.check(photographs["nagasaki-boats"], banks=[brand]).verdict == NO_MATCH, "nothing to compare with"
        for call in (
            lambda: api.add_image(bank, photographs["nagasaki-boats"]),
            lambda: api.register_logo(brand, "x", photographs["nagasaki-boats"]),
        ):
            with fails() as failure:
                call()
            assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "EMBEDDING_UNAVAILABLE")
            assert failure.retry_seconds == 1
        host.start_again()
        assert eventually(lambda: api.check(crop, banks=[by_model]).verdict == MATCH), (
            "and all is well again, without a restart"
        )


def export_without_projection(models: Path, version: int) -> None:
    """The same network as another model: its vectors have 768 dimensions where the others have 512."""
    command = [sys.executable, "-m", "imagewarden", "model", "export", "--out", str(models)]
    subprocess.run([*command, "--projection", "none", "--version", str(version)], check=True, timeout=170)


def test_vectors_of_another_model_are_never_compared(
    model_base: Path, photographs: dict[str, bytes], tmp_path: Path
) -> None:
    models = tmp_path / "models" / "inception"
    models.mkdir(parents=True)
    version = max(model_base.glob("[0-9]*"), key=lambda path: int(path.name))
    shutil.copytree(version, models / "1")
    host = launch_host(models, tmp_path)
    server = launch_server(tmp_path / "state", host.address, tmp_path)
    picture, other = photographs["dust-bowl-home"], photographs["nagasaki-boats"]
    crop = encoded(cropped(opened(picture), 0.7))
    try:
        with Api(server.address) as api:
            bank = api.create_bank("abuse", policy=without(LOCAL, COMBINED))
            api.add_image(bank, picture)
            first = api.check(crop)
            assert first.verdict == MATCH
            export_without_projection(models.parent, 2)
            assert eventually(lambda: api.check(crop).model_version != first.model_version, 60)
            answer = api.check(crop)
            assert answer.model_version.startswith("inception/2@")
            assert answer.verdict == UNDECIDED, "the banned picture's vectors are of the model before"
            assert answer.undecided_reasons[0].code == types.UNDECIDED_CODE_EMBEDDING_UNAVAILABLE
            assert first.model_version.partition("@")[2] in answer.undecided_reasons[0].message
            fresh = api.create_bank("fresh", policy=without(LOCAL, COMBINED))
            api.add_image(fresh, other)
            found = api.check(encoded(cropped(opened(other), 0.7)), banks=[fresh])
            assert (found.verdict, found.matches[0].signal) == (MATCH, EMBEDDING)
            api.add_image(fresh, encoded(opened(picture), quality=95))
            assert api.check(crop, banks=[fresh]).verdict == MATCH, "added again, it is recognised again"
    finally:
        server.terminate()
        host.terminate()


def test_a_short_deadline_is_undecided_and_answered_in_time(
    host: Host, photographs: dict[str, bytes], tmp_path: Path
) -> None:
    server = launch_server(tmp_path / "state", host.address, tmp_path)
    try:
        with Api(server.address) as api:
            bank = api.create_bank("abuse")
            api.add_image(bank, photographs["dust-bowl-home"])
            huge = opened(photographs["nagasaki-boats"]).resize((6_000, 4_800))
            data = encoded(huge, "PNG", compress_level=1)
            assert api.check(data).verdict == NO_MATCH
            # How long the file is on its way depends on the machine: the deadline is widened until it arrives in time.
            # Another file each time, since one that was seen is answered from memory.
            for step in range(1, 9):
                try:
                    answer = api.check(data + bytes(step), timeout=0.25 * step)
                except grpc.RpcError:
                    continue
                break
            assert answer.verdict == UNDECIDED
            assert {one.code for one in answer.undecided_reasons} == {types.UNDECIDED_CODE_DEADLINE}
    finally:
        server.terminate()
