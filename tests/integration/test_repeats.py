"""Pictures that come again: looked at once, and never an answer that a change since has made wrong."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image
from tests.support.api import ALLOWED, BRAND, MATCH, NO_MATCH, SHA256, UNDECIDED, Api
from tests.support.http import metrics, value
from tests.support.processes import Host, Server, start_server

from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import types_pb2 as types

pytestmark = pytest.mark.model


def looks(server: Server, how: str) -> float:
    return value(metrics(server), "imagewarden_looks_total", how=how)


def passes(server: Server, how: str) -> float:
    return value(metrics(server), "imagewarden_embedding_pictures_total", how=how)


def smaller(photograph: bytes) -> bytes:
    """A copy of half the size."""
    copy = Image.open(io.BytesIO(photograph)).convert("RGB")
    file = io.BytesIO()
    copy.resize((copy.width // 2, copy.height // 2)).save(file, "JPEG", quality=80)
    return file.getvalue()


def test_each_change_is_in_force_for_a_picture_that_was_checked_before(
    server: Server, photographs: dict[str, bytes]
) -> None:
    checked, other = (photographs[name] for name in ("dust-bowl-home", "french-alpine-landscape"))
    copy = smaller(checked)
    with Api(server.address) as api:
        bank, allowed = api.create_bank("abuse"), api.create_bank("cleared", ALLOWED)
        api.add_image(bank, other)
        for _ in range(2):
            assert api.check(copy).verdict == NO_MATCH
        entry = api.add_image(bank, checked).entry.name
        for _ in range(2):
            answer = api.check(copy)
            assert (answer.verdict, answer.matches[0].entry) == (MATCH, entry)
        assert answer.image.pdq
        assert answer.image.width == Image.open(io.BytesIO(copy)).width
        cleared = api.add_image(allowed, copy).entry.name
        for _ in range(2):
            assert api.check(copy).verdict == NO_MATCH
        api.banks.DeleteEntry(banks_pb.DeleteEntryRequest(name=cleared), timeout=30)
        for _ in range(2):
            assert api.check(copy).verdict == MATCH
        off = banks_pb.UpdateBankRequest(bank=types.Bank(name=bank, enabled=False))
        off.update_mask.paths.append("enabled")
        api.banks.UpdateBank(off, timeout=30)
        for _ in range(2):
            assert api.check(copy).verdict == NO_MATCH
        assert looks(server, "remembered") >= 5
        assert passes(server, "made") <= 2, "the model is asked once, whatever changes in the banks"


def test_what_is_asked_beside_the_picture_counts(server: Server, photographs: dict[str, bytes]) -> None:
    first, second = (photographs[name] for name in ("dust-bowl-home", "french-alpine-landscape"))
    with Api(server.address) as api:
        one, two = api.create_bank("one"), api.create_bank("two")
        api.add_image(one, first)
        api.add_image(two, second)
        copy = smaller(first)
        assert api.check(copy, banks=[two]).verdict == NO_MATCH
        assert api.check(copy, banks=[one]).verdict == MATCH
        assert api.check(copy).verdict == MATCH
        assert api.check(copy, banks=[two]).verdict == NO_MATCH
        undecided = api.check(b"no picture", on_undecided=types.ACTION_BLOCK)
        assert (undecided.verdict, undecided.action) == (UNDECIDED, types.ACTION_BLOCK)
        undecided = api.check(b"no picture", on_undecided=types.ACTION_ALLOW)
        assert (undecided.verdict, undecided.action) == (UNDECIDED, types.ACTION_ALLOW)


def test_a_picture_that_comes_many_times_at_once_is_looked_at_once(
    server: Server, photographs: dict[str, bytes]
) -> None:
    names = ["dust-bowl-home", "french-alpine-landscape"]
    with Api(server.address) as api:
        bank = api.create_bank("abuse")
        api.add_image(bank, photographs[names[0]])
        copy, barrier = smaller(photographs[names[1]]), threading.Barrier(8)

        def check(_: int) -> int:
            barrier.wait(30)
            return api.check(copy, timeout=60).verdict

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(check, range(8))) == [NO_MATCH] * 8
    assert looks(server, "taken") == 1
    assert looks(server, "shared") + looks(server, "remembered") == 7
    assert passes(server, "made") == 1


def test_the_same_pixels_in_another_file_are_embedded_once(server: Server, photographs: dict[str, bytes]) -> None:
    checked, other = (photographs[name] for name in ("dust-bowl-home", "french-alpine-landscape"))
    # After its end-of-image marker a JPEG may have anything: another digest, the same pixels.
    again = checked + b"another file"
    with Api(server.address) as api:
        bank, brand = api.create_bank("abuse"), api.create_bank("brands", BRAND)
        api.add_image(bank, other)
        first, second = api.check(checked), api.check(again)
        assert first.image.sha256 != second.image.sha256
        assert (looks(server, "taken"), passes(server, "made"), passes(server, "kept")) == (2, 1, 1)
        assert value(metrics(server), "imagewarden_embedding_cache_bytes") > 1_000
        api.add_hash(bank, SHA256, second.image.sha256)
        assert api.check(again).verdict == MATCH, "a digest is of the file"
        assert api.check(checked).verdict == NO_MATCH
        assert api.check(checked, banks=[brand]).verdict == NO_MATCH


def test_without_memory_each_picture_is_embedded(
    host: Host, tmp_path_factory: pytest.TempPathFactory, photographs: dict[str, bytes]
) -> None:
    scratch = tmp_path_factory.mktemp("server")
    environment = {"IMAGEWARDEN_EMBEDDING_CACHE_BYTES": "0"}
    checked, other = (photographs[name] for name in ("dust-bowl-home", "french-alpine-landscape"))
    with start_server(scratch / "state", host.address, scratch, environment) as server, Api(server.address) as api:
        api.add_image(api.create_bank("abuse"), other)
        assert [api.check(data).verdict for data in (checked, checked + b"another file")] == [NO_MATCH] * 2
        assert (passes(server, "made"), passes(server, "kept")) == (2, 0)
        assert value(metrics(server), "imagewarden_embedding_cache_bytes") == 0
