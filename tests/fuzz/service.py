"""Target: the API's servicers over a real catalogue, index and decoder; only the model is away.

An input is a method's name, a line's end, and requests, each with its length before it: one, or as many as the method
streams.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import random
import shutil
import struct
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from numpy.typing import NDArray
from sqlalchemy import text
from tests.fuzz.messages import Changer
from tests.fuzz.pictures import LIMITS
from tests.fuzz.target import Flip, Target, said
from tests.fuzz.texts import CATALOG
from tests.unit.media.crafted import encoded, noise

from imagewarden.v1 import audit_service_pb2, bank_service_pb2, moderation_service_pb2
from imagewarden_server.api import paging
from imagewarden_server.api.audit import AuditServicer
from imagewarden_server.api.banks import BankServicer
from imagewarden_server.api.errors import to_status
from imagewarden_server.api.moderation import ModerationServicer
from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.decoding import DecoderProcesses
from imagewarden_server.index import open_index
from imagewarden_server.matching.administer import Administrator
from imagewarden_server.matching.check import Checker
from imagewarden_server.matching.embedder import Embeddings, ModelInfo
from imagewarden_server.matching.enroll import Enroller
from imagewarden_server.matching.errors import DomainError, EmbeddingUnavailable
from imagewarden_server.matching.feedback import Reporter
from imagewarden_server.matching.importer import Importer
from imagewarden_server.matching.load import Room, Turns
from imagewarden_server.matching.pictures import Workers
from imagewarden_server.matching.policy import default_policy
from imagewarden_server.matching.preview import Previewer
from imagewarden_server.matching.quarantine import Quarantiner
from imagewarden_server.matching.revisions import Follower, encode_revision
from imagewarden_server.matching.similar import Similarity
from imagewarden_server.matching.types import Action, BankKind, HashSignal, NewEntry, SignalType, VectorSpace
from imagewarden_server.matching.window import Window
from imagewarden_server.media import ImageFormat
from imagewarden_server.telemetry import Metrics

BANKS = {"abuse": BankKind.BANNED, "logos": BankKind.BRAND, "allowed": BankKind.ALLOWED}
ENTRY = "00000000000000000000000001"
DIGEST = bytes(range(32))
REQUEST_ID = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"

_AT_ONCE, _ROOM = 4, 2**30
_SECONDS = 0.05
"""What a call is given: a revision that never comes is waited for no longer."""

_LENGTH = struct.Struct("<I")
_MOST_REQUESTS = 8
_SERVICES = (
    moderation_service_pb2.DESCRIPTOR.services_by_name["ModerationService"],
    bank_service_pb2.DESCRIPTOR.services_by_name["BankService"],
    audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"],
)
METHODS: Mapping[str, MethodDescriptor] = {method.name: method for service in _SERVICES for method in service.methods}
_PIXEL = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")
_WORDS = (
    *("banks/abuse", "banks/logos", "banks/allowed", "banks/new", "banks/", "banks/*", "abuse"),
    *(f"banks/abuse/entries/{ENTRY}", "banks/abuse/entries/none", "banks/logos/entries/0"),
    *(DIGEST.hex(), DIGEST[:16].hex(), DIGEST[:20].hex(), "00", "zz", " " * 64, REQUEST_ID, "not-a-uuid"),
    *("display_name", "policy", "policy.action", "policy.thresholds", "labels", "state", "expire_time", "bank.name"),
    *("", "a label", "jpeg", "*", "OK", "PERMISSION_DENIED"),
)


class _Away:
    """A model that is away."""

    model: ModelInfo | None = None
    problem = "there is none"

    async def embed(self, images: NDArray[np.uint8], outputs: frozenset[str], time_limit: float | None) -> Embeddings:
        del images, outputs, time_limit
        raise EmbeddingUnavailable(self.problem)

    async def background(self, model: ModelInfo, space: VectorSpace, time_limit: float) -> NDArray[np.float32]:
        del model, space, time_limit
        raise EmbeddingUnavailable(self.problem)


class _Context:
    """A call's."""

    @staticmethod
    def time_remaining() -> float:
        return _SECONDS

    @staticmethod
    def invocation_metadata() -> tuple[tuple[str, str], ...]:
        return ()


class _Patient(_Context):
    """A call's that has time."""

    @staticmethod
    def time_remaining() -> float:
        return 10.0


