"""How the server is reached: address, TLS, message limits, keepalive."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

import grpc

from imagewarden._version import version

MAX_MESSAGE_BYTES = 32 * 2**20
"""The largest request that is sent and the largest answer that is taken, in bytes."""

Pem = bytes | str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """TLS to the server; each part is PEM bytes or the path of a PEM file.

    Attributes:
        ca: the roots that the server's certificate is checked against; None: those that grpc ships.
        certificate: the client's own certificate chain, for mutual TLS.
        key: the client's own private key, for mutual TLS.
        server_name: the name that the server's certificate must have, where it is not the address's.
    """

    ca: Pem | None = None
    certificate: Pem | None = None
    key: Pem | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both, or neither")

    def __repr__(self) -> str:
        """Without the key, which has no business in a log."""
        return f"TlsConfig(mutual={self.key is not None}, server_name={self.server_name!r})"

    def credentials(self) -> grpc.ChannelCredentials:
        """What grpc needs.

        Raises:
            OSError: a file cannot be read.
        """
        return grpc.ssl_channel_credentials(_pem(self.ca), _pem(self.key), _pem(self.certificate))


def key_metadata(key: str | None, target: str, tls: TlsConfig | None) -> tuple[tuple[str, str], ...]:
    """The metadata that shows a key.

    Raises:
        ValueError: it would go over a network in the clear.
    """
    if key is None:
        return ()
    if tls is None and not _stays_here(target):
        raise ValueError(f"a key is not sent to {target} in the clear: give tls=TlsConfig(...), or --tls")
    return (("authorization", f"Bearer {key}"),)


def _stays_here(target: str) -> bool:
    """Whether a target is on this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    # `dns:///name:port`: of another name server's answer, `dns://server/name`, nothing is known.
    host = target.removeprefix("dns:///").rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_target(target: str) -> str:
    """The target itself, if it can be one: grpc says so of an empty one only when it is called, and not clearly."""
    if not target.strip():
        raise ValueError("the target is empty; give host:port, dns:///name:port or unix:PATH")
    return target


def options(tls: TlsConfig | None) -> list[tuple[str, int | str]]:
    """The channel's arguments."""
    arguments: list[tuple[str, int | str]] = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # A peer that vanished without a word is noticed during a call; an idle connection is left alone.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # Reconnect at the pace of the retries: grpc's own 1 s and more would make each retry fail at once. Its minimum
        # stays as it is: that is how long one attempt to connect may take.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # A service config found in DNS could change time-outs and retries behind the caller's back.
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.primary_user_agent", f"imagewarden/{version()}"),
    ]
    if tls is not None and tls.server_name is not None:
        arguments.append(("grpc.ssl_target_name_override", tls.server_name))
    return arguments


def _pem(source: Pem | None) -> bytes | None:
    if source is None or isinstance(source, bytes):
        return source
    return Path(source).read_bytes()
