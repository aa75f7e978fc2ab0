"""The connection to a TensorFlow Serving host: its calls, and what their failures mean to a user."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from imagewarden_server.embedding import _tfs
from imagewarden_server.matching.errors import EmbeddingUnavailable

_MAX_MESSAGE = 64 * 2**20
_DETAIL = 300

_OPTIONS = [
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
    # Oftener than every 300 s earns GOAWAY too_many_pings from the real server.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_retries", 0),
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
]

_EXPORTED = "export the model with `imagewarden model export`, and let the host take batches of 4 pictures"
_HINTS = {
    grpc.StatusCode.UNAVAILABLE: "start it, or correct IMAGEWARDEN_MODEL_ADDRESS",
    grpc.StatusCode.NOT_FOUND: "load it there, or correct IMAGEWARDEN_MODEL_NAME",
    grpc.StatusCode.DEADLINE_EXCEEDED: "give the call more time, or the host more room",
    grpc.StatusCode.INVALID_ARGUMENT: _EXPORTED,
    grpc.StatusCode.FAILED_PRECONDITION: _EXPORTED,
}


class GarbledAnswer(EmbeddingUnavailable):
    """The host answered bytes that are no message."""


class NoAnswerInTime(EmbeddingUnavailable):
    """The host did not answer in the time that it had: it may be gone, or have much to do."""


class Connection:
    """A channel to a model host, opened at once and connected when it can be; needs a running event loop.

    Args:
        address: host:port, dns:///name:port, or unix:PATH.
        model_name: the model's name there.
        root_certificates: PEM roots for a host behind TLS; None: without TLS.
    """

    def __init__(self, address: str, model_name: str, root_certificates: bytes | None) -> None:
        self._address = address
        self._name = model_name
        if root_certificates is None:
            self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(root_certificates)
            self._channel = grpc.aio.secure_channel(address, credentials, options=_OPTIONS)
        self.predict = self._method(_tfs.PREDICT, _tfs.PredictResponse)
        """PredictRequest, timeout in seconds -> PredictResponse. Raises grpc.aio.AioRpcError, GarbledAnswer."""
        self.metadata = self._method(_tfs.GET_MODEL_METADATA, _tfs.GetModelMetadataResponse)
        """The same of GetModelMetadata."""
        self.status = self._method(_tfs.GET_MODEL_STATUS, _tfs.GetModelStatusResponse)
        """The same of GetModelStatus."""

    def _method(self, path: str, response: Any) -> Callable[..., Any]:
        # Answers are parsed here, since grpc.aio makes None of one that cannot be.
        multicallable: Any = self._channel.unary_unary(
            path, request_serializer=lambda message: message.SerializeToString(), response_deserializer=None
        )

        async def call(request: Any, timeout: float) -> Any:  # noqa: ASYNC109 -- it becomes the call's deadline
            data = await multicallable(request, timeout=timeout)
            if path == _tfs.PREDICT and not data:
                raise self._garbled(path, response, "there are none")
            try:
                return response.FromString(data)
            except DecodeError as error:
                raise self._garbled(path, response, str(error)) from error

        return call

    def _garbled(self, path: str, response: Any, why: str) -> GarbledAnswer:
        return GarbledAnswer(
            f"{self._address} answered {path} with bytes that are no {response.DESCRIPTOR.name} ({why}); "
            "is it a TensorFlow Serving host? correct IMAGEWARDEN_MODEL_ADDRESS"
        )

    def unavailable(self, error: grpc.aio.AioRpcError) -> EmbeddingUnavailable:
        """A failed call in the domain's words: which host, which status, what to do."""
        hint = _HINTS.get(error.code(), "look at its log")
        detail = (error.details() or "")[:_DETAIL]
        late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        return (NoAnswerInTime if late else EmbeddingUnavailable)(
            f"the model {self._name!r} at {self._address} gave no embedding ({error.code().name}: {detail}); {hint}"
        )

    async def watch(self, broke: Callable[[], None], stands: Callable[[], None]) -> None:
        """Tell, until cancelled, each time that the connection broke or stands again; have it stand where it can.

        Whatever is no arrival is told as a break: a connection may have come and gone between two looks at its state.
        """
        state = self._channel.get_state(try_to_connect=True)
        while True:
            await self._channel.wait_for_state_change(state)
            before, state = state, self._channel.get_state(try_to_connect=True)
            if before is grpc.ChannelConnectivity.READY or state is not grpc.ChannelConnectivity.READY:
                broke()
            if state is grpc.ChannelConnectivity.READY:
                stands()

    async def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        await self._channel.close()