@functools.cache
def picture() -> bytes:
    """A picture with keypoints, which a seed has too: what is changed of that seed is compared with it."""
    return encoded(noise(160, 120), ImageFormat.JPEG)


@dataclass(frozen=True, slots=True)
class _Open:
    """A catalogue that is open, and what serves it."""

    catalog: SqlCatalog
    servicers: Mapping[str, Any]


class World:
    """The service, over a state that is the same before every input."""

    def __init__(self) -> None:
        self._scratch = Path(tempfile.mkdtemp(prefix="imagewarden-fuzz-"))
        atexit.register(shutil.rmtree, self._scratch, ignore_errors=True)
        self._kept = self._scratch / "kept"
        self._make()
        self._loop = asyncio.new_event_loop()
        self._workers = Workers(2)
        self._decoder = DecoderProcesses(LIMITS, processes=1)
        atexit.register(self._decoder.close)
        # Kept of one check, for previews; what inputs check is not, so that each finds the same.
        self._window = Window(_ROOM)
        self._open = self._opened(self._window)
        self._look()
        self._open.catalog.close()
        self._open = self._opened()

    def _make(self) -> None:
        catalog = SqlCatalog.open(self._kept / "catalog.sqlite3")
        for bank, kind in BANKS.items():
            catalog.create_bank(bank, kind, policy=default_policy(kind))
        catalog.add_entry("abuse", NewEntry((HashSignal(SignalType.SHA256, DIGEST),), labels=("a label",)))
        catalog.add_hashes("abuse", [NewEntry((HashSignal(SignalType.PDQ, DIGEST, 100),))])
        # What is drawn by chance in a catalogue is the same in all: inputs name it.
        with catalog._ledger.writing() as (connection, _):
            connection.execute(text("UPDATE catalog_meta SET value = :id WHERE name = 'id'"), {"id": CATALOG})
            connection.execute(text("UPDATE entries SET id = printf('%026d', key)"))
        catalog.close()

    def _opened(self, window: Window | None = None) -> _Open:
        state = self._scratch / "state"
        shutil.rmtree(state, ignore_errors=True)
        shutil.copytree(self._kept, state)
        catalog = SqlCatalog.open(state / "catalog.sqlite3")
        index, _, _ = open_index(self._scratch / "index", catalog)
        follower = Follower(catalog, index)
        parts: dict[str, Any] = {
            "catalog": catalog,
            "follower": follower,
            "embedder": _Away(),
            "workers": self._workers,
            "decoder": self._decoder,
        }
        turns = Turns(_SECONDS, always=_AT_ONCE)
        checker = Checker(index=index, turns=turns, on_undecided=Action.REVIEW, window=window, **parts)
        kept, metrics = (catalog, follower, self._workers), Metrics()
        quarantiner = Quarantiner(catalog, catalog.reports, follower, self._workers, metrics)
        moderation = ModerationServicer(
            checker,
            Similarity(index=index, turns=turns, **parts),
            Reporter(catalog, catalog.reports, quarantiner, self._workers, metrics),
            catalog_id=catalog.id,
            metrics=metrics,
            room=Room(_ROOM),
            at_once=_AT_ONCE,
            default_deadline=_SECONDS,
        )
        enroller = Enroller(turns=turns, **parts)
        previewer = Previewer(
            catalog=catalog, index=index, window=self._window, enroller=enroller, workers=self._workers
        )
        banks = BankServicer(Administrator(*kept), enroller, Importer(*kept, parts["embedder"]), previewer, catalog.id)
        audit = AuditServicer(catalog.audit, self._workers)
        servicers = zip(_SERVICES, (moderation, banks, audit), strict=True)
        return _Open(catalog, {service.full_name: servicer for service, servicer in servicers})

    def call(self, method: MethodDescriptor, requests: Sequence[Message]) -> list[Message]:
        """What a method answers.

        Raises:
            DomainError: as the API documents; then nothing was changed.
        """
        catalog = self._open.catalog
        before = (catalog.revision(), catalog.audit.head())
        try:
            return self._loop.run_until_complete(self._answers(method, requests))
        except DomainError:
            # Streams acknowledge what came before the mistake.
            assert method.client_streaming or (catalog.revision(), catalog.audit.head()) == before, (
                "a call that was refused changed something"
            )
            raise
        finally:
            if (catalog.revision(), catalog.audit.head()) != before:
                # What a change left must end no check that meets it, nor the next start.
                self._look()
                open_index(self._scratch / "index", catalog)
                catalog.close()
                self._open = self._opened()

    def _look(self) -> None:
        request = moderation_service_pb2.CheckImageRequest(image=picture(), exhaustive=True)
        self._loop.run_until_complete(self._answers(METHODS["CheckImage"], [request], _Patient()))

    async def _answers(
        self, method: MethodDescriptor, requests: Sequence[Message], context: _Context | None = None
    ) -> list[Message]:
        assert method.containing_service is not None
        handle: Callable[..., Any] = getattr(self._open.servicers[method.containing_service.full_name], method.name)
        given: Any = _stream(requests) if method.client_streaming else requests[0]
        if method.server_streaming:
            return [answer async for answer in handle(given, context or _Context())]
        return [await handle(given, context or _Context())]


