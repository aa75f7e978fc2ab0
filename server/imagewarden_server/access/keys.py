"""Keys: what a caller shows, and what of it is kept.

A key is 256 bits of chance, so that a plain SHA-256 of it is kept: there is nothing to guess that a slow hash would
make slower (NIST SP 800-63B asks for those of what people choose). It begins with `iw_`, so that tools which look for
secrets in repositories can know one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime

from imagewarden_server.access.roles import Role
from imagewarden_server.matching.visible import Banks

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_CHARACTERS = 10
_SECRET_BYTES = 32
_TEXT = re.compile(r"iw_([0-9a-z]{10})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to be made.

    Attributes:
        name: for people: whose it is.
        banks: which banks it is good for.
        certificate: the name in the client certificates that it stands for: a DNS name, a URI or a common name; None:
            it is a secret.
        calls_per_second: how many it may make in the long run; None: as many as come.
        concurrent_calls: how many may run at once; None: as many as come.
        expire_time: from when on it is good for nothing; None: until it is revoked.
    """

    name: str
    role: Role
    banks: Banks
    certificate: str | None = None
    calls_per_second: float | None = None
    concurrent_calls: int | None = None
    expire_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept.

    Attributes:
        id: its public part, which logs and audit events have.
        digest: SHA-256 of the whole text; empty for a certificate.
        revoke_time: when it was revoked; None: it is not.
    """

    id: str
    new: NewKey
    digest: bytes
    create_time: datetime
    revoke_time: datetime | None = None

    @property
    def label(self) -> str:
        """How people read it in logs and audit events."""
        return f"{self.id} ({self.new.name})"

    def good(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoke_time is None and (self.new.expire_time is None or now < self.new.expire_time)


def new_key() -> tuple[str, str, bytes]:
    """A new key's id, its text, which is shown once, and the digest that is kept."""
    id_ = new_id()
    text = f"iw_{id_}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    return id_, text, digest(text)


def new_id() -> str:
    """The public part of a new key."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_ID_CHARACTERS))


def digest(text: str) -> bytes:
    """What is kept of a key's text."""
    return hashlib.sha256(text.encode()).digest()


def id_of(text: str) -> str | None:
    """The id in a key's text; None where it is no key's."""
    found = _TEXT.fullmatch(text)
    return None if found is None else found[1]
