"""Who may do what, against a server process that asks for keys: no model is needed to be refused."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from tests.support.api import SHA256, Api
from tests.support.errors import fails
from tests.support.processes import Server, launch_server, start_server

import imagewarden as iw
from imagewarden.v1 import audit_service_pb2, bank_service_pb2, bank_service_pb2_grpc, moderation_service_pb2
from imagewarden.v1 import types_pb2 as types
from imagewarden_server.access import NewKey, Role, new_key
from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.interceptors import chain
from imagewarden_server.matching.load import Room
from imagewarden_server.matching.visible import Banks
from imagewarden_server.settings import load_settings
from imagewarden_server.telemetry import Metrics

KEYS = {"IMAGEWARDEN_REQUIRE_KEYS": "true"}
ROLES = ("checker", "moderator", "brand", "auditor", "admin")
DOCS = Path(__file__).parents[2] / "docs" / "access.md"

# Who may call what, said here a second time and by hand: a row that is changed in the code must be changed here too.
MAY = {
    "CheckImage": "checker moderator brand admin",
    "BatchCheckImages": "checker moderator brand admin",
    "StreamCheckImages": "checker moderator brand admin",
    "SearchSimilarImages": "checker moderator brand admin",
    "ReportMatch": "moderator brand admin",
    "CreateBank": "moderator admin",
    "GetBank": "moderator brand auditor admin",
    "ListBanks": "moderator brand auditor admin",
    "UpdateBank": "moderator brand admin",
    "DeleteBank": "admin",
    "AddHashes": "moderator admin",
    "AddImage": "moderator admin",
    "RegisterLogo": "moderator brand admin",
    "GetEntry": "moderator brand auditor admin",
    "ListEntries": "moderator brand auditor admin",
    "UpdateEntry": "moderator brand admin",
    "DeleteEntry": "moderator brand admin",
    "ImportEntries": "moderator brand admin",
    "ExportEntries": "moderator brand admin",
    "PreviewPolicy": "moderator brand admin",
    "ListAuditEvents": "auditor admin",
    "ReadAuditEvent": "auditor admin",
}


def methods() -> Iterator[Any]:
    """Every method of the API, as its descriptors have them."""
    for file in (moderation_service_pb2, bank_service_pb2, audit_service_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            yield from service.methods


def make_key(state: Path, *options: str) -> str:
    """A key, as the command line makes it."""
    done = command("create", "a test", *options, "--state-dir", str(state))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def command(*arguments: str, group: str = "key", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "imagewarden", *([group] if group else []), *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def refused(call: Callable[[], object], kind: type[iw.ImageWardenError], reason: str) -> iw.ImageWardenError:
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.reason == reason
    return caught.value


def refusals(admin: iw.Client, key: str, wanted: int) -> list[iw.AuditEvent]:
    """What a key was refused, once the audit log tells of so many refusals; they are written every few seconds."""
    deadline = time.monotonic() + 15
    while True:
        found = [one for one in admin.list_audit_events(actor=key.split("_")[1]) if one.outcome != "OK"]
        if sum(one.count for one in found) >= wanted or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


class Service:
    """A server that asks for keys, and clients of it."""

    def __init__(self, server: Server, state: Path, stack: ExitStack) -> None:
        self.server, self.state, self._stack = server, state, stack

    def client(self, key: str | None, **options: Any) -> iw.Client:
        return self._stack.enter_context(
            iw.Client(self.server.address, key=key, retry=iw.RetryPolicy(attempts=1), **options)
        )

    def key(self, *options: str) -> str:
        text = make_key(self.state, *options)
        time.sleep(1.2)  # the server reads keys twice a second
        return text


@pytest.fixture(scope="module")
def admin_key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    state = tmp_path_factory.mktemp("access") / "state"
    return state, make_key(state, "--role", "admin")


@pytest.fixture(scope="module")
def service(admin_key: tuple[Path, str]) -> Iterator[Service]:
    state, _ = admin_key
    with (
        start_server(state, f"unix:{state.parent}/nobody.sock", state.parent, KEYS) as server,
        ExitStack() as stack,
    ):
        yield Service(server, state, stack)


@pytest.fixture(scope="module")
def admin(service: Service, admin_key: tuple[Path, str]) -> iw.Client:
    client = service.client(admin_key[1])
    for bank, kind in (("abuse", "banned"), ("acme-logos", "brand"), ("acme-ads", "banned"), ("other", "banned")):
        client.create_bank(bank, kind)
    for number, bank in enumerate(("abuse", "acme-ads", "other")):
        client.add_hashes(bank, [iw.Hash(iw.SignalType.SHA256, _sha256(f"file {number}".encode()))])
    return client


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


# ------------------------------------------------------------------------------------------------ roles and methods


def test_the_table_of_this_test_has_every_method() -> None:
    assert {method.name for method in methods()} == set(MAY)


def test_each_role_tries_each_method(service: Service, admin: iw.Client) -> None:
    """An empty request: who may call is told what is wrong with it, and who may not is told that alone."""
    del admin
    keys = {role: make_key(service.state, "--role", role, "--bank", "*") for role in ROLES}
    time.sleep(1.2)
    tried = {}
    with grpc.insecure_channel(service.server.address) as channel:
        for method in methods():
            for role in ROLES:
                code = _try(channel, method, keys[role])
                assert code is not grpc.StatusCode.UNAUTHENTICATED
                tried[method.name, role] = code is not grpc.StatusCode.PERMISSION_DENIED
            assert _try(channel, method, None) is grpc.StatusCode.UNAUTHENTICATED
    assert tried == {(name, role): role in MAY[name].split() for name in MAY for role in ROLES}
    rows = ["| method | " + " | ".join(ROLES) + " |", "|---" * (len(ROLES) + 1) + "|"]
    rows += [f"| {name} | " + " | ".join("yes" if tried[name, role] else "" for role in ROLES) + " |" for name in MAY]
    assert "\n".join(rows) in DOCS.read_text(), "docs/access.md has another table:\n" + "\n".join(rows)


def _try(channel: grpc.Channel, method: Any, key: str | None) -> grpc.StatusCode:
    """The code of a call with an empty request."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    request: Message = method.input_type._concrete_class()
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    untyped: Any = channel
    try:
        if method.client_streaming:
            list(untyped.stream_stream(path)(iter([request.SerializeToString()]), timeout=20, metadata=metadata))
        else:
            untyped.unary_unary(path)(request.SerializeToString(), timeout=20, metadata=metadata)
    except grpc.RpcError as error:
        failed: Any = error
        code: grpc.StatusCode = failed.code()
        return code
    return grpc.StatusCode.OK


