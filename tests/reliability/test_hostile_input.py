"""Hostile input to a live server: pictures, lists and bytes. Each is answered as the API says, and nothing ends."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import io
import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, status_pb2
from tests.fuzz import service, wounds
from tests.fuzz.seeds import FOLDER, seeds
from tests.fuzz.targets import TARGETS
from tests.support.api import MATCH, NO_MATCH, PDQ, SHA256, UNDECIDED, Api, state_of
from tests.support.errors import Failure
from tests.support.hostile import (
    Outcome,
    bombs,
    broken_pictures,
    call,
    drawing_bombs,
    odd_records,
    picture_seeds,
)
from tests.support.http import metrics
from tests.support.pictures import encoded, opened
from tests.support.processes import Server, start_server

import imagewarden as iw
from imagewarden.lists import Format, ListError, Refused, open_list
from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types
from imagewarden_server.media import Limits, decode

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CALLERS = 4
KEPT = "banks/kept"
"""The one bank that no input names."""
CANNOT = {"IMAGE_UNDECODABLE", "IMAGE_OVER_LIMITS"}
REFUSED = CANNOT | {"IMAGE_TOO_PLAIN", "EMBEDDING_UNAVAILABLE"}
UNREADABLE = {types.UNDECIDED_CODE_UNDECODABLE, types.UNDECIDED_CODE_OVER_LIMITS}


class Job(NamedTuple):
    """A call to make."""

    what: str
    method: str
    requests: Sequence[Message | bytes]


class Attack:
    """Sends bad input to a server, some of it at once, and counts."""

    def __init__(self, server: Server, api: Api, tally: Counter[str]) -> None:
        self.server, self.api, self.tally = server, api, tally

    def send(self, jobs: Sequence[Job]) -> list[Outcome]:
        """What became of each; it is what the API documents."""
        with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
            outcomes = list(pool.map(lambda job: call(self.api.channel, job.method, job.requests), jobs))
        for job, outcome in zip(jobs, outcomes, strict=True):
            self.count(crashed=outcome.crashed)
            said = f"{job.method} of {job.what}: {outcome.failure}; the input was {job.requests!r:.2000}"
            assert not outcome.crashed, said
            assert outcome.documented, said
        return outcomes

    def count(self, *, crashed: bool) -> None:
        """One input was sent."""
        self.tally["bad inputs tried"] += 1
        self.tally["crashes over bad inputs"] += crashed


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without a model, which refuses no call for its length."""
    scratch = tmp_path_factory.mktemp("attacked")
    environment = {"IMAGEWARDEN_MAX_WAIT_SECONDS": "600"}
    with start_server(scratch / "state", f"unix:{scratch}/nobody.sock", scratch, environment) as server:
        yield server


@pytest.fixture
def attack(attacked: Server, more_photographs: list[bytes], tally: Counter[str]) -> Iterator[Attack]:
    """An attack on a server with a ban in it; afterwards it runs, has what it had, and finds what it found."""
    tally["bad inputs tried"] += 0
    tally["crashes over bad inputs"] += 0
    picture = more_photographs[0]
    with Api(attacked.address) as api:
        if not api.banks.ListBanks(banks_pb.ListBanksRequest()).banks:
            api.create_bank(KEPT.partition("/")[2])
            api.add_hash(KEPT, PDQ, decode(picture, Limits()).frames[0].pdq.bits.hex())
        before, decoders = state_of(api), decoders_ended(attacked)
        for bank, kind in service.BANKS.items():
            api.create_bank(bank, types.BankKind.Value(f"BANK_KIND_{kind.name}"))
        yield Attack(attacked, api, tally)
        ended = attacked.process.poll() is not None
        tally["crashes over bad inputs"] += ended
        assert not ended, f"the server ended:\n{attacked.log.read_text()[-4_000:]}"
        for one in api.banks.ListBanks(banks_pb.ListBanksRequest()).banks:
            if one.name != KEPT:
                api.banks.DeleteBank(banks_pb.DeleteBankRequest(name=one.name, force=True), timeout=60)
        assert state_of(api) == before
        tally["decoder processes ended by bad inputs, and replaced"] += decoders_ended(attacked) - decoders
        copy = encoded(opened(picture).resize((400, 400)), quality=60)
        assert [one.signal for one in api.check(copy).matches] == [PDQ], "decoders look at pictures as ever"
        assert_takes_bans(api)


