"""What all commands share: how the service is reached, and how answers look."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from imagewarden import Client, TlsConfig
from imagewarden._errors import ImageWardenError

_COMPLETION_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Global:
    """The options before the command."""

    server: str
    timeout: float
    tls: bool
    tls_ca: str | None
    tls_certificate: str | None
    tls_key: str | None
    json: bool

    def client(self) -> Client:
        """A client of the service."""
        tls = TlsConfig(self.tls_ca, self.tls_certificate, self.tls_key) if self.tls else None
        return Client(self.server, tls=tls, timeout=self.timeout)


def shared(context: typer.Context) -> Global:
    """The options before the command."""
    found = context.find_object(Global)
    if found is None:
        raise RuntimeError("a command ran without its parent")
    return found


def complete_bank(context: typer.Context, incomplete: str) -> list[str]:
    """Bank names for tab completion: asked from the service, in a moment or not at all."""
    root = context.find_root().params
    target = root.get("server") or "127.0.0.1:50051"
    try:
        with Client(str(target), timeout=_COMPLETION_SECONDS) as client:
            names = [bank.name.removeprefix("banks/") for bank in client.list_banks()]
    except (ImageWardenError, OSError):
        return []
    return [name for name in names if name.startswith(incomplete.removeprefix("banks/"))]