class Keys:
    """One admin's key."""

    def __init__(self) -> None:
        self.id, self.text, self.digest = new_key()

    def all_keys(self) -> list[Any]:
        from imagewarden_server.access import Key

        return [Key(self.id, NewKey("all", Role.ADMIN, Banks(("*",))), self.digest, datetime.now(UTC))]


async def test_a_method_that_is_added_later_is_denied_to_everybody_until_the_table_has_it() -> None:
    from imagewarden_server.access import Authority

    async def answer(request: bytes, context: Any) -> bytes:
        del context
        return request

    keys = Keys()
    noted: list[Any] = []
    authority = Authority(keys, noted.append)
    authority.refresh()
    server = grpc.aio.server(interceptors=chain(Metrics(), 10, Room(2**20), lambda: True, authority))
    handlers: dict[str, Any] = {
        name: grpc.unary_unary_rpc_method_handler(answer) for name in ("GetBank", "DropEverything")
    }
    server.add_registered_method_handlers("imagewarden.v1.BankService", handlers)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("imagewarden.v1.BankService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            metadata = (("authorization", f"Bearer {keys.text}"),)
            known: Any = channel.unary_unary("/imagewarden.v1.BankService/GetBank")
            unknown: Any = channel.unary_unary("/imagewarden.v1.BankService/DropEverything")
            assert await known(b"hello", metadata=metadata) == b"hello"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await unknown(b"", metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert [one.method for one in noted] == ["DropEverything"]
    finally:
        await server.stop(None)


def test_health_needs_no_key_and_reflection_any(service: Service, admin: iw.Client) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    del admin
    request: Any = reflection_pb2.ServerReflectionRequest
    asked = [request(list_services="")]
    with grpc.insecure_channel(service.server.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            list(reflection.ServerReflectionInfo(iter(asked), timeout=10))
        key = service.key("--role", "checker")
        metadata = (("authorization", f"Bearer {key}"),)
        (listed,) = reflection.ServerReflectionInfo(iter(asked), timeout=10, metadata=metadata)
        names = {one.name for one in listed.list_services_response.service}
        assert "imagewarden.v1.AuditService" in names


# ------------------------------------------------------------------------------------------------------------ banks


def test_a_brand_sees_and_changes_its_own_banks_only(service: Service, admin: iw.Client) -> None:
    brand = service.client(service.key("--role", "brand", "--bank", "acme-*"))
    assert [bank.name for bank in brand.list_banks()] == ["banks/acme-logos", "banks/acme-ads"]
    assert [bank.name for bank in brand.list_banks(page_size=1)] == ["banks/acme-logos", "banks/acme-ads"]
    assert brand.update_bank("acme-logos", display_name="Acme").bank.display_name == "Acme"
    refused(lambda: brand.update_bank("acme-ads", enabled=False), iw.PermissionDenied, "PERMISSION_DENIED")
    (ban,) = brand.list_entries("acme-ads")
    refused(lambda: brand.delete_entry(ban.name), iw.PermissionDenied, "PERMISSION_DENIED")
    for bank in ("other", "not-there"):
        error = refused(lambda bank=bank: brand.get_bank(bank), iw.PermissionDenied, "PERMISSION_DENIED")  # type: ignore[misc]  # bound at once
        assert error.metadata == {"bank": f"banks/{bank}"}
    for call in (
        lambda: brand.update_bank("other", enabled=False),
        lambda: list(brand.list_entries("other")),
        lambda: brand.delete_entry("other/x"),
        lambda: brand.register_logo("other", "Acme", [b"<svg/>"]),
        lambda: brand.check(b"file 2", banks=["other"]),
    ):
        refused(call, iw.PermissionDenied, "PERMISSION_DENIED")
    assert admin.get_bank("other").enabled


def test_a_brand_makes_no_bank_block_and_switches_no_quarantine_off(service: Service, admin: iw.Client) -> None:
    for bank in ("zeta-logos", "zeta-strict"):
        admin.create_bank(bank, "brand")
    admin.update_bank("zeta-strict", action="block", quarantine_flood=0)
    key = service.key("--role", "brand", "--bank", "zeta-*")
    brand = service.client(key)
    whole = bank_service_pb2.UpdateBankRequest(
        bank=types.Bank(name="banks/zeta-logos", policy=types.Policy(action=types.ACTION_BLOCK)),
        update_mask=FieldMask(paths=["policy"]),
    )
    for call, said in (
        (lambda: brand.update_bank("zeta-logos", action="block"), "policy.action to BLOCK"),
        (lambda: brand.update_bank("zeta-logos", quarantine_flood=0), "policy.quarantine_flood to 0"),
        (
            lambda: brand.update_bank("zeta-logos", quarantine_false_positives=0, enabled=False),
            "policy.quarantine_false_positives to 0",
        ),
        (lambda: brand.update_bank("zeta-strict", quarantine_false_positives=0), "false_positives to 0"),
    ):
        error = refused(call, iw.PermissionDenied, "PERMISSION_DENIED")
        assert said in error.message
        assert "ask a moderator or an admin" in error.message
    with grpc.insecure_channel(service.server.address) as channel:
        stub = bank_service_pb2_grpc.BankServiceStub(channel)
        with fails() as failure:
            stub.UpdateBank(whole, timeout=20, metadata=(("authorization", f"Bearer {key}"),))
    assert (failure.code, failure.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    kept = admin.get_bank("zeta-logos")
    assert (kept.policy.action, kept.policy.quarantine_flood, kept.enabled) == ("review", 100, True)
    assert {(one.method, one.resource, one.outcome) for one in refusals(admin, key, 5)} == {
        ("UpdateBank", f"banks/zeta-{name}", "PERMISSION_DENIED") for name in ("logos", "strict")
    }
    # What others have set stays while the brand changes the rest, and it may say it again.
    strict = brand.update_bank("zeta-strict", thresholds=[iw.Threshold(iw.SignalType.LOCAL, 20)], display_name="Zeta")
    assert (strict.bank.policy.action, strict.bank.policy.quarantine_flood) == ("block", 0)
    assert brand.update_bank("zeta-strict", action="block", enabled=False).bank.policy.action == "block"
    assert brand.update_bank("zeta-logos", action="note", quarantine_flood=50).bank.policy.action == "note"
    assert admin.update_bank("zeta-logos", action="block", quarantine_flood=0).bank.policy.action == "block"


def test_a_check_of_all_banks_is_of_all_that_the_caller_may_see(service: Service, admin: iw.Client) -> None:
    checker = service.client(service.key("--role", "checker", "--bank", "abuse", "--bank", "acme-ads"))
    everything = service.client(service.key("--role", "checker"))
    found = {}
    for number in range(3):
        data = f"file {number}".encode()
        for name, client in (("some", checker), ("all", everything)):
            found[name, number] = [match.bank for match in client.check(data).matches]
            assert found[name, number] == [match.bank for match in client.check(data).matches], "and again"
    assert [found["all", number] for number in range(3)] == [["banks/abuse"], ["banks/acme-ads"], ["banks/other"]]
    assert [found["some", number] for number in range(3)] == [["banks/abuse"], ["banks/acme-ads"], []]
    batch = checker.check_batch([b"file 1", b"file 2"])
    assert [[match.bank for match in one.matches] for one in batch] == [["banks/acme-ads"], []]  # type: ignore[union-attr]  # results all
    del admin


# ----------------------------------------------------------------------------------------------------------- limits


def test_calls_a_second_are_limited_and_told_when_to_come_back(service: Service, admin: iw.Client) -> None:
    key = service.key("--role", "checker", "--calls-per-second", "0.2")
    client = service.client(key)
    client.check(b"file 9")
    error = refused(lambda: client.check(b"file 9"), iw.ResourceExhausted, "RATE_LIMITED")
    assert error.retry_after is not None
    assert 3 < error.retry_after <= 5
    batch_key = service.key("--role", "checker", "--calls-per-second", "2")
    answers = service.client(batch_key).check_batch([b"1", b"2", b"3", b"4"])
    assert sum(isinstance(one, iw.ResourceExhausted) and one.reason == "RATE_LIMITED" for one in answers) == 2
    for limited, method, count in ((key, "CheckImage", 1), (batch_key, "BatchCheckImages", 2)):
        events = refusals(admin, limited, count)
        assert {(one.method, one.resource, one.outcome) for one in events} == {(method, "", "RATE_LIMITED")}
        assert sum(one.count for one in events) == count


def test_calls_at_once_are_limited(service: Service, admin: iw.Client) -> None:
    del admin
    key = service.key("--role", "checker", "--concurrent-calls", "1")
    client = service.client(key)
    with grpc.insecure_channel(service.server.address) as channel:
        stream: Any = channel.stream_stream("/imagewarden.v1.ModerationService/StreamCheckImages")
        waiting = _Waiting()
        shown = (("authorization", f"Bearer {key}"),)
        answers = stream(waiting, metadata=shown)
        deadline = time.monotonic() + 10
        refused_by: tuple[str, float | None] = ("", None)
        while time.monotonic() < deadline:
            try:
                client.check(b"file 9")
            except iw.ResourceExhausted as error:
                refused_by = (error.reason, error.retry_after)
                break
            if not answers.is_active():  # a check was there first, and it was the stream that was one too many
                answers = stream(waiting, metadata=shown)
            time.sleep(0.05)
        assert refused_by == ("RATE_LIMITED", 1.0), "a second call at once was let through"
        waiting.close()
        list(answers)
    client.check(b"file 9")


class _Waiting:
    """A stream's requests: none, until it is closed."""

    def __init__(self) -> None:
        import threading

        self._closed = threading.Event()

    def __iter__(self) -> _Waiting:
        return self

    def __next__(self) -> bytes:
        self._closed.wait(30)
        raise StopIteration

    def close(self) -> None:
        self._closed.set()


# ------------------------------------------------------------------------------------------------------------- keys


def test_a_key_works_and_is_refused_within_a_second_of_its_making_and_revoking(
    service: Service, admin: iw.Client
) -> None:
    del admin
    key = make_key(service.state, "--role", "checker")
    client = service.client(key)
    _until(lambda: client.check(b"x").verdict == "no_match" or True)
    done = command("revoke", key.split("_")[1], "--state-dir", str(service.state))
    assert done.returncode == 0, done.stderr
    begin = time.monotonic()
    with pytest.raises(iw.Unauthenticated):
        _forever(client, 5)
    assert time.monotonic() - begin < 2
    for wrong in (None, "iw_x", key[:-1] + ("a" if key[-1] != "a" else "b")):
        error = refused(lambda wrong=wrong: service.client(wrong).check(b"x"), iw.Unauthenticated, "UNAUTHENTICATED")  # type: ignore[misc]  # bound at once
        assert "imagewarden key create" in error.message


def _forever(client: iw.Client, seconds: float) -> None:
    """Check until it fails."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        client.check(b"x")


def _until(done: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if done():
                return
        except iw.Unauthenticated:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def test_a_stream_ends_with_the_key_that_began_it(service: Service, admin: iw.Client) -> None:
    del admin
    key = service.key("--role", "checker")

    def pictures() -> Iterator[tuple[str, bytes]]:
        yield "before", b"x"
        done = command("revoke", key.split("_")[1], "--state-dir", str(service.state))
        assert done.returncode == 0, done.stderr
        time.sleep(1.2)
        yield "after", b"y"

    answers = dict(service.client(key).check_stream(pictures()))
    assert isinstance(answers["before"], iw.CheckResult)
    assert isinstance(answers["after"], iw.Unauthenticated)


def test_an_export_ends_with_the_key_that_began_it(service: Service, admin: iw.Client) -> None:
    """Of ten messages of 4 MiB: no more is on its way than what the connection holds while nobody reads."""
    admin.create_bank("many", "banned")
    png = b"\x89PNG\r\n\x1a\n" + bytes(250_000)
    records = [
        iw.EntryRecord((iw.RecordHash(iw.SignalType.SHA256, number.to_bytes(32, "big")),), thumbnail=png)
        for number in range(160)
    ]
    assert sum(answer.added for answer in admin.import_entries("many", enumerate(records, 1))) == 160
    key = service.key("--role", "moderator", "--calls-per-second", "0.1")
    exported = service.client(key).export_entries("many")
    came = [next(exported)]
    done = command("revoke", key.split("_")[1], "--state-dir", str(service.state))
    assert done.returncode == 0, done.stderr
    time.sleep(1.2)
    with pytest.raises(iw.Unauthenticated, match="no longer good"):
        came.extend(exported)
    assert len(came) < exported.entry_count == 160
    assert {(one.method, one.outcome) for one in refusals(admin, key, 1)} == {("ExportEntries", "UNAUTHENTICATED")}
    assert len(list(admin.export_entries("many"))) == 160


def test_an_expired_key_is_refused(service: Service, admin: iw.Client) -> None:
    del admin
    id_, text, digest = new_key()
    catalog = SqlCatalog.open(service.state / "catalog.sqlite3")
    new = NewKey("short", Role.CHECKER, Banks(("*",)), expire_time=datetime.now(UTC) + timedelta(seconds=3))
    catalog.keys.add_key(id_, new, digest)
    catalog.close()
    client = service.client(text)
    _until(lambda: bool(client.check(b"x")))
    time.sleep(3)
    refused(lambda: client.check(b"x"), iw.Unauthenticated, "UNAUTHENTICATED")


def test_a_client_certificate_stands_for_a_key(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    paths = {name: tmp_path / f"{name}.pem" for name in ("certificate", "key", "roots")}
    paths["certificate"].write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    paths["key"].write_bytes(certificate.private_key_pem.bytes())
    paths["roots"].write_bytes(authority.cert_pem.bytes())
    state = tmp_path / "state"
    assert make_key(state, "--role", "checker", "--certificate", "hook.example.org") == ""
    environment = {
        **KEYS,
        "IMAGEWARDEN_TLS_CERTIFICATE": str(paths["certificate"]),
        "IMAGEWARDEN_TLS_KEY": str(paths["key"]),
        "IMAGEWARDEN_TLS_CLIENT_CA": str(paths["roots"]),
    }

    def tls(name: str) -> iw.TlsConfig:
        mine = authority.issue_cert(name)
        chain_pem = b"".join(blob.bytes() for blob in mine.cert_chain_pems)
        return iw.TlsConfig(paths["roots"], certificate=chain_pem, key=mine.private_key_pem.bytes())

    with start_server(state, f"unix:{tmp_path}/nobody.sock", tmp_path, environment) as server:
        with iw.Client(server.address, tls=tls("hook.example.org")) as client:
            assert client.check(b"x").matches == ()
            refused(lambda: client.create_bank("x", "banned"), iw.PermissionDenied, "PERMISSION_DENIED")
        with iw.Client(server.address, tls=tls("else.example.org")) as client:
            refused(lambda: client.check(b"x"), iw.Unauthenticated, "UNAUTHENTICATED")


def test_a_server_that_asks_for_keys_and_has_none_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="make one with `imagewarden key create NAME --role admin"):
        launch_server(tmp_path / "state", f"unix:{tmp_path}/nobody.sock", tmp_path, KEYS)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, ["require_keys = true", "tls_certificate and tls_key", "imagewarden key create", "127.0.0.1"]),
        (KEYS, ["tls_certificate and tls_key"]),
    ],
)
def test_other_machines_need_tls_and_keys(variables: dict[str, str], said: list[str], tmp_path: Path) -> None:
    for address in ("0.0.0.0:0", "[::]:0", "10.0.0.1:50051", "127.evil.example:1"):
        arguments = ("--listen", address, "--metrics-listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "state"))
        done = command(*arguments, group="serve", **variables)
        assert done.returncode == 2
        assert all(one in done.stderr for one in said), done.stderr
        assert not (tmp_path / "state").exists()


def test_metrics_are_open_to_other_machines_only_where_it_is_said(tmp_path: Path) -> None:
    for address in ("0.0.0.0:0", "[::]:0", "10.0.0.1:9464", "metrics.example:9464"):
        arguments = ("--listen", "127.0.0.1:0", "--metrics-listen", address, "--state-dir", str(tmp_path / "state"))
        done = command(*arguments, group="serve")
        assert done.returncode == 2
        for said in (address, "listen on 127.0.0.1", "metrics_open = true (IMAGEWARDEN_METRICS_OPEN)"):
            assert said in done.stderr
        assert not (tmp_path / "state").exists()
        assert load_settings(metrics_listen=address, metrics_open=True).metrics_listen == address
    assert not load_settings(metrics_listen="[::1]:0").metrics_open


def test_the_command_shows_a_key_once(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    made = command(
        "create", "Forum hook", "--role", "checker", "--bank", "abuse*", "--expires", "90d", "--state-dir", state
    )
    assert re.fullmatch(r"iw_[0-9a-z]{10}_[\w-]{43}\n", made.stdout)
    assert "checker of abuse*, good until" in made.stderr
    secret = made.stdout.strip()
    listed = command("list", "--state-dir", state)
    assert "Forum hook" in listed.stdout
    assert secret[-43:] not in listed.stdout
    said = json.loads(command("list", "--json", "--state-dir", state).stdout)
    assert (said["state"], said["banks"], said["role"]) == ("good", ["abuse*"], "checker")
    assert json.loads(command("revoke", said["id"], "--json", "--state-dir", state).stdout)["state"] == "revoked"
    assert "key" in json.loads(command("create", "x", "--role", "admin", "--json", "--state-dir", state).stdout)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--role", "king"], "king"),
        (["--role", "checker", "--bank", "Not A Bank"], "'Not A Bank' is no bank's name"),
        (["--role", "checker", "--expires", "soon"], "write 12h, 90d, 4w"),
        (["--role", "brand"], "name them by --bank"),
        (["--role", "checker", "--expires", "2001-01-01"], "is in the past"),
        (["--role", "checker", "--calls-per-second", "0"], "calls-per-second"),
    ],
)
def test_a_wrong_key_is_not_made(options: list[str], said: str, tmp_path: Path) -> None:
    done = command("create", "x", *options, "--state-dir", str(tmp_path))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert command("list", "--json", "--state-dir", str(tmp_path)).stdout == ""
    gone = command("revoke", "nobody", "--state-dir", str(tmp_path))
    assert (gone.returncode, "no key nobody" in gone.stderr) == (2, True)


def test_a_key_is_never_sent_over_a_network_in_the_clear() -> None:
    elsewhere = ("moderation.example:50051", "10.0.0.1:50051", "dns:///name:1", "[2001:db8::1]:1")
    for target in (*elsewhere, "127.evil.example:1", "dns://8.8.8.8/localhost:1", "localhost.evil.example:1"):
        for kind in (iw.Client, iw.AsyncClient):
            with pytest.raises(ValueError, match="in the clear"):
                kind(target, key="iw_x")
    for target in ("127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/x", "dns:///localhost:1"):
        iw.Client(target, key="iw_x").close()


# ------------------------------------------------------------------------------------------------------------ audit


def test_what_was_done_and_refused_is_told_to_auditors_only_of_their_banks(service: Service, admin: iw.Client) -> None:
    key = service.key("--role", "brand", "--bank", "acme-logos")
    refused(lambda: service.client(key).get_bank("other"), iw.PermissionDenied, "PERMISSION_DENIED")
    refused(lambda: service.client(key).delete_bank("acme-logos"), iw.PermissionDenied, "PERMISSION_DENIED")
    refused(lambda: service.client(None).get_bank("other"), iw.Unauthenticated, "UNAUTHENTICATED")
    changed = admin.update_bank("acme-logos", labels={"a": "b"})
    assert {(one.method, one.resource, one.outcome) for one in refusals(admin, key, 2)} == {
        ("GetBank", "banks/other", "PERMISSION_DENIED"),
        ("DeleteBank", "", "PERMISSION_DENIED"),
    }
    unknown = list(admin.list_audit_events(outcome="UNAUTHENTICATED", method="GetBank"))
    assert unknown
    assert unknown[0].actor == "unknown at ipv4:127.0.0.1"
    auditor = service.client(service.key("--role", "auditor", "--bank", "acme-logos"))
    seen = list(auditor.list_audit_events())
    assert {one.resource for one in seen} == {"banks/acme-logos"}
    (mine,) = [one for one in seen if one.revision == changed.revision]
    assert mine.method == "UpdateBank"
    assert mine.actor.endswith("(a test)")
    assert json.loads(mine.after)["labels"] == {"a": "b"}
    refused(lambda: list(auditor.list_audit_events(bank="other")), iw.PermissionDenied, "PERMISSION_DENIED")
    assert all(one.genuine for one in admin.list_audit_events())


def test_the_record_is_verified_from_the_service_and_from_a_file(
    service: Service, admin: iw.Client, admin_key: tuple[Path, str], tmp_path: Path
) -> None:
    del admin

    def audit(*arguments: str) -> subprocess.CompletedProcess[str]:
        return command("--server", service.server.address, "audit", *arguments, group="", IMAGEWARDEN_KEY=admin_key[1])

    whole = audit("verify")
    assert whole.returncode == 0, whole.stderr
    kept = whole.stdout.strip().rpartition(" ")[2]
    assert re.fullmatch(r"\d+:[0-9a-f]{64}", kept)
    file = tmp_path / "events.jsonl"
    exported = audit("export", str(file))
    assert exported.returncode == 0, exported.stderr
    lines = file.read_text().splitlines()
    assert f"{len(lines)} events" in exported.stderr
    assert audit("verify", str(file), "--expect", kept).returncode == 0
    listed = audit("list", "--method", "CreateBank", "--bank", "other", "--limit", "2")
    assert "banks/other" in listed.stdout
    changed = json.loads(lines[4])
    wounds = {
        "was changed": [*lines[:4], json.dumps(changed | {"actor": "somebody else"}), *lines[5:]],
        "comes 7": [*lines[:5], *lines[6:]],
        "it begins with event 2": lines[1:],
        "does not follow": [*lines[:4], json.dumps(changed | {"previous_hash": "00" * 32}), *lines[5:]],
        "was cut": lines[:3],
        "is no event": [*lines[:2], "{}"],
    }
    for said, wounded in wounds.items():
        file.write_text("\n".join(wounded) + "\n")
        broken = audit("verify", str(file), "--expect", kept)
        assert broken.returncode in {1, 2}, said
        assert said in broken.stderr


def test_a_record_that_was_changed_in_the_file_is_found(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with start_server(state, f"unix:{tmp_path}/nobody.sock", tmp_path) as server, iw.Client(server.address) as client:
        client.create_bank("abuse", "banned")
        client.create_bank("other", "banned")
        with sqlite3.connect(state / "catalog.sqlite3") as connection:
            connection.execute("DROP TRIGGER audit_events_no_UPDATE")
            connection.execute("UPDATE audit_events SET resource = 'banks/nothing' WHERE sequence = 1")
        connection.close()
        broken = command("--server", server.address, "audit", "verify", "--json", group="")
        assert broken.returncode == 1
        assert json.loads(broken.stdout)["problem"] == "event 1 was changed"


def test_events_of_any_length_are_listed_exported_and_verified(tmp_path: Path) -> None:
    """A list that changes much is one event: larger than any message, it must hide nothing that lies behind it."""
    with start_server(tmp_path / "state", f"unix:{tmp_path}/nobody.sock", tmp_path) as server:

        def audit(*arguments: str) -> subprocess.CompletedProcess[str]:
            return command("--server", server.address, "audit", *arguments, group="")

        def bring_in(api: Api, letter: str) -> None:
            request = bank_service_pb2.ImportEntriesRequest(bank="banks/abuse")
            metadata = {f"{key:0>256}": letter * 256 for key in range(64)}
            for number in range(1, 81):
                record = request.records.add(number=number, external_id=str(number), metadata=metadata)
                record.hashes.add(type=SHA256, value=bytes(32))
            (answer,) = api.banks.ImportEntries(iter([request]), timeout=30)
            assert not answer.refused

        with iw.Client(server.address) as client, Api(server.address) as api:
            client.create_bank("abuse", "banned")
            for letter in "ab":
                bring_in(api, letter)
            client.create_bank("behind", "banned")
            found = list(client.list_audit_events())
            assert [one.sequence for one in client.list_audit_events(newest_first=True)] == [4, 3, 2, 1]
            assert [bool(one.left_out) for one in found] == [False, False, True, False]
            with pytest.raises(iw.InvalidRequest, match="is 5: there is no such event"):
                list(client.read_audit_event(5))
        listed = audit("list")
        assert f"{found[2].left_out:,} bytes" in listed.stdout
        kept = f"4:{found[3].hash}"
        assert audit("verify").stdout.strip().endswith(kept)
        file = tmp_path / "events.jsonl"
        assert audit("export", str(file)).returncode == 0
        assert audit("verify", str(file), "--expect", kept).returncode == 0
        changed = json.loads(json.loads(file.read_text().splitlines()[2])["after"])["changed"]
        assert len(changed) == 80


def test_no_secret_is_in_the_log(service: Service, admin: iw.Client, admin_key: tuple[Path, str]) -> None:
    admin.get_bank("abuse")
    log = service.server.log.read_text()
    assert admin_key[1][-43:] not in log
    line = next(line for line in reversed(log.splitlines()) if '"GetBank"' in line)
    assert json.loads(line)["caller"].endswith("(a test)")
