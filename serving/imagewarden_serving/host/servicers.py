"""gRPC to the host and back: PredictionService and ModelService of tensorflow-serving-api."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import Any, NoReturn

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
)

from imagewarden_serving.host.config import model_configs
from imagewarden_serving.host.errors import Code, HostError, invalid
from imagewarden_serving.host.manager import ModelManager, ServableRequest
from imagewarden_serving.host.metrics import UNKNOWN_MODEL, Metrics
from imagewarden_serving.host.predict import Prediction, Predictor, proto_inputs
from imagewarden_serving.host.servable import SavedModelServable
from imagewarden_serving.host.tensors import encode

_LOG = logging.getLogger(__name__)
_STATUS = {code.value[0]: code for code in grpc.StatusCode}
_Context = grpc.aio.ServicerContext[Any, Any]


async def _abort(context: _Context, error: HostError) -> NoReturn:
    await context.abort(_STATUS[int(error.code)], error.message)


async def _answer(context: _Context, method: str, work: Awaitable[Any]) -> Any:
    """Wait for the answer; an error becomes its status, and a bug a plain INTERNAL."""
    try:
        return await work
    except HostError as error:
        await _abort(context, error)
    except Exception:  # noqa: BLE001 -- a bug must not leak its insides to the caller; the log has them
        _LOG.exception("%s failed", method)
        await _abort(context, HostError(Code.INTERNAL, f"{method} failed; the host's log says why"))


def servable_request(message: Any) -> ServableRequest:
    """The model that a request with a model_spec means.

    Raises:
        HostError: INVALID_ARGUMENT for a model_spec that is missing or has no name.
    """
    if not message.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec = message.model_spec
    if not spec.name:
        raise invalid("ModelSpec has no name specified.")
    match spec.WhichOneof("version_choice"):
        case "version":
            return ServableRequest(spec.name, version=spec.version.value)
        case "version_label":
            return ServableRequest(spec.name, label=spec.version_label)
        case _:
            return ServableRequest(spec.name)


def predict_response(prediction: Prediction) -> Any:
    """The PredictResponse: tensors as tensor_content, and the version that answered."""
    response = predict_pb2.PredictResponse()
    response.model_spec.name = prediction.name
    response.model_spec.signature_name = prediction.signature.name
    response.model_spec.version.value = prediction.version
    for alias, array in prediction.outputs.items():
        encode(array, prediction.signature.outputs[alias].dtype, response.outputs[alias])
    return response


def status_response(manager: ModelManager, request: ServableRequest) -> Any:
    """The GetModelStatusResponse.

    Raises:
        HostError: NOT_FOUND.
    """
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, status in manager.statuses(request).items():
        entry = response.model_version_status.add()
        entry.version = version
        entry.state = int(status.state)
        entry.status.error_code = int(status.error.code) if status.error else 0
        entry.status.error_message = status.error.message if status.error else ""
    return response


def metadata_response(manager: ModelManager, request: ServableRequest) -> Any:
    """The GetModelMetadataResponse with the signatures.

    Raises:
        HostError: NOT_FOUND.
    """
    servable = manager.find(request).servable
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    signatures = get_model_metadata_pb2.SignatureDefMap()
    if isinstance(servable, SavedModelServable):
        for key, definition in servable.signature_defs.items():
            signatures.signature_def[key].CopyFrom(definition)
    response.metadata["signature_def"].Pack(signatures)
    return response


class PredictionServicer:
    """Predict and GetModelMetadata; the calls on tensorflow.Example are not offered, and say so."""

    def __init__(self, manager: ModelManager, predictor: Predictor, metrics: Metrics) -> None:
        self._manager = manager
        self._predictor = predictor
        self._metrics = metrics

    async def Predict(self, request: Any, context: _Context) -> Any:  # noqa: N802 - the service's name for it
        """Run a signature."""
        return await _answer(context, "Predict", self._predict(request, context))

    async def _predict(self, request: Any, context: _Context) -> Any:
        begin = time.perf_counter()
        remaining: float | None = context.time_remaining()  # the stubs do not know that there may be none
        deadline = None if remaining is None else asyncio.get_running_loop().time() + remaining
        code = Code.UNKNOWN
        try:
            prediction = await self._predictor.predict(
                servable_request(request),
                request.model_spec.signature_name,
                list(request.output_filter),
                proto_inputs(request.inputs),
                deadline,
            )
            code = Code.OK
            return predict_response(prediction)
        except HostError as error:
            code = error.code
            raise
        except asyncio.CancelledError:
            code = Code.CANCELLED
            raise
        finally:
            record(self._metrics, self._manager, request.model_spec.name, "GRPC", code, time.perf_counter() - begin)

    async def GetModelMetadata(self, request: Any, context: _Context) -> Any:  # noqa: N802 - the service's name for it
        """The signatures of a version."""
        return await _answer(context, "GetModelMetadata", self._metadata(request))

    async def _metadata(self, request: Any) -> Any:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != "signature_def":
                raise invalid(f"Metadata field {name} is not supported")
        return metadata_response(self._manager, servable_request(request))

    async def Classify(self, request: Any, context: _Context) -> Any:  # noqa: N802, ARG002 - the service's signature
        """Not offered."""
        await _abort(context, _not_offered("Classify"))

    async def Regress(self, request: Any, context: _Context) -> Any:  # noqa: N802, ARG002 - the service's signature
        """Not offered."""
        await _abort(context, _not_offered("Regress"))

    async def MultiInference(self, request: Any, context: _Context) -> Any:  # noqa: N802, ARG002 - the service's signature
        """Not offered."""
        await _abort(context, _not_offered("MultiInference"))


class ModelServicer:
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    async def GetModelStatus(self, request: Any, context: _Context) -> Any:  # noqa: N802 - the service's name for it
        """The state of each version."""
        return await _answer(context, "GetModelStatus", self._status(request))

    async def _status(self, request: Any) -> Any:
        return status_response(self._manager, servable_request(request))

    async def HandleReloadConfigRequest(  # noqa: N802 - the service's name for it
        self, request: Any, context: _Context
    ) -> Any:
        """Replace the list of models; answered when the new ones are available."""
        return await _answer(context, "HandleReloadConfigRequest", self._reload(request))

    async def _reload(self, request: Any) -> Any:
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        configs = model_configs(request.config.model_config_list)
        # A caller that goes away leaves no half-applied list.
        await asyncio.shield(asyncio.ensure_future(self._manager.apply(configs)))
        response = model_management_pb2.ReloadConfigResponse()
        response.status.error_code = 0
        return response


def record(metrics: Metrics, manager: ModelManager, name: str, entrypoint: str, code: Code, seconds: float) -> None:
    """Count one Predict."""
    label = name if manager.configured(name) else UNKNOWN_MODEL
    metrics.request_count.add(label, code.name)
    metrics.request_latency.observe(seconds * 1e6, label, "Predict", entrypoint)


def _not_offered(method: str) -> HostError:
    return HostError(Code.UNIMPLEMENTED, f"{method} is not offered by the embedded host: call Predict")
