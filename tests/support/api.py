"""The API's stubs over one channel, with the few requests that every scenario makes."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import grpc

from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import types_pb2 as types
from imagewarden.v1.bank_service_pb2_grpc import BankServiceStub
from imagewarden.v1.moderation_service_pb2 import CheckImageRequest, CheckImageResponse
from imagewarden.v1.moderation_service_pb2_grpc import ModerationServiceStub

OPTIONS = [("grpc.max_send_message_length", 128 * 2**20), ("grpc.max_receive_message_length", 128 * 2**20)]

BANNED, BRAND, ALLOWED = types.BANK_KIND_BANNED, types.BANK_KIND_BRAND, types.BANK_KIND_ALLOWED
MATCH, NO_MATCH, UNDECIDED = types.VERDICT_MATCH, types.VERDICT_NO_MATCH, types.VERDICT_UNDECIDED
SHA256, PDQ, EMBEDDING = types.SIGNAL_TYPE_SHA256, types.SIGNAL_TYPE_PDQ, types.SIGNAL_TYPE_EMBEDDING
LOCAL, COMBINED = types.SIGNAL_TYPE_LOCAL, types.SIGNAL_TYPE_COMBINED
SEMANTIC = types.SIGNAL_TYPE_SEMANTIC
CONTENT = {EMBEDDING, LOCAL, COMBINED}
"""The signals of what a picture shows: which of them names a match first is the road's affair."""


class Api:
    """Stubs and short cuts."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        if credentials is None:
            self.channel = grpc.insecure_channel(address, options=OPTIONS)
        else:
            self.channel = grpc.secure_channel(address, credentials, options=OPTIONS)
        self.banks = BankServiceStub(self.channel)
        self.moderation = ModerationServiceStub(self.channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.channel.close()

    def create_bank(
        self, bank: str, kind: types.BankKind.ValueType = BANNED, policy: types.Policy | None = None
    ) -> str:
        request = banks_pb.CreateBankRequest(bank=types.Bank(name=f"banks/{bank}", kind=kind, policy=policy))
        self.banks.CreateBank(request, timeout=30)
        return f"banks/{bank}"

    def add_image(self, bank: str, image: bytes, **entry: object) -> banks_pb.AddImageResponse:
        request = banks_pb.AddImageRequest(bank=bank, image=image, entry=types.Entry(**entry))  # type: ignore[arg-type]  # short cut
        return self.banks.AddImage(request, timeout=60)

    def add_hash(
        self, bank: str, type_: types.SignalType.ValueType, hex_: str, **said: object
    ) -> banks_pb.AddHashesResponse:
        one = banks_pb.HashToAdd(type=type_, hex=hex_, **said)  # type: ignore[arg-type]  # short cut
        return self.banks.AddHashes(banks_pb.AddHashesRequest(bank=bank, hashes=[one]), timeout=30)

    def register_logo(self, bank: str, brand: str, *images: bytes) -> banks_pb.RegisterLogoResponse:
        request = banks_pb.RegisterLogoRequest(bank=bank, brand=brand, images=images)
        return self.banks.RegisterLogo(request, timeout=60)

    def check(self, image: bytes, timeout: float = 30, **options: object) -> CheckImageResponse:
        return self.moderation.CheckImage(CheckImageRequest(image=image, **options), timeout=timeout)  # type: ignore[arg-type]  # short cut


def state_of(api: Api) -> tuple[bytes, list[bytes]]:
    """All that a caller can see of the catalogue."""
    banks = api.banks.ListBanks(banks_pb.ListBanksRequest())
    entries = [
        api.banks.ListEntries(banks_pb.ListEntriesRequest(bank=bank.name)).SerializeToString(deterministic=True)
        for bank in banks.banks
    ]
    return banks.SerializeToString(deterministic=True), entries


def without(*signals: types.SignalType.ValueType, **thresholds: float) -> types.Policy:
    """A policy that does not compare some signals; `thresholds` sets those of others, by their names."""
    values = {types.SIGNAL_TYPE_LOCAL: 12.0}
    said = [types.SignalThreshold(signal=one, threshold=values.get(one, 0.5), disabled=True) for one in signals]
    for name, value in thresholds.items():
        said.append(types.SignalThreshold(signal=types.SignalType.Value(f"SIGNAL_TYPE_{name}"), threshold=value))
    return types.Policy(thresholds=said)


def evidence_of(match: types.Match) -> dict[types.SignalType.ValueType, types.Evidence]:
    """What each compared signal said of a match, by signal."""
    return {one.signal: one for one in match.evidence}
