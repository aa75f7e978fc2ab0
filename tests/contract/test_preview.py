"""Previews over the real catalogue, index and decoder: what is compared anew, of which pictures, in what time."""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image
from tests.support.checking import Service

from imagewarden_server.matching.enroll import Enroller
from imagewarden_server.matching.errors import EntryNotFound, InvalidField
from imagewarden_server.matching.patches import BankPatch, PolicyPatch
from imagewarden_server.matching.policy import complete
from imagewarden_server.matching.preview import Preview, Previewer, Tried
from imagewarden_server.matching.types import BankKind, HashSignal, NewEntry, SignalType, Threshold

PDQ, SHA256, SHA1, MD5 = SignalType.PDQ, SignalType.SHA256, SignalType.SHA1, SignalType.MD5


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    made.bank("a")
    yield made
    made.workers.close()
    made.decoder.close()
    made.catalog.close()


@pytest.fixture
def files(more_photographs: list[bytes]) -> list[bytes]:
    """Each photograph three times: as it is, smaller, and cut a little."""
    made = []
    for data in more_photographs:
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        width, height = picture.size
        for edited in (
            picture,
            picture.resize((width // 2, height // 2)),
            picture.crop((width // 20, 0, width, height)),
        ):
            file = io.BytesIO()
            edited.save(file, "JPEG", quality=85)
            made.append(file.getvalue())
    return made


def preview(service: Service, bank: str = "a", **tried: Any) -> Preview:
    previewer = Previewer(
        catalog=service.catalog,
        index=service.index,
        window=service.window,
        enroller=cast("Enroller", None),  # a picture as a candidate needs the model: see the integration tests
        workers=service.workers,
    )

    async def ask() -> Preview:
        return await previewer.preview(await previewer.bank(bank), Tried(**tried))

    return asyncio.run(ask())


def pdq(service: Service, data: bytes) -> bytes:
    found = service.check(data).pdq
    assert found is not None
    return found.bits


def hashed(type_: SignalType, data: bytes) -> bytes:
    return hashlib.new(type_.value, data).digest()


def at(distance: float) -> dict[SignalType, Threshold]:
    return {PDQ: Threshold(distance)}


@pytest.mark.parametrize("tried", [0, 8, 31, 60, 90, 256])
def test_pdq_is_compared_with_the_bank_as_it_is_now(service: Service, files: list[bytes], tried: int) -> None:
    """The pictures were checked before the bank had anything; what is counted is what plain bits say."""
    service.ban("a", PDQ, bytes(32))  # or nothing would be compared, and no hash would be made
    hashes = [pdq(service, data) for data in files]
    service.ban("a", PDQ, hashes[0])
    service.ban("a", PDQ, hashes[3])
    banned = [bytes(32), hashes[0], hashes[3]]
    kept = {one.sha256: one for one in service.window.pictures()}
    assert len(kept) == len(files)

    def nearest(turns: tuple[bytes, ...]) -> int:
        return min((int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count() for a in turns for b in banned)

    usable = [one for one in kept.values() if one.hashes]
    distances = {one.sha256: nearest(one.hashes) for one in usable}
    found = preview(service, thresholds=at(tried))
    (said,) = found.signals
    assert said.compared == len(usable)
    assert said.matching == sum(distance <= tried for distance in distances.values())
    assert said.matching_in_force == sum(distance <= 31 for distance in distances.values())
    assert {one.sha256: one.value for one in said.nearest} == {
        one.sha256: distances[one.sha256] for one in said.nearest
    }
    assert [one.value for one in said.nearest] == sorted(distances.values())[: len(said.nearest)]
    assert sum(count for _, _, count in said.bars) == said.compared


def test_a_candidate_is_held_against_the_pictures_alone(service: Service, files: list[bytes]) -> None:
    service.ban("a", PDQ, bytes(32))
    hashes = [pdq(service, data) for data in files]
    entry = service.ban("a", PDQ, hashes[0])
    new = NewEntry(hashes=(HashSignal(PDQ, hashes[3]),))
    other = preview(service, new=new).signals[0]
    there = preview(service, entry=entry).signals[0]
    for said, bits in ((other, hashes[3]), (there, hashes[0])):
        expected = sum(
            min((int.from_bytes(turn, "big") ^ int.from_bytes(bits, "big")).bit_count() for turn in one.hashes) <= 31
            for one in service.window.pictures()
            if one.hashes
        )
        assert said.matching == said.matching_in_force == expected >= 1
    assert {one.entry for one in other.nearest} == {""}
    assert {one.entry for one in there.nearest} == {f"banks/a/entries/{entry}"}
    digest = service.window.pictures()[0].sha256
    same = preview(service, new=NewEntry(hashes=(HashSignal(SHA256, digest),)))
    assert (same.matching, same.matching_in_force) == (1, 1)
    with pytest.raises(EntryNotFound):
        preview(service, entry="nobody")


def test_a_picture_whose_digest_is_banned_matches_whatever_is_tried(service: Service) -> None:
    data = b"no picture, but a file"
    service.ban("a", SHA256, hashlib.sha256(data).digest())
    service.check(data)
    found = preview(service, thresholds=at(0))
    assert (found.pictures, found.matching, found.matching_in_force) == (1, 1, 1)
    assert (found.signals[0].compared, found.signals[0].matching) == (0, 0), "it has no hash of its pixels"


@pytest.mark.parametrize("type_", [SHA1, MD5])
def test_a_list_of_weak_digests_is_held_against_what_checks_have_computed(service: Service, type_: SignalType) -> None:
    """And of the others it is said how many there are; no check computes anything for that."""
    before, after, exact = b"checked before a bank had such", b"checked after", b"banned by its SHA-256"
    service.check(before)
    service.check(exact)
    assert [one.weak for one in service.window.pictures()] == [(), ()]
    for data in (before, after, exact):
        service.ban("a", type_, hashed(type_, data))
    service.ban("a", SHA256, hashlib.sha256(exact).digest())
    service.check(after)
    found = preview(service, thresholds=at(31))
    assert (found.compared, found.matching, found.matching_in_force) == (3, 2, 2), "of the first nobody knows"
    assert found.without_digests == 1
    service.check(before)
    found = preview(service, thresholds=at(31))
    assert (found.matching, found.without_digests) == (3, 0)


def test_a_weak_digest_is_a_candidate_too(service: Service) -> None:
    old, data = b"checked before", b"checked since"
    service.check(old)
    service.bank("other")
    service.ban("other", MD5, bytes(16))
    service.check(data)
    md5, sha1 = hashed(MD5, data), hashed(SHA1, data)
    new = preview(service, new=NewEntry(hashes=(HashSignal(MD5, md5),)))
    assert (new.matching, new.without_digests) == (1, 1)
    exact = (HashSignal(SHA256, hashlib.sha256(old).digest()), HashSignal(MD5, hashed(MD5, old)))
    both = preview(service, new=NewEntry(hashes=exact))
    assert (both.matching, both.without_digests) == (1, 0), "its SHA-256 says all that the others could"
    there = preview(service, entry=service.ban("a", SHA1, sha1))
    assert (there.matching, there.without_digests) == (1, 1)
    off = complete(BankKind.BANNED, None, {SHA1: Threshold(0, disabled=True)}).thresholds
    service.catalog.update_bank("a", BankPatch(policy=PolicyPatch(thresholds=off)))
    without = preview(service, thresholds=at(31))
    assert (without.matching, without.without_digests) == (0, 0), "the bank does not compare it"


def test_who_sees_some_banks_is_told_of_pictures_that_were_compared_with_them_alone(
    service: Service, files: list[bytes]
) -> None:
    service.bank("b", kind=BankKind.BANNED)
    service.ban("a", PDQ, bytes(32))
    service.ban("b", PDQ, bytes(32))
    for data in files[:4]:
        service.check(data, banks=("a",))
    service.check(files[4], banks=("b",))
    assert preview(service, thresholds=at(31)).pictures == 5
    assert preview(service, thresholds=at(31), everything=False).pictures == 4
    alone = preview(service, "b", thresholds=at(256), everything=False)
    assert alone.pictures == alone.signals[0].matching == len(alone.signals[0].nearest) == 1


def test_what_there_is_no_time_for_is_said(service: Service, files: list[bytes]) -> None:
    service.ban("a", PDQ, bytes(32))
    for data in files[:4]:
        service.check(data)
    late = preview(service, thresholds=at(31), deadline=time.monotonic() - 1)
    assert (late.pictures, late.compared, late.span, late.matching) == (4, 0, None, 0)
    assert (late.signals[0].compared, late.signals[0].nearest) == (0, [])


def test_a_threshold_that_is_off_matches_nothing(service: Service, files: list[bytes]) -> None:
    service.ban("a", PDQ, bytes(32))
    service.ban("a", PDQ, pdq(service, files[0]))
    off = preview(service, thresholds={PDQ: Threshold(31, disabled=True)})
    assert (off.matching, off.signals[0].matching) == (0, 0)
    assert off.signals[0].matching_in_force >= 1


def test_nothing_to_try_is_refused(service: Service) -> None:
    with pytest.raises(InvalidField):
        preview(service, thresholds={})
    with pytest.raises(InvalidField):
        preview(service, thresholds={SHA256: Threshold(0)})


def test_it_changes_nothing(service: Service, files: list[bytes]) -> None:
    service.ban("a", PDQ, bytes(32))
    service.check(files[0])
    before = service.catalog.revision(), service.catalog.audit.head(), service.window.nbytes
    preview(service, thresholds=at(200))
    assert (service.catalog.revision(), service.catalog.audit.head(), service.window.nbytes) == before
