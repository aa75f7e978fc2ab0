"""The server's settings: IMAGEWARDEN_ variables over a TOML file over defaults; frozen, some read again at SIGHUP."""

from __future__ import annotations

import ipaddress
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

CONFIG_VARIABLE = "IMAGEWARDEN_CONFIG"
_LAST_PORT = 65_535


class SettingsError(Exception):
    """The settings cannot be used; the message names each one and why."""


class OnUndecided(StrEnum):
    """What the caller should do with a picture that the server could not decide."""

    ALLOW = "allow"
    REVIEW = "review"
    BLOCK = "block"


class LogFormat(StrEnum):
    """How log lines look; `auto` is text on a terminal and JSON elsewhere."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


class LogLevel(StrEnum):
    """From which level on lines are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def default_state_dir() -> Path:
    """Where the XDG Base Directory Specification puts a user's state."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "imagewarden"


def split_address(address: str) -> tuple[str, int]:
    """The host and the port of `host:port`; IPv6 hosts stand in brackets.

    Raises:
        ValueError: it is none.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > _LAST_PORT:
        raise ValueError(f"{address!r} is no host:port")
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address. Raises ValueError."""
    if address.startswith("unix:"):
        return True
    host = split_address(address)[0]
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may be anywhere
        return False


class Settings(BaseSettings):
    """Every setting, each with what it means; the environment's name is IMAGEWARDEN_ and the field's in capitals."""

    model_config = SettingsConfigDict(env_prefix="IMAGEWARDEN_", frozen=True, extra="forbid")
    toml_path: ClassVar[Path | None] = None

    listen: str = "127.0.0.1:50051"
    """Where gRPC listens: host:port (port 0: one that the system picks) or unix:PATH."""
    metrics_listen: str = "127.0.0.1:9464"
    """Where /metrics, /healthz and /readyz answer over HTTP, without a key."""
    metrics_open: bool = False
    """Whether metrics_listen may be elsewhere than on loopback: whoever reaches the port may read what is there."""
    state_dir: Path = Field(default_factory=default_state_dir)
    """Where the catalogue and the index snapshots are kept."""
    model_address: str = "127.0.0.1:8500"
    """The model host: host:port, dns:///name:port or unix:PATH of a TensorFlow Serving server."""
    model_name: str = "inception"
    """The model's name there."""
    model_tls_ca: Path | None = None
    """PEM roots for a model host behind TLS; unset: without TLS."""
    embedding_cache_bytes: Annotated[int, Field(ge=0, le=2**36)] = 128 * 2**20
    """Memory for what the model said of checked pictures, so that the same pixels are not embedded again; 0: none."""
    preview_window_bytes: Annotated[int, Field(ge=0, le=2**36)] = 64 * 2**20
    """Memory for digests, hashes, vectors and scores of the pictures of the last 24 hours, on which policies are tried;
    0: nothing is kept."""
    on_undecided: OnUndecided = OnUndecided.REVIEW
    """The action of an UNDECIDED verdict where the caller does not say."""
    max_image_bytes: Annotated[int, Field(ge=1_024, le=256 * 2**20)] = 20 * 2**20
    """The largest picture, in bytes."""
    max_image_pixels: Annotated[int, Field(ge=10_000, le=1_000_000_000)] = 100_000_000
    """The largest picture, in pixels a frame, by its header."""
    max_frames: Annotated[int, Field(ge=1, le=64)] = 8
    """How many frames of an animation are compared, evenly over the whole."""
    max_concurrent_calls: Annotated[int, Field(ge=1, le=10_000)] = 256
    """More calls at once than this are refused with RESOURCE_EXHAUSTED."""
    max_request_bytes: Annotated[int | None, Field(ge=2**20)] = None
    """More bytes of requests at once are refused likewise; unset: an eighth of the memory, of which each takes three
    times its size."""
    max_wait_seconds: Annotated[float, Field(gt=0, le=600)] = 3.0
    """A picture whose check or ban would take longer, by how long the last ones took, is refused likewise."""
    default_deadline_seconds: Annotated[float, Field(gt=0, le=600)] = 10.0
    """The time a call has that states no deadline."""
    snapshot_seconds: Annotated[float, Field(ge=1)] = 300.0
    """How often a changed index is saved, so that the next start is fast."""
    drain_seconds: Annotated[float, Field(ge=0, le=600)] = 10.0
    """How long calls in flight may go on after SIGTERM."""
    require_keys: bool = False
    """Whether callers must show a key (`imagewarden key`) or a certificate that stands for one."""
    tls_certificate: Path | None = None
    """PEM certificate chain; with tls_key, gRPC speaks TLS."""
    tls_key: Path | None = None
    """PEM private key of the certificate."""
    tls_client_ca: Path | None = None
    """PEM roots: callers must show a certificate of theirs (mutual TLS)."""
    log_format: LogFormat = LogFormat.AUTO
    """How log lines look."""
    log_level: LogLevel = LogLevel.INFO
    """From which level on."""

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Settings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together: set both, or neither")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        for name in ("tls_certificate", "tls_key", "tls_client_ca", "model_tls_ca"):
            path: Path | None = getattr(self, name)
            if path is not None and not path.is_file():
                raise ValueError(f"{name}: no file {path}")
        return self

    @model_validator(mode="after")
    def _others_need_keys(self) -> Settings:
        if is_loopback(self.listen):
            return self
        missing = [] if self.require_keys else ["require_keys = true (IMAGEWARDEN_REQUIRE_KEYS)"]
        if self.tls_certificate is None:
            missing.append("tls_certificate and tls_key (IMAGEWARDEN_TLS_CERTIFICATE, IMAGEWARDEN_TLS_KEY)")
        if missing:
            raise ValueError(
                f"listen: other machines can reach {self.listen}, which needs {' and '.join(missing)}; make keys with "
                "`imagewarden key create`, or listen on 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _metrics_are_closed(self) -> Settings:
        if not is_loopback(self.metrics_listen) and not self.metrics_open:
            raise ValueError(
                f"metrics_listen: other machines can reach {self.metrics_listen}, where /metrics names every bank with "
                "the number of its entries and asks for no key; listen on 127.0.0.1, with what scrapes beside it, or "
                "set metrics_open = true (IMAGEWARDEN_METRICS_OPEN) where the network says who reaches the port"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order of precedence: arguments, environment, TOML file."""
        del dotenv_settings, file_secret_settings
        toml = TomlConfigSettingsSource(settings_cls, cls.toml_path)
        return init_settings, env_settings, toml


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings once.

    Args:
        config: a TOML file; unset: the one that IMAGEWARDEN_CONFIG names, if any.
        overrides: settings from the command line; None values are left out.

    Raises:
        SettingsError: a file is missing, or a value is wrong or unknown.
    """
    if config is None and os.environ.get(CONFIG_VARIABLE):
        config = Path(os.environ[CONFIG_VARIABLE])
    if config is not None and not config.is_file():
        raise SettingsError(f"no settings file {config}")
    bound = type("BoundSettings", (Settings,), {"toml_path": config})
    try:
        settings: Settings = bound(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in problem['loc']) or 'settings'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise SettingsError("; ".join(lines)) from error
    except ValueError as error:
        raise SettingsError(f"{config}: {error}") from error
    return settings
