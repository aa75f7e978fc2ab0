"""Which versions of which models are loaded, and the truth about each.

The new is loaded, and warmed up, before the old is dropped; the old stays when the new cannot be loaded. Loading runs
on a thread of its own; all else on the event loop.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from imagewarden_serving.host.config import ModelConfig
from imagewarden_serving.host.errors import Code, HostError, invalid
from imagewarden_serving.host.handle import Handle
from imagewarden_serving.host.servable import Servable
from imagewarden_serving.host.versions import Fingerprint, aspired, find_versions, fingerprint

_LOG = logging.getLogger(__name__)

Loader = Callable[[str, int, Path], Servable]
"""Loads and warms up one version: model name, version, directory. It blocks, and raises HostError."""


class State(enum.IntEnum):
    """The states of a version, numbered as ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True, slots=True)
class ServableRequest:
    """A model, and one version of it by number or by label, or the newest that is available."""

    name: str
    version: int | None = None
    label: str | None = None


@dataclass(slots=True)
class VersionStatus:
    """What became of a version; `error` is why it ended."""

    state: State
    error: HostError | None = None
    failed: Fingerprint | None = None


@dataclass(slots=True)
class _Model:
    """A configured model; one that is no longer configured keeps the states of its versions."""

    config: ModelConfig | None
    statuses: dict[int, VersionStatus] = field(default_factory=dict)
    handles: dict[int, Handle] = field(default_factory=dict)
    paths: dict[int, Path] = field(default_factory=dict)
    wanted: list[int] = field(default_factory=list)
    warned: str = ""