async def _stream(requests: Sequence[Message]) -> AsyncIterator[Message]:
    for request in requests:
        yield request


_world = functools.cache(World)


def packed(name: str, requests: Sequence[Message]) -> bytes:
    """An input of a method and its requests."""
    parts = [request.SerializeToString(deterministic=True) for request in requests]
    return name.encode() + b"\n" + b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def unpacked(data: bytes) -> tuple[MethodDescriptor, list[Message]] | None:
    """The method and the requests of an input; None: it is none, and gRPC itself would have refused it."""
    name, _, rest = data.partition(b"\n")
    method = METHODS.get(name.decode("utf-8", "replace"))
    if method is None:
        return None
    make = GetMessageClass(method.input_type)
    requests: list[Message] = []
    while len(rest) >= _LENGTH.size and len(requests) < _MOST_REQUESTS:
        (length,) = _LENGTH.unpack_from(rest)
        request = make()
        try:
            request.ParseFromString(rest[_LENGTH.size : _LENGTH.size + length])
        except DecodeError:
            return None
        requests.append(request)
        rest = rest[_LENGTH.size + length :]
    return (method, requests) if requests else None


def served(method: MethodDescriptor) -> bool:
    """Whether the server has a method: the API may be ahead."""
    return any(method.name in vars(kind) for kind in (ModerationServicer, BankServicer, AuditServicer))


def run(data: bytes) -> None:
    """One call: an answer of the method's own type, or an error that the API documents."""
    found = unpacked(data)
    if found is None or not served(found[0]):
        return
    method, requests = found
    try:
        answers = _world().call(method, requests)
    except DomainError as error:
        said(error.message, 4_000)
        to_status(error).SerializeToString()
        return
    for answer in answers:
        assert answer.DESCRIPTOR.full_name == method.output_type.full_name
        answer.SerializeToString()


def _page_token(request: Message, chance: random.Random) -> str:
    return paging.next_token(request, chance.choice((0, 1, 2, 2**31, 2**63 - 1, 2**63, 2**64 - 1)))


def _revision(request: Message, chance: random.Random) -> str:
    del request
    return encode_revision(CATALOG, chance.choice((0, 1, 5, 2**31, 2**63, 2**64, 16**4_000)))


def _repair(data: bytes) -> bytes:
    """Local features with their checksum, so that what is wrong in them is met."""
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4])) if data.startswith(b"IWLF") else data


_CHANGER = Changer(
    _WORDS,
    (_PIXEL, b"", b"no picture", DIGEST),
    {"page_token": _page_token, "at_least_revision": _revision},
    _repair,
)


def mutate(data: bytes, chance: random.Random, flip: Flip) -> bytes:
    """One to four fields changed; now and then another method, a request more, or bytes."""
    found = unpacked(data)
    if found is None or chance.random() < 0.02:
        method = METHODS[chance.choice(list(METHODS))]
        return packed(method.name, [GetMessageClass(method.input_type)()])
    if chance.random() < 0.02:
        return flip(data)
    method, requests = found
    if method.client_streaming and len(requests) < _MOST_REQUESTS and chance.random() < 0.2:
        copy = type(requests[-1])()
        copy.CopyFrom(requests[-1])
        requests.append(copy)
    for _ in range(chance.choice((1, 1, 2, 4))):
        _CHANGER.change(chance.choice(requests), chance, flip)
    return packed(method.name, requests)


def targets() -> list[Target]:
    """The API."""
    return [Target("api", run, mutate, most_bytes=65_536, seconds=10)]
