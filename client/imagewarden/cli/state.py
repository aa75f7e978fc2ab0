"""What all commands share: how the service is reached, and how answers look."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import typer

from imagewarden import Client, TlsConfig
from imagewarden._errors import ImageWardenError
from imagewarden._sync import DEFAULT_TARGET

KEY_VARIABLE = "IMAGEWARDEN_KEY"
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
    key: str | None = field(default=None, repr=False)

    def client(self) -> Client:
        """A client of the service."""
        asked = self.tls or self.tls_ca is not None or self.tls_certificate is not None
        tls = TlsConfig(self.tls_ca, self.tls_certificate, self.tls_key) if asked else None
        return Client(self.server, tls=tls, timeout=self.timeout, key=self.key)


def key_of(file: Path | None) -> str | None:
    """The key to show: of a file, or of IMAGEWARDEN_KEY; never an argument, which others on the machine can read.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no key.
    """
    text = os.environ.get(KEY_VARIABLE, "") if file is None else file.read_text()
    if file is not None and not text.strip():
        raise ValueError(f"{file} holds no key")
    return text.strip() or None


def shared(context: typer.Context) -> Global:
    """The options before the command."""
    found = context.find_object(Global)
    if found is None:
        raise RuntimeError("a command ran without its parent")
    return found


def complete_bank(context: typer.Context, incomplete: str) -> list[str]:
    """Bank names for tab completion: asked from the service, in a moment or not at all."""
    root = context.find_root().params  # the callback that makes the Global does not run while completing
    options = Global(
        server=str(root.get("server") or DEFAULT_TARGET),
        timeout=_COMPLETION_SECONDS,
        tls=bool(root.get("tls")),
        tls_ca=root.get("tls_ca"),
        tls_certificate=root.get("tls_certificate"),
        tls_key=root.get("tls_key"),
        json=False,
    )
    try:
        options = replace(options, key=key_of(root.get("key_file")))
        with options.client() as client:
            names = [bank.name.removeprefix("banks/") for bank in client.list_banks(page_size=1_000)]
    except (ImageWardenError, OSError, ValueError):
        return []
    return [name for name in names if name.startswith(incomplete.removeprefix("banks/"))]
