"""Knows the callers: by the key they show, or by the certificate that TLS has checked."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from imagewarden_server.access.keys import Key, digest, id_of
from imagewarden_server.access.meter import Meter
from imagewarden_server.access.sessions import UNKNOWN, Caller, Note, Refusal, Session
from imagewarden_server.matching.errors import Unauthenticated

_ASK = "show a key in the metadata: authorization: Bearer iw_...; `imagewarden key create` makes one"


def unknown(peer: str) -> str:
    """How a caller without a key is named: by its machine, and not by the port of each of its connections."""
    kind, _, address = peer.partition(":")
    return f"{UNKNOWN} at {kind}:{address.rpartition(':')[0] or address}"


class KeyStore(Protocol):
    """Where keys are kept; blocking."""

    def all_keys(self) -> Sequence[Key]:
        """All of them, those that are revoked or expired too."""


class Authority:
    """Knows callers; of one event loop, but for `refresh`, which may run on any thread.

    Keys are read again by `refresh`, so that one that is revoked is refused as soon as that runs.
    """

    def __init__(self, store: KeyStore, note: Note, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store = store
        self._note = note
        self._clock = clock
        self._by_id: Mapping[str, Key] = {}
        self._by_certificate: Mapping[str, Key] = {}
        self._meters: dict[str, Meter] = {}

    def refresh(self) -> None:
        """Read the keys; blocking."""
        keys = self._store.all_keys()
        self._by_id = {key.id: key for key in keys}
        self._by_certificate = {key.new.certificate: key for key in keys if key.new.certificate and self._good(key)}

    @property
    def good_keys(self) -> int:
        """How many keys are neither revoked nor expired."""
        return sum(self._good(key) for key in self._by_id.values())

    def identify(
        self, authorization: str, certificate: Sequence[str], *, method: str, peer: str, request_id: str
    ) -> Session:
        """The session of a call.

        Args:
            authorization: the metadata's value; empty: none was sent.
            certificate: the names of the caller's certificate that TLS has checked.
            method: that is called, by its name.
            peer: where the caller is.
            request_id: of the call.

        Raises:
            Unauthenticated: there is no key, or it is none that is good; what is wrong with it is not said.
        """
        key = self._shown(authorization) if authorization else self._certified(certificate)
        if key is None or not self._good(key):
            self._note(Refusal(unknown(peer), method, "", "UNAUTHENTICATED", request_id))
            shown = "the key is not known, or no longer good" if authorization else "no key was shown"
            raise Unauthenticated(f"{shown}; {_ASK}")
        caller = Caller(key.label, key.new.role, key.new.banks)
        return Session(
            caller,
            method,
            meter=self._meter(key),
            good=lambda: self._still_good(key.id),
            note=self._note,
            request_id=request_id,
        )

    def _shown(self, authorization: str) -> Key | None:
        scheme, _, text = authorization.partition(" ")
        id_ = id_of(text.strip())
        if scheme.lower() != "bearer" or id_ is None:
            return None
        key = self._by_id.get(id_)
        # The id is no secret; what is compared in the same time for all is the rest.
        return key if key is not None and hmac.compare_digest(key.digest, digest(text.strip())) else None

    def _certified(self, certificate: Sequence[str]) -> Key | None:
        return next((self._by_certificate[name] for name in certificate if name in self._by_certificate), None)

    def _still_good(self, id_: str) -> bool:
        key = self._by_id.get(id_)
        return key is not None and self._good(key)

    def _good(self, key: Key) -> bool:
        return key.good(self._clock())

    def _meter(self, key: Key) -> Meter | None:
        rate, at_once = key.new.calls_per_second, key.new.concurrent_calls
        if rate is None and at_once is None:
            return None
        if key.id not in self._meters:
            self._meters[key.id] = Meter(rate, at_once)
        return self._meters[key.id]
