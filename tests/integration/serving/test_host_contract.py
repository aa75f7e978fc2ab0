"""The embedded host, as a process, through the official stubs: tensorflow_model_server's contract, error by error."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests.support.processes import Host, start_host

pytestmark = pytest.mark.model

DEPLOY = Path(__file__).resolve().parents[3] / "serving" / "deploy"


class Stubs:
    """The official stubs over one channel, with the requests that tests make."""

    def __init__(self, address: str) -> None:
        import tensorflow as tf
        from tensorflow_serving.apis import (
            get_model_metadata_pb2,
            get_model_status_pb2,
            model_service_pb2_grpc,
            predict_pb2,
            prediction_service_pb2_grpc,
        )

        self.tf = tf
        self.channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)])
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.predict_request = predict_pb2.PredictRequest
        self.metadata_request = get_model_metadata_pb2.GetModelMetadataRequest
        self.status_request = get_model_status_pb2.GetModelStatusRequest

    def request(self, count: int = 1, outputs: tuple[str, ...] = ("embedding",)) -> Any:
        made = self.predict_request(output_filter=outputs)
        made.model_spec.name = "inception"
        made.inputs["images"].CopyFrom(self.tf.make_tensor_proto(pictures(count)))
        return made

    def status(self) -> dict[int, int]:
        asked = self.status_request()
        asked.model_spec.name = "inception"
        answer = self.model.GetModelStatus(asked, timeout=10)
        return {one.version: one.state for one in answer.model_version_status}


def pictures(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, 299, 299, 3), np.uint8)


@pytest.fixture(scope="module")
def stubs(host: Host) -> Iterator[Stubs]:
    made = Stubs(host.address)
    yield made
    made.channel.close()


def refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code(), error.details()


def test_a_prediction_names_what_answered(stubs: Stubs) -> None:
    answer = stubs.prediction.Predict(stubs.request(3, ("embedding", "semantic")), timeout=60)
    assert (answer.model_spec.name, answer.model_spec.signature_name) == ("inception", "serving_default")
    assert answer.model_spec.version.value >= 1
    assert set(answer.outputs) == {"embedding", "semantic"}
    vectors = stubs.tf.make_ndarray(answer.outputs["embedding"])
    assert vectors.shape[0] == 3
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    everything = stubs.request()
    del everything.output_filter[:]
    outputs = {"embedding", "regions", "logos", "semantic", "last_pool", "nsfw"}
    assert set(stubs.prediction.Predict(everything, timeout=60).outputs) == outputs


def no_spec(request: Any, _: Any) -> None:
    request.ClearField("model_spec")


def no_name(request: Any, _: Any) -> None:
    request.model_spec.name = ""
    request.model_spec.version.value = 1


def unknown_model(request: Any, _: Any) -> None:
    request.model_spec.name = "nobody"


def unknown_version(request: Any, _: Any) -> None:
    request.model_spec.version.value = 7_777


def unknown_label(request: Any, _: Any) -> None:
    request.model_spec.version_label = "canary"


def unknown_signature(request: Any, _: Any) -> None:
    request.model_spec.signature_name = "other"


def no_inputs(request: Any, _: Any) -> None:
    request.inputs.clear()


def malformed(request: Any, _: Any) -> None:
    request.inputs["images"].tensor_content = b"short"


def unknown_output(request: Any, _: Any) -> None:
    request.output_filter.append("nothing")


def repeated_output(request: Any, _: Any) -> None:
    request.output_filter.append("embedding")


def wrong_dtype(request: Any, tf: Any) -> None:
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(pictures(1).astype(np.float32)))


INVALID, MISSING, PRECONDITION = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)


@pytest.mark.parametrize(
    ("change", "code", "begins"),
    [
        (no_spec, INVALID, "Missing ModelSpec"),
        (no_name, INVALID, "ModelSpec has no name specified."),
        (unknown_model, MISSING, "Servable not found for request: Latest(nobody)"),
        (unknown_version, MISSING, "Servable not found for request: Specific(inception, 7777)"),
        (unknown_label, INVALID, "Unrecognized servable version label: canary"),
        (unknown_signature, PRECONDITION, 'Serving signature key "other" not found.'),
        (no_inputs, INVALID, "input size does not match signature: 0!=1"),
        (malformed, INVALID, "tensor parsing error: images"),
        (unknown_output, INVALID, "output tensor alias not found in signature: nothing"),
        (repeated_output, INVALID, "duplicate output tensor alias: embedding"),
        (wrong_dtype, INVALID, "Expects arg[0] to be uint8 but float is provided"),
    ],
)
def test_each_error_is_the_real_servers(
    stubs: Stubs, change: Callable[[Any, Any], None], code: grpc.StatusCode, begins: str
) -> None:
    request = stubs.request()
    change(request, stubs.tf)
    found, message = refused(lambda: stubs.prediction.Predict(request, timeout=30))
    assert found is code
    assert message.startswith(begins)
    assert len(message) <= 1_024


def test_a_deadline_is_kept(stubs: Stubs) -> None:
    code, _ = refused(lambda: stubs.prediction.Predict(stubs.request(32, ("semantic",)), timeout=0.05))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_batched_callers_get_their_own_answers(stubs: Stubs) -> None:
    def one(seed: int) -> Any:
        request = stubs.request()
        request.inputs["images"].CopyFrom(stubs.tf.make_tensor_proto(pictures(1, seed)))
        return stubs.tf.make_ndarray(stubs.prediction.Predict(request, timeout=60).outputs["embedding"])[0]

    alone = [one(seed) for seed in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(one, range(8)))
    for mine, batched in zip(alone, together, strict=True):
        assert float(mine @ batched) > 0.9999


def test_metadata_and_status(stubs: Stubs) -> None:
    request = stubs.metadata_request(metadata_field=["signature_def"])
    request.model_spec.name = "inception"
    answer = stubs.prediction.GetModelMetadata(request, timeout=10)
    assert "signature_def" in answer.metadata
    for fields in ([], ["other"]):
        wrong = stubs.metadata_request(metadata_field=fields)
        wrong.model_spec.name = "inception"
        assert refused(lambda wrong=wrong: stubs.prediction.GetModelMetadata(wrong, timeout=10))[0] is INVALID  # type: ignore[misc]  # bound now
    assert set(stubs.status().values()) == {30}
    unknown = stubs.status_request()
    unknown.model_spec.name = "nobody"
    assert refused(lambda: stubs.model.GetModelStatus(unknown, timeout=10))[0] is MISSING


def test_a_new_version_comes_without_a_failed_request_and_a_broken_one_changes_nothing(
    model_base: Path, tmp_path: Path
) -> None:
    base = tmp_path / "inception"
    base.mkdir()
    source = max(model_base.glob("[0-9]*"), key=lambda path: int(path.name))
    shutil.copytree(source, base / "1")
    with start_host(base, tmp_path) as running:
        stubs = Stubs(running.address)
        failures: list[Any] = []
        versions: set[int] = set()
        stop = threading.Event()

        def call() -> None:
            while not stop.is_set():
                try:
                    answer = stubs.prediction.Predict(stubs.request(), timeout=60)
                    versions.add(answer.model_spec.version.value)
                except grpc.RpcError as error:
                    failures.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        shutil.copytree(source, base / ".2")
        (base / ".2").rename(base / "2")
        deadline = time.monotonic() + 90
        while stubs.status().get(2) != 30 and time.monotonic() < deadline:
            time.sleep(0.1)
        while stubs.status().get(1) == 30 and time.monotonic() < deadline:
            time.sleep(0.1)
        (base / ".3").mkdir()
        (base / ".3" / "saved_model.pb").write_bytes(b"broken")
        (base / ".3").rename(base / "3")
        while stubs.status().get(3) != 50 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert stubs.status()[3] == 50, "END, with its error"
        time.sleep(1)
        stop.set()
        caller.join(timeout=60)
        assert stubs.status()[2] == 30
        assert versions == {1, 2}
        assert not failures
        stubs.channel.close()


def rest(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body)
    response = connection.getresponse()
    raw = response.read().decode()
    connection.close()
    return response.status, (json.loads(raw) if raw.startswith("{") else raw)


def test_rest_metrics_and_the_real_servers_files(
    model_base: Path, photographs: dict[str, bytes], tmp_path: Path
) -> None:
    import base64

    files = ["--batching-parameters-file", str(DEPLOY / "batching_parameters.txt")]
    files += ["--monitoring-config-file", str(DEPLOY / "monitoring.config")]
    with start_host(model_base, tmp_path, "--rest-port", "-1", *files) as running:
        stubs = Stubs(running.address)
        code, message = refused(lambda: stubs.prediction.Predict(stubs.request(5), timeout=60))
        stubs.channel.close()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert message.startswith("Task size 5 is larger than maximum input batch size 4")
        port = json.loads((tmp_path / "host.json").read_text())["rest_port"]
        status, answer = rest(port, "GET", "/v1/models/inception")
        assert (status, answer["model_version_status"][0]["state"]) == (200, "AVAILABLE")
        encoded = base64.b64encode(photographs["acanthus-mollis"]).decode()
        body = {"signature_name": "encoded", "instances": [{"b64": encoded}]}
        status, answer = rest(port, "POST", "/v1/models/inception:predict", json.dumps(body).encode())
        assert status == 200, answer
        assert len(answer["predictions"]) == 1
        status, answer = rest(port, "POST", "/v1/models/nobody:predict", json.dumps(body).encode())
        assert status == 404
        assert "error" in answer
        status, answer = rest(port, "POST", "/v1/models/inception:predict", b"{not json")
        assert status == 400
        assert "error" in answer
        assert rest(port, "GET", "/v1/models/inception/metadata")[0] == 200
        status, text = rest(port, "GET", "/monitoring/prometheus/metrics")
        assert status == 200
        assert ":tensorflow:serving:request_count" in text
        assert running.terminate() == 0