class ModelManager:
    """Loads, finds and unloads.

    Args:
        loader: loads one version.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._models: dict[str, _Model] = {}
        self._lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="load")

    def find(self, request: ServableRequest) -> Handle:
        """The loaded version that a request means.

        Raises:
            HostError: NOT_FOUND, or INVALID_ARGUMENT for an unknown label.
        """
        model = self._models.get(request.name)
        version = self.resolve(request)
        handles = model.handles if model is not None else {}
        if version is None:
            if not handles:
                raise HostError(Code.NOT_FOUND, f"Servable not found for request: Latest({request.name})")
            return handles[max(handles)]
        if version not in handles:
            raise HostError(Code.NOT_FOUND, f"Servable not found for request: Specific({request.name}, {version})")
        return handles[version]

    def resolve(self, request: ServableRequest) -> int | None:
        """The version number that a request names, by number or by label.

        Raises:
            HostError: INVALID_ARGUMENT for an unknown label.
        """
        if request.label is None:
            return request.version
        model = self._models.get(request.name)
        labels = model.config.labels if model is not None and model.config is not None else {}
        if request.label not in labels:
            raise invalid(f"Unrecognized servable version label: {request.label}")
        return labels[request.label]

    def configured(self, name: str) -> bool:
        """Whether a model of this name is to be served."""
        model = self._models.get(name)
        return model is not None and model.config is not None

    def statuses(self, request: ServableRequest) -> Mapping[int, VersionStatus]:
        """The states of a model's versions, or of the one asked for.

        Raises:
            HostError: NOT_FOUND for a model or a version that was never seen.
        """
        model = self._models.get(request.name)
        known = model.statuses if model is not None else {}
        version = self.resolve(request)
        if version is not None:
            if version not in known:
                raise HostError(Code.NOT_FOUND, f"Could not find version {version} of model {request.name}")
            return {version: known[version]}
        if not known:
            raise HostError(Code.NOT_FOUND, f"Could not find any versions of model {request.name}")
        return dict(sorted(known.items()))

    def available(self) -> dict[str, list[int]]:
        """The versions that serve, by model."""
        return {name: sorted(model.handles) for name, model in self._models.items() if model.handles}

    async def apply(self, configs: Sequence[ModelConfig]) -> None:
        """Serve these models and no others; returns once each is available.

        What can be known beforehand is checked before anything changes.

        Raises:
            HostError: INVALID_ARGUMENT for a base path without versions, FAILED_PRECONDITION for a label of a version
                that is not there, UNKNOWN when a model did not become available.
        """
        async with self._lock:
            for config in configs:
                await self._check(config)
            wanted = {config.name: config for config in configs}
            for name in [*self._models, *wanted]:
                self._models.setdefault(name, _Model(None)).config = wanted.get(name)
            for name in list(wanted):
                await self._reconcile(name)
            for name in self._models.keys() - wanted.keys():
                await self._reconcile(name)
            self._check_available(configs)

    async def poll(self) -> None:
        """Look at the disk once: load what is new, drop what is not wanted any more."""
        async with self._lock:
            for name in list(self._models):
                await self._reconcile(name)

    async def poll_every(self, seconds: float) -> None:
        """Look at the disk again and again."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.poll()
            except Exception:  # noqa: BLE001 -- whatever a poll meets, the next one must come
                _LOG.exception("polling the model directories failed")

    async def close(self) -> None:
        """Unload everything."""
        async with self._lock:
            for model in self._models.values():
                model.config = None
            for name in list(self._models):
                await self._reconcile(name)
        self._thread.shutdown()

    async def _check(self, config: ModelConfig) -> None:
        """Refuse what cannot be served."""
        try:
            found = await asyncio.to_thread(find_versions, config.base_path)
        except OSError as error:
            raise invalid(f"Could not find base path {config.base_path} for servable {config.name}") from error
        wanted = aspired(config.policy, found)
        if not wanted:
            what = f"one of the versions {sorted(config.policy.versions)}" if config.policy.versions else "a version"
            raise invalid(
                f"No versions of servable {config.name} found under base path {config.base_path}: it needs {what}, "
                "a directory such as 1/ with a saved_model.pb"
            )
        for version in config.labels.values():
            if version not in wanted:
                raise _label_error(config.name, version)

    def _check_available(self, configs: Sequence[ModelConfig]) -> None:
        """Each model serves its newest wanted version, and each label names a version that serves."""
        missing: list[str] = []
        for config in configs:
            model = self._models[config.name]
            newest = max(model.wanted, default=0)
            if newest not in model.handles or model.statuses[newest].error is not None:
                missing.append(f"{config.name} version {newest}: {model.statuses[newest].error}")
        if missing:
            raise HostError(Code.UNKNOWN, f"Some models did not become available: {{{', '.join(missing)}}}")
        for config in configs:
            for version in config.labels.values():
                if version not in self._models[config.name].handles:
                    raise _label_error(config.name, version)

    async def _reconcile(self, name: str) -> None:
        model = self._models[name]
        paths, wanted = await self._wanted(name, model)
        if wanted is None:
            return
        model.wanted = wanted
        fresh: list[int] = []
        for version in wanted:
            status = model.statuses.get(version)
            if version in model.handles and model.paths[version] == paths[version]:
                continue
            if status is not None and status.failed is not None:
                now = await asyncio.to_thread(fingerprint, paths[version])
                if now == status.failed:
                    continue
            fresh.append(version)
            if version not in model.handles:
                model.statuses[version] = VersionStatus(State.START)
        for version in fresh:
            await self._load(name, version, paths[version])
        # Nothing is dropped before something that is wanted serves.
        if model.config is None or any(version in model.handles for version in wanted):
            for version in sorted(set(model.handles) - set(wanted)):
                await self._unload(name, version)

    async def _wanted(self, name: str, model: _Model) -> tuple[dict[int, Path], list[int] | None]:
        """The version directories and those of them to serve; None leaves all as it is."""
        if model.config is None:
            return {}, []
        try:
            found = await asyncio.to_thread(find_versions, model.config.base_path)
            wanted = aspired(model.config.policy, found)
            problem = "" if wanted else f"no version to serve under {model.config.base_path}"
        except OSError as error:
            found, wanted, problem = {}, [], f"{model.config.base_path} cannot be read: {error.strerror}"
        if problem != model.warned:
            model.warned = problem
            if problem:
                _LOG.warning("model %s: %s; what is loaded stays", name, problem)
        return found, (None if problem else wanted)

    async def _load(self, name: str, version: int, path: Path) -> None:
        """Load one version; one of the same number from another base path serves until then."""
        model = self._models[name]
        old = model.handles.get(version)
        status = VersionStatus(State.LOADING)
        if old is None:
            model.statuses[version] = status
        before = await asyncio.to_thread(fingerprint, path)
        begin = time.perf_counter()
        loop = asyncio.get_running_loop()
        try:
            servable = await loop.run_in_executor(self._thread, self._loader, name, version, path)
        except HostError as error:
            status.error = error
            _LOG.error("model %s version %d did not load: %s", name, version, error.message)
        except Exception:  # noqa: BLE001 -- the state must tell the truth whatever a loader raises
            status.error = HostError(Code.INTERNAL, f"loading {path} failed; the host's log says why")
            _LOG.exception("model %s version %d did not load", name, version)
        else:
            model.handles[version] = Handle(servable)
            model.paths[version] = path
            model.statuses[version] = VersionStatus(State.AVAILABLE)
            _LOG.info("model %s version %d is available after %.1f s", name, version, time.perf_counter() - begin)
            if old is not None:
                await self._close(old)
            return
        status.failed = before
        status.state = State.END if old is None else State.AVAILABLE
        model.statuses[version] = status
        if model.handles:
            _LOG.warning("model %s: versions %s go on serving", name, sorted(model.handles))

    async def _unload(self, name: str, version: int) -> None:
        model = self._models[name]
        model.statuses[version] = VersionStatus(State.UNLOADING)
        handle = model.handles.pop(version)
        await self._close(handle)
        model.statuses[version] = VersionStatus(State.END)
        _LOG.info("model %s version %d is unloaded", name, version)

    async def _close(self, handle: Handle) -> None:
        await handle.idle()
        await asyncio.get_running_loop().run_in_executor(self._thread, handle.servable.close)


def _label_error(name: str, version: int) -> HostError:
    return HostError(
        Code.FAILED_PRECONDITION,
        f"Request to assign label to version {version} of model {name}, which is not currently available for inference",
    )
