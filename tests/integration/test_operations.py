"""What operators see: health, readiness, metrics, logs, reflection, TLS, an orderly stop."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.support.api import BANNED, MATCH, SHA256, Api
from tests.support.errors import fails
from tests.support.http import get, metrics
from tests.support.processes import Host, Server, launch_server, start_server

from imagewarden.v1.moderation_service_pb2 import CheckImageRequest

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def health(address: str, service: str) -> int:
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        stub: Any = health_pb2_grpc.HealthStub(channel)
        return int(stub.Check(request, timeout=10).status)


def test_health_is_told_to_who_watches(server_without_model: Server) -> None:
    """As gRPC clients with health checking do."""
    with grpc.insecure_channel(server_without_model.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service, state in (("", SERVING), ("imagewarden.v1.ModerationService", NOT_SERVING)):
            watching = stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert next(watching).status == state
            watching.cancel()


def test_health_without_the_model(server_without_model: Server) -> None:
    address = server_without_model.address
    assert health(address, "") == SERVING
    assert health(address, "imagewarden.v1.BankService") == SERVING
    assert health(address, "imagewarden.v1.ModerationService") == NOT_SERVING
    assert get(server_without_model.http, "/healthz")[0] == 200
    status, body = get(server_without_model.http, "/readyz")
    assert status == 503
    assert "nobody.sock" in body
    assert get(server_without_model.http, "/anything")[0] == 404


@pytest.mark.model
def test_health_and_metrics_with_the_model(server: Server, photographs: dict[str, bytes]) -> None:
    assert health(server.address, "imagewarden.v1.ModerationService") == SERVING
    assert get(server.http, "/readyz") == (200, get(server.http, "/readyz")[1])
    with Api(server.address) as api:
        bank = api.create_bank("abuse")
        api.add_image(bank, photographs["dust-bowl-home"])
        assert api.check(photographs["dust-bowl-home"]).verdict == MATCH
        api.check(photographs["nagasaki-boats"])
        api.check(b"junk")
        with fails():
            api.check(b"")

    def value(name: str, **labels: str) -> float:
        return samples[name, tuple(sorted(labels.items()))]

    call = {"grpc_type": "unary", "grpc_service": "imagewarden.v1.ModerationService", "grpc_method": "CheckImage"}
    # A call is counted when it has ended, which a caller may know before.
    deadline = time.monotonic() + 10
    samples = metrics(server)
    while value("grpc_server_handling_seconds_count", **call) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
        samples = metrics(server)
    assert value("grpc_server_handled_total", **call, grpc_code="OK") == 3
    assert value("grpc_server_handled_total", **call, grpc_code="INVALID_ARGUMENT") == 1
    assert value("grpc_server_handling_seconds_count", **call) == 4
    assert value("imagewarden_verdicts_total", verdict="match", bank_kind="banned", action="block") == 1
    assert value("imagewarden_verdicts_total", verdict="no_match", bank_kind="none", action="allow") == 1
    assert value("imagewarden_undecided_total", reason="undecodable") == 1
    assert value("imagewarden_match_score_count", signal="sha256") == 1
    assert value("imagewarden_entries", bank="abuse", bank_kind="banned") == 1
    assert value("imagewarden_catalog_revision") == value("imagewarden_index_revision") == 2
    assert value("imagewarden_index_age_seconds") == 0
    assert value("imagewarden_model_ready") == 1
    assert value("imagewarden_embedding_batch_size_count") >= 2
    assert value("imagewarden_check_stage_seconds_count", stage="embed") == 1


def test_one_line_a_call_with_the_request_id_and_never_the_picture(
    server_without_model: Server,
) -> None:
    secret = b"these bytes are a picture nobody may log"
    with Api(server_without_model.address) as api:
        answer, call = api.moderation.CheckImage.with_call(
            _check_request(secret), metadata=(("x-request-id", "my-id-7"),)
        )
        assert dict(call.trailing_metadata())["x-request-id"] == "my-id-7"
        _, call = api.moderation.CheckImage.with_call(
            _check_request(secret), metadata=(("x-request-id", "not ok; drop table"),)
        )
        assert dict(call.trailing_metadata())["x-request-id"] != "not ok; drop table"
    log = server_without_model.log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if '"my-id-7"' in line]
    assert len(lines) == 1
    assert lines[0]["sha256"] == answer.image.sha256
    assert (lines[0]["method"], lines[0]["code"], lines[0]["verdict"]) == ("CheckImage", "OK", "undecided")
    assert "nobody may log" not in log


def _check_request(image: bytes) -> CheckImageRequest:
    return CheckImageRequest(image=image, context={"upload": "42"})


def test_a_stranger_calls_through_reflection_alone(server_without_model: Server) -> None:
    """What grpcurl does: ask for the service's files, build the messages from them, call."""
    with grpc.insecure_channel(server_without_model.address) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)

        def ask(**request: Any) -> Any:
            answers = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**request)]), timeout=10)
            return next(iter(answers))

        services = {one.name for one in ask(list_services="").list_services_response.service}
        assert {"imagewarden.v1.ModerationService", "imagewarden.v1.BankService", "grpc.health.v1.Health"} <= services
        pool = descriptor_pool.DescriptorPool()
        files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
        waiting = ["imagewarden.v1.BankService"]
        answer = ask(file_containing_symbol=waiting.pop())
        todo = list(answer.file_descriptor_response.file_descriptor_proto)
        while todo:
            file = descriptor_pb2.FileDescriptorProto.FromString(todo.pop())
            if file.name not in files:
                files[file.name] = file
                for dependency in file.dependency:
                    found = ask(file_by_filename=dependency)
                    todo += found.file_descriptor_response.file_descriptor_proto

        def add(name: str) -> None:
            for dependency in files[name].dependency:
                add(dependency)
            pool.Add(files[name])

        for name in files:
            add(name)
        method = pool.FindServiceByName("imagewarden.v1.BankService").FindMethodByName("ListBanks")
        request_class = message_factory.GetMessageClass(method.input_type)
        response_class = message_factory.GetMessageClass(method.output_type)
        call = channel.unary_unary(
            "/imagewarden.v1.BankService/ListBanks",
            request_serializer=request_class.SerializeToString,
            response_deserializer=response_class.FromString,
        )
        assert call(request_class(page_size=1), timeout=10).DESCRIPTOR.full_name == "imagewarden.v1.ListBanksResponse"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def test_tls_and_mutual_tls(authority: trustme.CA, tmp_path: Path) -> None:
    server_certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate, key, roots = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in server_certificate.cert_chain_pems))
    key.write_bytes(server_certificate.private_key_pem.bytes())
    roots.write_bytes(authority.cert_pem.bytes())
    environment = {
        "IMAGEWARDEN_TLS_CERTIFICATE": str(certificate),
        "IMAGEWARDEN_TLS_KEY": str(key),
        "IMAGEWARDEN_TLS_CLIENT_CA": str(roots),
    }
    mine = authority.issue_cert("hook@example.org")
    mutual = grpc.ssl_channel_credentials(
        roots.read_bytes(), mine.private_key_pem.bytes(), mine.cert_chain_pems[0].bytes()
    )
    with start_server(tmp_path / "state", f"unix:{tmp_path}/nobody.sock", tmp_path, environment) as running:
        with Api(running.address, mutual) as api:
            api.create_bank("abuse")
        for credentials in (None, grpc.ssl_channel_credentials(roots.read_bytes())):
            with Api(running.address, credentials) as api, pytest.raises(grpc.RpcError):
                api.create_bank("other")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"IMAGEWARDEN_TLS_KEY": "key.pem"}, "tls_certificate and tls_key belong together"),
        ({"IMAGEWARDEN_MAX_FRAMES": "0"}, "max_frames"),
        ({"IMAGEWARDEN_CONFIG": "/nowhere/settings.toml"}, "/nowhere/settings.toml"),
        ({"IMAGEWARDEN_LISTEN": "127.0.0.1:notaport"}, "notaport"),
    ],
)
def test_wrong_settings_are_named_and_nothing_starts(environment: dict[str, str], said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "imagewarden", "serve", "--state-dir", str(tmp_path / "state")]
    command += ["--metrics-listen", "127.0.0.1:0"]
    done = subprocess.run(
        command,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {1, 2}
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_come_from_a_file_and_the_environment_goes_before(tmp_path: Path) -> None:
    settings = tmp_path / "imagewarden.toml"
    settings.write_text('on_undecided = "block"\nmax_frames = 3\n')
    environment = {"IMAGEWARDEN_CONFIG": str(settings), "IMAGEWARDEN_MAX_FRAMES": "5"}
    with (
        start_server(tmp_path / "state", f"unix:{tmp_path}/nobody.sock", tmp_path, environment) as running,
        Api(running.address) as api,
    ):
        assert api.check(b"junk").action == 4
    settings.write_text("unknown_setting = 1\n")
    with pytest.raises(RuntimeError, match="unknown_setting"):
        launch_server(tmp_path / "state", "127.0.0.1:1", tmp_path, environment)


@pytest.mark.model
def test_a_stop_drains(host: Host, photographs: dict[str, bytes], tmp_path: Path) -> None:
    server = launch_server(tmp_path / "state", host.address, tmp_path)
    outcomes: list[str] = []

    def hammer(api: Api) -> None:
        while True:
            try:
                api.check(photographs["dust-bowl-home"])
                outcomes.append("OK")
            except grpc.RpcError as error:
                call: grpc.Call = error  # type: ignore[assignment]  # what a stub raises is both
                outcomes.append(call.code().name)
                return

    with Api(server.address) as api:
        api.create_bank("abuse", BANNED)
        callers = [threading.Thread(target=hammer, args=(api,)) for _ in range(4)]
        for caller in callers:
            caller.start()
        time.sleep(1)
        assert server.terminate() == 0
        for caller in callers:
            caller.join(timeout=30)
    assert outcomes.count("OK") > 4
    assert set(outcomes) - {"OK"} <= {"UNAVAILABLE"}, "calls in flight end well; later ones are told where to go"


def test_the_server_process_has_no_tensorflow() -> None:
    code = (
        "import sys, imagewarden_server.app, imagewarden_server.cli;"
        "sys.exit(any(name.split('.')[0] in {'tensorflow', 'keras', 'tensorflow_serving'} for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_a_revision_that_never_comes_is_undecided(server_without_model: Server) -> None:
    with Api(server_without_model.address) as api:
        token = api.check(b"anything").revision
        ahead = f"{token.rpartition('.')[0]}.ffffff"
        began = time.monotonic()
        answer = api.check(b"anything", timeout=1.0, at_least_revision=ahead)
        assert time.monotonic() - began < 1.0
        assert 6 in {one.code for one in answer.undecided_reasons}
        bank = "banks/behind"
        api.create_bank("behind")
        api.add_hash(bank, SHA256, answer.image.sha256)
        again = api.check(b"anything", timeout=1.0, at_least_revision=ahead)
        assert again.verdict == MATCH, "a match that was found is not hidden"