def decoders_ended(server: Server) -> int:
    said = metrics(server).items()
    return round(sum(value for (name, _), value in said if name == "imagewarden_decoder_processes_ended_total"))


def assert_takes_bans(api: Api) -> None:
    """A ban is in force for the next check, and gone when it is lifted."""
    data = b"banned after the attack"
    assert api.check(data).verdict == UNDECIDED
    (added,) = api.add_hash(KEPT, SHA256, hashlib.sha256(data).hexdigest()).results
    assert api.check(data).verdict == MATCH
    api.banks.DeleteEntry(banks_pb.DeleteEntryRequest(name=added.entry))
    assert api.check(data).verdict == UNDECIDED


def look_at(attack: Attack, pictures: Sequence[tuple[str, bytes]]) -> list[pb.CheckImageResponse]:
    """Check pictures and add them: what cannot be read is UNDECIDED, and refused."""
    outcomes = attack.send([Job(what, "CheckImage", [pb.CheckImageRequest(image=data)]) for what, data in pictures])
    added = attack.send(
        [Job(what, "AddImage", [banks_pb.AddImageRequest(bank="banks/abuse", image=data)]) for what, data in pictures]
    )
    answers = []
    for (what, data), checked, refused in zip(pictures, outcomes, added, strict=True):
        assert checked.failure.code is grpc.StatusCode.OK, f"{what}: {checked.failure}"
        (answer,) = checked.answers
        assert answer.verdict in {NO_MATCH, UNDECIDED}, f"{what}: {answer}"
        assert answer.verdict == UNDECIDED or answer.image.pdq, f"{what} was not read: {answer}"
        assert refused.failure.reason in REFUSED, f"{what}: {refused.failure}; the input was {data!r:.2000}"
        if not answer.image.pdq:
            assert UNREADABLE & {one.code for one in answer.undecided_reasons}, f"{what}: {answer}"
            assert refused.failure.reason in CANNOT, f"{what}: {refused.failure}; the check said {answer}"
        answers.append(answer)
    return answers


def register(attack: Attack, pictures: Sequence[tuple[str, bytes]]) -> None:
    """Register pictures as logos, for which a model would be needed at the end."""
    outcomes = attack.send(
        [
            Job(what, "RegisterLogo", [banks_pb.RegisterLogoRequest(bank="banks/logos", brand="x", images=[data])])
            for what, data in pictures
        ]
    )
    for (what, _), refused in zip(pictures, outcomes, strict=True):
        assert refused.failure.reason in REFUSED, f"{what}: {refused.failure}"


def test_an_answer_tells_a_crash() -> None:
    """The oracle itself: of a call, and of one item of a batch or of a stream."""
    broken = status_pb2.Status(code=code_pb2.INTERNAL)
    good = pb.BatchCheckImagesResult(response=pb.CheckImageResponse())
    for outcome in (
        Outcome(Failure(grpc.StatusCode.INTERNAL, "the server failed", "INTERNAL"), []),
        Outcome(Failure(grpc.StatusCode.UNKNOWN), []),
        Outcome(Failure(), [pb.BatchCheckImagesResponse(results=[good, pb.BatchCheckImagesResult(error=broken)])]),
        Outcome(Failure(), [pb.StreamCheckImagesResponse(error=broken)]),
    ):
        assert outcome.crashed
    assert not Outcome(Failure(), [pb.BatchCheckImagesResponse(results=[good])]).crashed
    assert not Outcome(Failure(grpc.StatusCode.UNAVAILABLE, "gone"), []).documented, (
        "a server that ended says no reason"
    )


def test_pictures_cut_short_flipped_and_changed(attack: Attack, damages: int) -> None:
    whole = list(picture_seeds().items())
    broken = list(broken_pictures(20 * damages, random.Random(61)))  # noqa: S311 -- the same each time
    answers = look_at(attack, [*whole, *broken])
    register(attack, [*whole, *broken[::3]])
    read = [bool(answer.image.pdq) for answer in answers]
    assert any(read)
    assert not all(read), "some are read, and some are not"


