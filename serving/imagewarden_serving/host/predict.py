"""Predict, whichever door it came in by: checked against the signature in the real server's order, then run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagewarden_serving.host.batching import BatchScheduler
from imagewarden_serving.host.errors import Code, HostError, invalid
from imagewarden_serving.host.manager import ModelManager, ServableRequest
from imagewarden_serving.host.servable import PREDICT_METHODS, Servable, Signature
from imagewarden_serving.host.tensors import Array, MalformedTensor, check_dtype, decode

DEFAULT_SIGNATURE = "serving_default"

InputReader = Callable[[Signature], Mapping[str, Array]]
"""Reads the inputs of a request, given the signature that they are for."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request that fits its signature: what to run, with the outputs in a fixed order."""

    signature: str
    outputs: tuple[str, ...]
    inputs: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What came of a request, and the version that really answered."""

    name: str
    version: int
    signature: Signature
    outputs: Mapping[str, Array]


class Predictor:
    """Finds the version, checks the request, runs it."""

    def __init__(self, manager: ModelManager, scheduler: BatchScheduler) -> None:
        self._manager = manager
        self._scheduler = scheduler

    async def predict(
        self,
        request: ServableRequest,
        signature_name: str,
        output_filter: Sequence[str],
        inputs: InputReader,
        deadline: float | None,
    ) -> Prediction:
        """Answer one request.

        Args:
            request: the model, and which of its versions.
            signature_name: empty means serving_default.
            output_filter: the outputs to compute; empty means all.
            inputs: reads the inputs once the signature is known.
            deadline: on the event loop's clock.

        Raises:
            HostError: as tensorflow_model_server answers.
        """
        handle = self._manager.find(request)
        with handle.hold() as servable:
            call = checked_call(servable, signature_name, output_filter, inputs)
            outputs = await self._scheduler.run(handle, call.signature, call.outputs, call.inputs, deadline)
            return Prediction(servable.name, servable.version, servable.signatures[call.signature], outputs)


def checked_call(servable: Servable, signature_name: str, output_filter: Sequence[str], inputs: InputReader) -> Call:
    """Check a request against its signature.

    Raises:
        HostError: FAILED_PRECONDITION for an unknown signature, INVALID_ARGUMENT for inputs or outputs that it has not.
    """
    name = signature_name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(name)
    if signature is None:
        raise HostError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    if signature.method not in PREDICT_METHODS:
        raise HostError(
            Code.INTERNAL,
            "Expected prediction signature method_name to be one of {tensorflow/serving/predict, "
            f"tensorflow/serving/classify, tensorflow/serving/regress}}. Was: {signature.method}",
        )
    values = inputs(signature)
    outputs = _outputs(signature, output_filter)
    for index, alias in enumerate(sorted(signature.inputs)):
        check_dtype(index, values[alias], signature.inputs[alias].dtype)
    return Call(name, outputs, values)


def proto_inputs(protos: Mapping[str, Any]) -> InputReader:
    """Reads the inputs from the TensorProtos of a PredictRequest."""

    def read(signature: Signature) -> Mapping[str, Array]:
        check_names(signature, list(protos))
        values: dict[str, Array] = {}
        for alias, proto in protos.items():
            try:
                values[alias] = decode(proto)
            except MalformedTensor as error:
                raise invalid(f"tensor parsing error: {alias}: {error}") from error
        return values

    return read


def check_names(signature: Signature, sent: Sequence[str]) -> None:
    """Refuse inputs that are missing or unknown.

    Raises:
        HostError: INVALID_ARGUMENT in the real server's words.
    """
    wanted = set(signature.inputs)
    if len(sent) != len(wanted):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(wanted)} len({_set(sent)}) != "
            f"len({_set(wanted)}). Sent extra: {_set(set(sent) - wanted)}. "
            f"Missing but required: {_set(wanted - set(sent))}."
        )
    for alias in sorted(sent):
        if alias not in wanted:
            raise invalid(
                f"input tensor alias not found in signature: {alias}. Inputs expected to be in the set {_set(wanted)}."
            )


def _outputs(signature: Signature, output_filter: Sequence[str]) -> tuple[str, ...]:
    seen: set[str] = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_set(signature.outputs)}."
            )
        if alias in seen:
            raise invalid(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    # One order, so that filters that name the same outputs share a batch.
    return tuple(sorted(seen or signature.outputs))


def _set(names: Sequence[str] | set[str] | Mapping[str, Any]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
