"""Where the server listens: options, addresses, and certificates that can be changed while it serves."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

import grpc

from imagewarden_server.settings import Settings

# Beside the pictures of a call: names, labels, context.
_MESSAGE_ROOM = 4 * 2**20
# A batch, or several pictures of one logo, may be larger than one picture.
_MESSAGE_PICTURES = 4


class CertificateError(Exception):
    """A certificate, its key or the roots cannot be used; the message names the file."""


def options(settings: Settings) -> list[tuple[str, int]]:
    """The options of the server's channels."""
    most = settings.max_image_bytes * _MESSAGE_PICTURES + _MESSAGE_ROOM
    return [
        ("grpc.max_receive_message_length", most),
        ("grpc.max_send_message_length", most),
        ("grpc.so_reuseport", 0),
        # Callers that keep an idle connection alive by pings are welcome to one in ten seconds.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def with_port(address: str, port: int) -> str:
    """Where is listened, with the port that the system picked."""
    return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"


class Listener:
    """What a server listens by; of one event loop, but for what TLS asks at each handshake on a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        """Read the certificate, where there is one. Raises CertificateError."""
        self._address = settings.listen
        self._next: grpc.ServerCertificateConfiguration | None = None
        self._held = read_certificate(settings)
        self._exchange = threading.Lock()
        self._mutual = settings.tls_client_ca is not None

    def bind(self, server: grpc.aio.Server) -> int:
        """Listen; the port, which the system picks where the address has 0."""
        if self._held is None:
            return server.add_insecure_port(self._address)
        credentials = grpc.dynamic_ssl_server_credentials(
            self._held,
            self._asked,  # type: ignore[arg-type]  # the stubs know of no None: nothing has changed
            require_client_authentication=self._mutual,
        )
        return server.add_secure_port(self._address, credentials)

    def use(self, certificate: grpc.ServerCertificateConfiguration | None) -> None:
        """Show another certificate to those that connect from now on; connections that stand are left alone."""
        if self._held is not None and certificate is not None:
            with self._exchange:
                self._held = self._next = certificate

    def _asked(self) -> grpc.ServerCertificateConfiguration | None:
        """The certificate, where it is another one since this was asked last."""
        # Not between the two halves of this: a certificate that came there would be forgotten.
        with self._exchange:
            certificate, self._next = self._next, None
        return certificate


def read_certificate(settings: Settings) -> grpc.ServerCertificateConfiguration | None:
    """The certificate, its key and the roots of callers, held against each other; None: the server speaks no TLS.

    Raises:
        CertificateError: one of them cannot be used.
    """
    certificate, key, roots = settings.tls_certificate, settings.tls_key, settings.tls_client_ca
    if certificate is None or key is None:
        return None
    files = [file for file in (certificate, key, roots) if file is not None]
    read = _read(files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A key that wants a password gets none that is right: nobody may be asked for it on a terminal.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError, OSError) as error:
        raise CertificateError(f"tls_certificate {certificate} and tls_key {key} cannot be used: {error}") from error
    if roots is not None:
        try:
            context.load_verify_locations(roots)
        except (ssl.SSLError, ValueError, OSError) as error:
            raise CertificateError(f"tls_client_ca {roots} cannot be used: {error}") from error
    if _read(files) != read:
        raise CertificateError(f"{', '.join(map(str, files))} changed while they were read; try again")
    pairs = [(read[key], read[certificate])]
    return grpc.ssl_server_certificate_configuration(pairs, None if roots is None else read[roots])


def _read(files: list[Path]) -> dict[Path, bytes]:
    try:
        return {file: file.read_bytes() for file in files}
    except OSError as error:
        raise CertificateError(f"{error.filename} cannot be read: {error.strerror}") from error
