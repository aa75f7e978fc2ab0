"""Which hashes a bank may take."""

from __future__ import annotations

from imagewarden_server.matching.errors import InvalidField, WrongBankKind
from imagewarden_server.matching.policy import PDQ_MIN_QUALITY
from imagewarden_server.matching.types import HASH_BYTES, Bank, BankKind, HashSignal, SignalType

ALLOWED_HASHES = frozenset({SignalType.SHA256, SignalType.PDQ})
"""What may clear a picture must not be forgeable: collisions are known for SHA-1 (SHAttered, 2017) and MD5."""


def check_hash(bank: Bank, field: str, signal: HashSignal) -> None:
    """Refuse a hash of a wrong length or quality, or one that could be forged where it would clear.

    Args:
        bank: that is to have it.
        field: where the request has it.
        signal: the hash.

    Raises:
        InvalidField: its type, its length or its quality.
        WrongBankKind: the bank is ALLOWED, and takes no such hash.
    """
    length = HASH_BYTES.get(signal.type)
    if length is None:
        raise InvalidField(f"{field}.type", f"{signal.type.value.upper()} is no hash; send SHA256, SHA1, MD5 or PDQ")
    if len(signal.value) != length:
        raise InvalidField(
            f"{field}.hex",
            f"has {len(signal.value) * 2} digits; {signal.type.value.upper()} has {length * 2}",
        )
    if bank.kind is BankKind.ALLOWED and signal.type not in ALLOWED_HASHES:
        raise WrongBankKind(
            f"{bank.name} is an ALLOWED bank: it takes SHA256 and PDQ, not {signal.type.value.upper()} ({field}), for "
            "which pictures with the same digest can be made",
            bank=bank.name,
            kind="ALLOWED",
        )
    if signal.quality is not None:
        if signal.type is not SignalType.PDQ:
            raise InvalidField(f"{field}.quality", f"{signal.type.value.upper()} has no quality; leave it out")
        if not PDQ_MIN_QUALITY <= signal.quality <= 100:
            raise InvalidField(
                f"{field}.quality",
                f"is {signal.quality}; a PDQ hash under {PDQ_MIN_QUALITY} says too little to ban by (100 is the most)",
            )