def test_bombs(attack: Attack) -> None:
    pictures = list(bombs().items())
    look_at(attack, pictures)
    drawings = list(drawing_bombs().items())
    for answer in look_at(attack, drawings):
        assert answer.verdict == UNDECIDED, "a drawing is no picture that is checked"
    register(attack, [*pictures, *drawings])


def hostile_lists(count: int) -> Iterator[tuple[str, bytes, Format | None]]:
    """The fuzzer's lists of every format, and so many changes of each."""
    chance = random.Random(62)  # noqa: S311 -- the same each time
    for target in sorted(path.name for path in FOLDER.iterdir() if path.name.startswith("list-")):
        name = target.removeprefix("list-")
        known, change = None if name == "any" else Format(name), TARGETS[target].mutate or wounds.blind
        for seed, data in seeds(target).items():
            yield f"{target}/{seed}", data, known
            for _ in range(count):
                yield f"{target}/{seed}, changed", change(data, chance, wounds.plain(chance)), known


def brought_in(
    client: iw.Client, records: Sequence[tuple[int, iw.EntryRecord]]
) -> tuple[int, iw.ImageWardenError | None]:
    """How many of a list's records are new, and the error that it ended with."""
    added = 0
    try:
        for answer in client.import_entries("abuse", records):
            added += answer.added
            assert all(one.field and one.message for one in answer.refused)
    except iw.ImageWardenError as error:
        return added, error
    return added, None


def test_lists_by_the_road_of_an_import(attack: Attack, damages: int) -> None:
    total = 0
    with iw.Client(attack.server.address) as client:
        for what, data, known in hostile_lists(damages):
            records: list[tuple[int, iw.EntryRecord]] = []
            with (
                contextlib.suppress(ListError),
                open_list(io.BytesIO(data), format=known, type=iw.SignalType.PDQ) as found,
            ):
                records += (one for one in found if not isinstance(one, Refused))
            added, error = brought_in(client, records)
            total += added
            attack.count(crashed=isinstance(error, iw.ServerError))
            assert error is None or error.reason not in {"", "INTERNAL"}, f"{what}: {error!r}; the list was {data!r}"
    assert total, "some of what they say is good"


def test_records_with_odd_values(attack: Attack) -> None:
    good = banks_pb.RecordHash(type=SHA256, value=bytes(32))
    odd = odd_records()
    jobs = []
    for number, (field, record) in enumerate(odd):
        record.number = 1
        beside = banks_pb.EntryRecord(number=2, source=str(number), hashes=[good])
        request = banks_pb.ImportEntriesRequest(bank="banks/abuse", records=[record, beside])
        jobs.append(Job(field, "ImportEntries", [request]))
    for (field, record), outcome in zip(odd, attack.send(jobs), strict=True):
        assert outcome.failure.code is grpc.StatusCode.OK, f"{outcome.failure}: {record}"
        (answer,) = outcome.answers
        refused = [(one.number, one.field.partition(".")[0]) for one in answer.refused]
        assert refused == [(1, field)], f"{answer} of {record}"
        assert answer.added == 1, "what is good comes in beside"


def test_bytes_as_requests_of_every_method(attack: Attack, damages: int) -> None:
    chance = random.Random(63)  # noqa: S311 -- the same each time
    flip = wounds.plain(chance)
    jobs = []
    known = {name: found for name, data in seeds("api").items() if (found := service.unpacked(data)) is not None}
    for (method, requests), _ in itertools.product(known.values(), range(damages)):
        sent = [one.SerializeToString(deterministic=True) for one in requests]
        jobs.append(Job("random bytes", method.name, [chance.randbytes(chance.randrange(1, 200)) for _ in sent]))
        jobs.append(Job("changed bytes", method.name, [flip(one) for one in sent]))
        tried = service.unpacked(service.mutate(service.packed(method.name, requests), chance, flip))
        if tried is not None:
            jobs.append(Job("changed fields", tried[0].name, tried[1]))
    codes = {outcome.failure.code for outcome in attack.send(jobs)}
    assert {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND} <= codes
