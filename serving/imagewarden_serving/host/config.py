"""The real server's text files, read and checked: models.config, batching_parameters.txt, monitoring.config."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from imagewarden_serving.host.errors import ConfigError, HostError, invalid
from imagewarden_serving.host.protos import BatchingParametersMessage, MonitoringConfigMessage

DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"
_FILE_LIMIT = 4 * 2**20
_MAX_THREADS = 256


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which versions on disk are to be served.

    Attributes:
        kind: the newest ones, all of them, or the listed ones.
        num_versions: for "latest", how many.
        versions: for "specific", which.
    """

    kind: Literal["latest", "all", "specific"] = "latest"
    num_versions: int = 1
    versions: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model to serve: its name, the absolute directory of its versions, its policy, its labels."""

    name: str
    base_path: Path
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchingParameters:
    """How requests are joined. The defaults are what tensorflow_model_server takes where its file is silent.

    Attributes:
        max_batch_size: rows of one run.
        batch_timeout_micros: how long a batch that is not full waits for others; 0 runs it once a thread is free.
        max_enqueued_batches: full batches that may wait for a thread in each queue.
        num_batch_threads: runs at a time.
        thread_pool_name: a label of the metrics.
        allowed_batch_sizes: a batch is padded to the next of these; empty allows any size.
        refuse_oversize: whether a request over max_batch_size is refused, or runs alone.
    """

    max_batch_size: int = 1_000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    refuse_oversize: bool = True


DEFAULT_BATCHING = BatchingParameters(
    max_batch_size=4, max_enqueued_batches=64, num_batch_threads=1, refuse_oversize=False
)
"""Without a file: one run at a time has all cores, the next batch forms meanwhile, and no request is too large.

Four pictures a run take the least time a picture on processors: 32 take a third more, since what a layer makes of them
no longer fits into the cache, and keep whoever comes meanwhile waiting for seconds.
"""


@dataclass(frozen=True, slots=True)
class MonitoringConfig:
    """Where Prometheus reads; None switches it off."""

    path: str | None = DEFAULT_METRICS_PATH


def read_model_config(path: Path) -> list[ModelConfig]:
    """Read a ModelServerConfig text file.

    Raises:
        ConfigError: the file cannot be read, or says something that the host does not offer.
    """
    message = model_server_config_pb2.ModelServerConfig()
    _parse(path, message)
    if message.WhichOneof("config") != "model_config_list":
        raise ConfigError(f"{path}: needs a model_config_list")
    try:
        return model_configs(message.model_config_list)
    except HostError as error:
        raise ConfigError(f"{path}: {error}") from error


def model_configs(config_list: Any) -> list[ModelConfig]:
    """Check a ModelConfigList message and turn it into the host's types.

    Raises:
        HostError: INVALID_ARGUMENT as the real server says it.
    """
    configs = [_model_config(config) for config in config_list.config]
    seen: set[str] = set()
    for config in configs:
        if config.name in seen:
            raise invalid(f"Illegal to list model {config.name} multiple times in config list")
        seen.add(config.name)
    return configs


def _model_config(message: Any) -> ModelConfig:
    if not message.name:
        raise invalid("Every model of the config list needs a name")
    if message.model_type and message.model_platform:
        raise invalid(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."
        )
    if not message.model_type and not message.model_platform:
        raise invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform."
        )
    if message.model_type not in {0, 1} or message.model_platform not in {"", "tensorflow"}:
        raise invalid(f'Model {message.name}: the only model_platform served is "tensorflow"')
    base_path = PurePosixPath(message.base_path)
    if not base_path.is_absolute():
        raise invalid(
            f"Expected model {message.name} to have an absolute path or URI; got base_path()={message.base_path}"
        )
    return ModelConfig(
        message.name, Path(base_path), _policy(message), {str(k): int(v) for k, v in message.version_labels.items()}
    )


def _policy(message: Any) -> VersionPolicy:
    policy = message.model_version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return VersionPolicy("all")
        case "specific":
            if not policy.specific.versions:
                raise invalid(f"Model {message.name}: a specific version policy needs at least one version")
            return VersionPolicy("specific", versions=frozenset(policy.specific.versions))
        case "latest":
            # The real server reads an unset num_versions as 1.
            return VersionPolicy("latest", num_versions=max(1, policy.latest.num_versions))
        case _:
            return VersionPolicy()


def read_batching_parameters(path: Path) -> BatchingParameters:
    """Read a BatchingParameters text file.

    Raises:
        ConfigError: the file cannot be read, or has a value out of range.
    """
    message: Any = BatchingParametersMessage()
    _parse(path, message)
    defaults = BatchingParameters()
    values: dict[str, Any] = {}
    for name, low in (
        ("max_batch_size", 1),
        ("batch_timeout_micros", 0),
        ("max_enqueued_batches", 1),
        ("num_batch_threads", 1),
    ):
        value = getattr(message, name).value if message.HasField(name) else getattr(defaults, name)
        if value < low:
            raise ConfigError(f"{path}: {name} must be at least {low}, was {value}")
        values[name] = value
    if values["num_batch_threads"] > _MAX_THREADS:
        raise ConfigError(
            f"{path}: num_batch_threads must be at most {_MAX_THREADS}, was {values['num_batch_threads']}"
        )
    if message.pad_variable_length_inputs:
        raise ConfigError(
            f"{path}: pad_variable_length_inputs is not offered: requests of other shapes run in batches of their own"
        )
    sizes = tuple(message.allowed_batch_sizes)
    _check_sizes(path, sizes, values["max_batch_size"])
    name = message.thread_pool_name.value if message.HasField("thread_pool_name") else defaults.thread_pool_name
    return BatchingParameters(**values, thread_pool_name=name, allowed_batch_sizes=sizes)


def _check_sizes(path: Path, sizes: Sequence[int], max_batch_size: int) -> None:
    if not sizes:
        return
    if sizes[0] < 1 or any(a >= b for a, b in pairwise(sizes)):
        raise ConfigError(f"{path}: allowed_batch_sizes must be in increasing order, were {list(sizes)}")
    if sizes[-1] != max_batch_size:
        raise ConfigError(
            f"{path}: the last of allowed_batch_sizes must equal max_batch_size ({max_batch_size}), was {sizes[-1]}"
        )


def read_monitoring_config(path: Path) -> MonitoringConfig:
    """Read a MonitoringConfig text file.

    Raises:
        ConfigError: the file cannot be read, or the path of the metrics is none.
    """
    message: Any = MonitoringConfigMessage()
    _parse(path, message)
    prometheus = message.prometheus_config
    if not prometheus.enable:
        return MonitoringConfig(None)
    metrics_path = prometheus.path or DEFAULT_METRICS_PATH
    if not metrics_path.startswith("/"):
        raise ConfigError(f"{path}: prometheus_config.path must begin with a slash, was {metrics_path!r}")
    return MonitoringConfig(metrics_path)


def _parse(path: Path, message: Any) -> None:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > _FILE_LIMIT:
        raise ConfigError(f"{path}: is over {_FILE_LIMIT} bytes")
    try:
        text_format.Parse(data, message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
