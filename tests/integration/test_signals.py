"""What a running server does when it is told by a signal: read its settings again, and stop in order."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.support.api import UNDECIDED, Api
from tests.support.processes import Server, start_server

from imagewarden.v1 import types_pb2 as types
from imagewarden.v1.moderation_service_pb2 import CheckImageRequest
from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.state import alone

NOBODY = "127.0.0.1:1"


def eventually(true: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.05)
    return False


def logged(server: Server, event: str) -> list[dict[str, Any]]:
    lines = [line for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in map(json.loads, lines) if line["event"] == event]


def hang_up(server: Server, event: str, times: int = 1) -> dict[str, Any]:
    """SIGHUP, until the log has a line of it."""
    server.process.send_signal(signal.SIGHUP)
    assert eventually(lambda: len(logged(server, event)) >= times), server.log.read_text()[-2000:]
    return logged(server, event)[-1]


def test_settings_that_can_change_do_and_the_others_are_named(tmp_path: Path) -> None:
    settings = tmp_path / "imagewarden.toml"
    settings.write_text('on_undecided = "review"\nlog_level = "info"\n')
    environment = {"IMAGEWARDEN_CONFIG": str(settings)}
    with start_server(tmp_path / "state", NOBODY, tmp_path, environment) as running, Api(running.address) as api:
        assert api.check(b"junk").action == types.ACTION_REVIEW
        settings.write_text('on_undecided = "block"\nmax_frames = 3\nmax_concurrent_calls = 7\n')
        said = hang_up(running, "settings that need a restart")
        assert said["settings"] == ["max_concurrent_calls", "max_frames"]
        assert logged(running, "settings reread")[0]["changed"] == {"on_undecided": "block"}
        assert api.check(b"junk").action == types.ACTION_BLOCK
        for number, text in enumerate(('on_undecided = "allow"\nnonsense = 1\n', 'on_undecided = "allow"\n]['), 1):
            settings.write_text(text)
            said = hang_up(running, "settings not reread", number)
            assert said["level"] == "warning"
            assert api.check(b"junk").action == types.ACTION_BLOCK, "bad settings change nothing"
        settings.unlink()
        assert str(settings) in hang_up(running, "settings not reread", 3)["error"]
        settings.write_text('on_undecided = "allow"\nlog_level = "error"\n')
        running.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: api.check(b"junk").action == types.ACTION_ALLOW)
        lines = len(logged(running, "call"))
        api.check(b"junk")
        assert len(logged(running, "call")) == lines, "calls are no errors"
        settings.write_text('on_undecided = "allow"\n')
        running.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: bool(api.check(b"junk").action) and len(logged(running, "call")) > lines)


class Tls:
    """The files of a certificate."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"

    def issue(self, authority: trustme.CA) -> None:
        made = authority.issue_cert("127.0.0.1", "localhost")
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        self.key.write_bytes(made.private_key_pem.bytes())

    @property
    def environment(self) -> dict[str, str]:
        return {"IMAGEWARDEN_TLS_CERTIFICATE": str(self.certificate), "IMAGEWARDEN_TLS_KEY": str(self.key)}


def trusting(authority: trustme.CA) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(authority.cert_pem.bytes())


def test_a_certificate_is_changed_while_connections_stand(tmp_path: Path) -> None:
    before, after = trustme.CA(), trustme.CA()
    files = Tls(tmp_path)
    files.issue(before)
    with start_server(tmp_path / "state", NOBODY, tmp_path, files.environment) as running:
        with Api(running.address, trusting(before)) as standing:
            standing.create_bank("abuse")
            files.issue(after)
            assert hang_up(running, "settings reread")["certificate"] is True
            with Api(running.address, trusting(after)) as api:
                api.create_bank("new")
            with Api(running.address, trusting(before)) as api, pytest.raises(grpc.RpcError):
                api.create_bank("old")
            standing.create_bank("still")
        good = files.key.read_bytes()
        for number, (file, text, said) in enumerate(
            (
                (files.key, trustme.CA().issue_cert("localhost").private_key_pem.bytes(), "cannot be used"),
                (files.key, b"no key", "cannot be used"),
                (files.certificate, b"", "cannot be used"),
            ),
            1,
        ):
            held = file.read_bytes()
            file.write_bytes(text)
            assert said in hang_up(running, "settings not reread", number)["error"]
            file.write_bytes(held)
            files.key.write_bytes(good)
            with Api(running.address, trusting(after)) as api:
                api.create_bank(f"after-{number}")
        files.key.unlink()
        assert "no file" in hang_up(running, "settings not reread", 4)["error"]


def test_a_certificate_and_a_key_that_do_not_belong_together_do_not_start(tmp_path: Path) -> None:
    files = Tls(tmp_path)
    files.issue(trustme.CA())
    files.key.write_bytes(trustme.CA().issue_cert("localhost").private_key_pem.bytes())
    with (
        pytest.raises(RuntimeError, match=r"tls_certificate .* and tls_key .* cannot be used"),
        start_server(tmp_path / "state", NOBODY, tmp_path, files.environment),
    ):
        pass


def test_a_stop_tells_who_watches_ends_what_is_in_flight_and_closes_the_state(tmp_path: Path) -> None:
    state = tmp_path / "state"
    environment = {"IMAGEWARDEN_DRAIN_SECONDS": "20"}
    states: list[int] = []
    with start_server(state, NOBODY, tmp_path, environment) as running, Api(running.address) as api:
        bank = api.create_bank("abuse")
        ahead = f"{api.check(b'anything').revision.rpartition('.')[0]}.ffffff"

        def watch() -> None:
            with grpc.insecure_channel(running.address) as channel:
                stub: Any = health_pb2_grpc.HealthStub(channel)
                for answer in stub.Watch(health_pb2.HealthCheckRequest(), timeout=60):
                    states.append(answer.status)
                    if answer.status != health_pb2.HealthCheckResponse.SERVING:
                        return

        watching = threading.Thread(target=watch)
        watching.start()
        # In flight for two seconds: half of its time it waits for a change that never comes.
        waiting = api.moderation.CheckImage.future(
            CheckImageRequest(image=b"in flight", at_least_revision=ahead), timeout=4
        )
        assert eventually(lambda: states == [health_pb2.HealthCheckResponse.SERVING])
        time.sleep(0.3)
        running.process.send_signal(signal.SIGTERM)
        watching.join(timeout=10)
        assert states[-1] == health_pb2.HealthCheckResponse.NOT_SERVING
        assert not waiting.done(), "told before what is in flight has ended"
        with Api(running.address) as late, pytest.raises(grpc.RpcError) as caught:
            late.check(b"too late", timeout=5)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert waiting.result().verdict == UNDECIDED
        assert running.process.wait(timeout=30) == 0
    with alone(state):
        assert not (state / "catalog.sqlite3-wal").exists(), "what was in the log is in the file"
        catalog = SqlCatalog.open(state / "catalog.sqlite3")
        assert [one.name for one in catalog.list_banks(after=0, limit=10).items] == [bank]
        catalog.close()
